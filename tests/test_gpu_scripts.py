"""The scripts of tests/gpu, as far as they run without a GPU."""

from __future__ import annotations

import functools
import importlib
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from repro.config.compose import plan
from repro.errors import InputError
from tests.gpu import cifar_parts, pack_out
from tests.runs import config

SCRIPTS = Path(__file__).parent / "gpu"


def packed(folder: Path, arrays: dict[str, np.ndarray], images_in_picture: int) -> list[Path]:
    """Pack ``arrays`` into two parts inside ``folder``."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    parts = [folder / "1" / "cifar", folder / "2" / "cifar"]
    cifar_parts.pack(folder, parts, images_in_picture)
    return parts


@pytest.mark.parametrize("images_in_picture", [1, 7, cifar_parts.IMAGES_IN_PICTURE])
def test_cifar10_travels_in_two_parts_without_loss(
    tmp_path: Path, arrays: dict[str, np.ndarray], images_in_picture: int
) -> None:
    parts = packed(tmp_path, arrays, images_in_picture)
    assert all(list(part.glob("*.webp")) for part in parts)
    cifar_parts.unpack(parts, tmp_path / "data")
    for name, array in arrays.items():
        assert np.array_equal(np.load(tmp_path / "data" / "cifar10" / f"{name}.npy"), array)


def test_a_part_that_is_not_whole_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    parts = packed(tmp_path, arrays, 7)
    (parts[0] / "train_00007.webp").unlink()
    with pytest.raises(InputError, match="train_images"):
        cifar_parts.unpack(parts, tmp_path / "data")


def make_run(folder: Path, sizes: dict[str, int]) -> None:
    folder.mkdir(parents=True)
    for name, size in {"config.json": 10, **sizes}.items():
        (folder / name).write_bytes(bytes(size))


def test_finished_runs_are_packed_first_and_no_archive_is_too_large(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    out.mkdir()
    make_run(work / "a", {"step_00000001.pt": 9000, "step_00000002.pt": 9000, "curve.csv": 10, "part.pt.1.tmp": 1})
    finished = {"record.json": 10, "curve.csv": 10, "final.pt": 9000, "step_00000003.pt": 9000, "trace.json.gz": 10}
    make_run(work / "b", finished)
    make_run(work / "c", finished)
    make_run(work / "c" / "shallow" / "d", finished)

    order = [str(path.relative_to(work)) for path in pack_out.ranked(work)]
    evidence = [f"{run}/{name}" for run in "bc" for name in ("config.json", "curve.csv", "record.json")]
    assert order[:8] == [*evidence, "b/final.pt", "c/final.pt"]
    assert order[8:] == ["a/step_00000002.pt", "a/config.json", "a/curve.csv", "b/trace.json.gz", "c/trace.json.gz"]

    largest = 32000
    left = pack_out.pack(work, out, 1, largest)
    assert [path.name for path in left] == ["final.pt", "step_00000002.pt"]
    (archive,) = out.iterdir()
    assert archive.stat().st_size <= largest
    with tarfile.open(archive) as tar:
        assert set(tar.getnames()) == set(order) - {"c/final.pt", "a/step_00000002.pt"}
    assert pack_out.pack(work, out, 2, largest) == []
    assert all(archive.stat().st_size <= largest for archive in out.iterdir())


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_what_a_script_imports_is_there(script: str) -> None:
    importlib.import_module(f"tests.gpu.{script}")


def test_the_settings_and_files_that_the_shell_scripts_name_are_there(tmp_path: Path) -> None:
    text = "".join((SCRIPTS / name).read_text() for name in ("gpu.sh", "prepare.sh"))
    run = config(tmp_path)
    keys = set(re.findall(r"\b((?:model|optim|eval|execution|paths)\.\w+)=", text))
    assert {"model.depth", "execution.profile"} <= keys
    for key in keys:
        functools.reduce(getattr, key.split("."), run)
    files = set(re.findall(r"(?:tests/gpu|\$here)/(\w+\.\w+)|(tests/\w+\.py)", text))
    assert files
    for script, test in files:
        assert (SCRIPTS / script if script else SCRIPTS.parents[1] / test).is_file()


def test_every_line_of_the_plan_can_be_run() -> None:
    lines = (SCRIPTS / "plan.txt").read_text().splitlines()
    assert [len(plan(line.split()).runs) for line in lines] == [4, 4, 1]
