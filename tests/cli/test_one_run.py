"""What `repro show RUN` and `repro compare` say of finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.help_texts import COMPARE_EXAMPLES, DETECT_EXAMPLES
from repro.cli.main import main
from tests.planted import DEMO, edit, plant
from tests.planted_detectors import VGG, plant_detector
from tests.runs import configs


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))


def test_a_run_is_shown_with_its_errors_settings_curve_and_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = plant(tmp_path / "work", error=8.42, science={"optim.lr": 0.2}).name
    assert main(["show", run]) == 0
    said = capsys.readouterr().out
    for text in (run, "8.42 % (842 of 10,000 images)", "optim.lr=0.2 (the paper's recipe: 0.1)", "64,000", "repro run"):
        assert text in said
    assert "optim.momentum" not in said


def test_a_detector_is_shown_with_its_precision_and_what_differs_from_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = plant_detector(tmp_path / "work", 76.25).name
    plant_detector(tmp_path / "results" / "runs", 77.5, 1)
    assert main(["show", run]) == 0
    said = capsys.readouterr().out
    for text in (
        run,
        "76.25 % (test, 4,952 images",
        "77.50 %",
        "the paper's recipe",
        "tvmonitor",
        "repro run",
    ):
        assert text in said
    vgg = plant_detector(tmp_path / "work", 73.0, run={**VGG, "optim.lr": 0.003}).name
    assert main(["show", vgg]) == 0
    said = capsys.readouterr().out
    assert said.count("the paper's recipe:") == 1 and "optim.lr=0.003 (the paper's recipe: 0.001)" in said
    coco = plant_detector(tmp_path / "work", 48.0, recipe="coco_recipe").name
    assert main(["show", coco]) == 0
    assert "24.00 %" in (said := capsys.readouterr().out) and "AP50" in said and "the paper's recipe:" not in said
    assert main(["predict", coco, "picture.png"]) == main(["compare", coco]) == 2
    assert capsys.readouterr().err.count(f"`repro show {coco}`") == 2


def test_the_beginning_of_a_name_means_the_run_of_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = plant(tmp_path / "work").name
    assert main(["show", "cifar10-resnet20-s0"]) == 0
    plant(tmp_path / "work", science={"optim.nesterov": True})
    assert main(["show", "cifar10-resnet20-s0"]) == 0
    assert capsys.readouterr().out.count(usual + "\n  run") == 2
    plant(tmp_path / "work", depth=56, science={"optim.nesterov": True})
    plant(tmp_path / "work", depth=56, science={"optim.lr": 0.2})
    assert main(["show", "cifar10-resnet56-s0"]) == 2
    assert "2 runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(8.5, 0, "to the bit"), (8.8, 0, "within"), (9.5, 1, "outside"), (None, 3, "found 1")],
)
def test_compare_tells_identical_within_outside_and_too_few(
    error: float | None, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, published in ((0, 8.5), (1, 8.6), (2, 8.7))[: 1 if error is None else 3]:
        plant(tmp_path / "results" / "runs", seed=seed, error=published)
    plant(tmp_path / "results" / "runs", seed=5, error=20.0, science={"optim.lr": 0.2})
    run = plant(tmp_path / "work", seed=0, error=error or 9.0).name
    assert main(["compare", run]) == code
    assert said in capsys.readouterr().out


def test_two_runs_are_compared_by_the_seeds_of_the_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = plant(tmp_path / "work", shortcut="none", error=9.5, scale="demo", science=DEMO).name
    nets = [plant(tmp_path / "work", seed=s, error=8.5 + s / 10, scale="demo", science=DEMO).name for s in range(3)]
    assert main(["compare", plain, nets[0]]) == 1
    said = capsys.readouterr().out
    assert "+1.00 points" in said and "model.shortcut=none against A" in said and "3 seeds" in said
    assert main(["compare", nets[2], nets[0]]) == 3
    said = capsys.readouterr().out
    assert "8.50 %, 8.60 %; too few seeds to judge" in said and "found 2" in said, "a run is not among its own seeds"
    assert main(["compare"]) == 2
    assert main(["compare", *nets]) == 2


def test_two_other_seeds_are_too_few_to_judge_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their interval is 15.6 standard deviations to each side: an error of 20 % would be within it."""
    for seed, published in ((1, 8.0), (2, 9.5)):
        plant(tmp_path / "results" / "runs", seed=seed, error=published)
    name = plant(tmp_path / "results" / "runs", seed=0, error=20.0).name
    assert main(["compare", name]) == 3
    said = capsys.readouterr().out
    assert "8.00 %, 9.50 %" in said and "too few seeds to judge" in said and "within" not in said


def test_the_examples_in_the_help_name_runs_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (detector,) = configs(tmp_path, "exp=voc_detection", "data=shapes", "scale=demo")
    example = next(line.split()[2] for line in DETECT_EXAMPLES.splitlines() if "picture.jpg" in line)
    assert detector.run_id.startswith(f"{example}-")
    monkeypatch.delenv("REPRO_RESULTS")
    assert main(COMPARE_EXAMPLES.splitlines()[0].split()[1:]) in (0, 1), "it can be judged"


def test_a_record_of_another_machine_is_judged_by_the_spread(tmp_path: Path) -> None:
    for seed in range(3):
        plant(tmp_path / "results" / "runs", seed=seed, error=8.5 + seed / 10)
    run = plant(tmp_path / "work", seed=0, error=8.5)
    assert main(["compare", run.name]) == 0
    edit(run, "params", value=1)
    assert main(["compare", run.name]) == 0
