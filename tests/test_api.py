"""What ``import repro`` offers to programs and notebooks."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import repro
from tests.planted import DEMO, plant
from tests.rendered import short_table_1

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))
    plant(tmp_path / "work", seed=1, error=8.5)
    plant(tmp_path / "results" / "runs", seed=2, error=8.7)
    plant(tmp_path / "results" / "runs", seed=0, scale="demo", science=DEMO, error=53.0)


def test_runs_and_curves_are_frames_of_published_runs_ones_own_or_both() -> None:
    assert [len(repro.runs(only)) for only in (None, "own", "published")] == [3, 1, 2]
    assert set(repro.runs("own")["final.top1_error"]) == {8.5}
    curves = repro.curves("own")
    assert set(curves["seed"]) == {1} and curves["eval_error"].iloc[-1] == 8.5


def test_unknown_names_are_refused() -> None:
    for call, said in (
        (lambda: repro.runs("unpublished"), "published"),  # type: ignore[arg-type]
        (lambda: repro.curves("mine"), "own"),  # type: ignore[arg-type]
        (lambda: repro.table(6, scale="demmo"), "demo"),
        (lambda: repro.table("cifar10", scale="demo"), "leave it out"),
        (lambda: repro.figure(6, "tentn"), "tenth"),
        (lambda: repro.table("no/1"), "no/1"),
    ):
        with pytest.raises(repro.InputError, match=said):
            call()


def test_a_run_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "work" / "cifar10-x").mkdir()
    (tmp_path / "work" / "cifar10-x" / "record.json").write_text("no")
    with pytest.warns(UserWarning, match="cifar10-x"):
        assert len(repro.runs("own")) == 1


def test_a_table_is_a_frame_of_what_is_printed_or_of_numbers() -> None:
    assert "8.60 ± 0.14" in " ".join(repro.table(6).astype(str).to_numpy().ravel())
    numbers = repro.table(6, unrounded=True).set_index("method")
    assert numbers.loc["ResNet-20", "measured_mean"] == pytest.approx(8.6)
    assert len(repro.table(1)) > 3
    with short_table_1():
        assert repro.table("1").equals(repro.table(1))


def test_a_figure_is_one_of_matplotlib_that_programs_may_change() -> None:
    drawn = repro.figure(6, "demo", "published")
    assert [line.get_label() for axes in drawn.axes for line in axes.lines]
    with pytest.raises(repro.InputError, match="there is no figure 66"):
        repro.figure(66)


def test_importing_and_reading_results_need_no_torch() -> None:
    code = (
        "import sys, repro\n"
        "assert not {'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "repro.runs(), repro.table(6), repro.figure(6)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_hub_offers_load_and_names_packages_that_are_there() -> None:
    tree = ast.parse((ROOT / "hubconf.py").read_text(encoding="utf-8"))
    (dependencies,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert all(find_spec(name) for name in dependencies)
    assert "torch" in dependencies
