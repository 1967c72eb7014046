"""SVHN: files made by the test, known by their digests."""

from __future__ import annotations

import functools
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from repro.cli.main import main
from repro.config.compose import plan
from repro.data import load, svhn
from repro.data.cifar.arrays import Official
from repro.data.cifar.sources import OfficialArchive
from repro.data.svhn import fetch_svhn, open_arrays
from repro.errors import InputError
from tests.engine.test_run import go
from tests.runs import config

COUNTS = {"train": 40, "extra": 60, "test": 30}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of few images like the official ones, for which they are taken."""
    folder, random, known = tmp_path / "home", np.random.default_rng(0), {}
    folder.mkdir()
    for part, count in COUNTS.items():
        path = folder / f"{part}_32x32.mat"
        pixels = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(path, {"X": pixels, "y": (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]}, do_compression=True)
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        known[part] = (path.name, Official(path.as_uri(), md5, {}))
    monkeypatch.setattr(svhn, "official", lambda: known)
    return folder


def test_images_and_digits_are_those_of_the_files(home: Path, tmp_path: Path) -> None:
    from scipy.io import loadmat

    shutil.copytree(home, tmp_path / "data" / "svhn")
    arrays = open_arrays(tmp_path / "data")
    assert arrays["train_images"].shape == (100, 32, 32, 3) and arrays["test_images"].shape == (30, 32, 32, 3)
    assert arrays["test_labels"].tolist()[:11] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], "the files call the digit 0 10"
    extra = loadmat(home / "extra_32x32.mat")
    assert np.array_equal(arrays["train_images"][40 + 7, 3, 5], extra["X"][3, 5, :, 7])
    assert arrays["train_labels"][40 + 7] == extra["y"][7, 0]


@pytest.mark.slow
def test_a_run_trains_on_it_without_augmentation(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "data")
    words = ("data=svhn", "model.depth=8", "data.pad=0", "data.train_images=80", "data.test_images=30")
    of = config(tmp_path, *words)
    assert (of.data.flip, of.data.pad, of.data.num_classes) == (False, 0, 10)
    dataset = load(of.data, of.paths.data, may_fetch=False)
    assert (len(dataset.train), len(dataset.eval)) == (80, 30)
    record = go(of)
    assert record is not None and of.key == "svhn-resnet8-smoke"
    with pytest.raises(InputError, match=r"data\.split=train45k "):
        plan(["data=svhn", "data.split=train45k"])
    (paper,) = plan(["data=svhn", "optim=modern_sgd"]).runs
    assert paper.optim.steps == round(300 * 604_388 / 128)


def test_what_is_missing_or_altered_is_named_with_the_remedy(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(InputError, match=r"no SVHN in .*repro data fetch svhn"):
        open_arrays(root)
    shutil.copytree(home, root / "svhn")
    (root / "svhn" / "extra_32x32.mat").unlink()
    with pytest.raises(InputError, match=r"extra_32x32\.mat is missing.*repro data fetch svhn"):
        open_arrays(root)
    shutil.copy(home / "train_32x32.mat", root / "svhn" / "extra_32x32.mat")
    with pytest.raises(InputError, match=r"extra_32x32\.mat is not the official file"):
        open_arrays(root)


def test_it_is_fetched_once_and_only_as_the_files_that_are_known(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert main(["data", "fetch", "svhn", f"paths.data={root}"]) == 0
    assert {path.name for path in (root / "svhn").glob("*.mat")} == {path.name for path in home.iterdir()}
    assert main(["data", "verify", "svhn", f"paths.data={root}"]) == 0
    assert "train_images" in capsys.readouterr().out
    (home / "test_32x32.mat").write_bytes(b"another")
    sources = {
        part: OfficialArchive(known=functools.partial(svhn._official, part), file=file, retries=0, pause_s=0)
        for part, (file, _) in svhn.official().items()
    }
    with pytest.raises(InputError, match="could not be fetched"):
        fetch_svhn(tmp_path / "other", sources)


def test_torchvision_knows_the_digests() -> None:
    known = svhn.official()
    assert set(known) == {part for parts in svhn.SPLITS.values() for part in parts}
    assert all(len(one.md5) == 32 and one.url.endswith(file) for file, one in known.values())
