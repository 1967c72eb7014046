"""Progress of one run: the same text in a bar and on a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.launch.cost import measure_speed
from repro.launch.plan import launch
from repro.runtime.log import notice
from repro.runtime.progress import (
    Progress,
    Told,
    duration,
    fitted,
    progress_of,
    set_seconds_after,
    write_progress,
)
from tests.runs import config, configs

TEXT = "step 4 of 8, 16 images/s, train error 75.00 %, test error 80.00 %, 0 s left"


@pytest.fixture(autouse=True)
def at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.runtime.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("repro.runtime.progress.BAR_SECONDS", 0.0)


@pytest.mark.parametrize(("style", "shown"), [("lines", [f"  {TEXT}"]), ("none", []), ("bar", [])])
def test_a_run_shows_step_speed_errors_and_the_time_left(
    style: str, shown: list[str], tmp_path: Path, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = config(tmp_path, f"execution.progress={style}")
    progress = Progress(run, 0, 0.0)
    progress.evaluated("test", 80.0)
    now = progress.update(4, 4.0, 75.0)
    progress.close()
    assert told == shown
    assert ("ResNet-20 s0 50%, train 75.00%, test 80.00%, 0 s left" in capsys.readouterr().err) == (style == "bar")
    assert (now.step, now.steps, now.images_per_second) == (4, 8, 16.0)


def test_a_terminal_of_80_columns_shows_the_longest_line_and_a_narrower_one_drops_words_from_its_end() -> None:
    set_seconds_after(1e6)
    try:
        parts = Told(63_999, 64_000, 75.0, 1e5, 86_000.0).parts("ResNet-110 s0", "test 80.00%")
    finally:
        set_seconds_after(0.0)
    assert fitted(parts, 79) == "ResNet-110 s0 99%, train 75.00%, test 80.00%, 23 h 53 min left, plan 12 d 13 h"
    assert fitted(parts, 60) == "ResNet-110 s0 99%, train 75.00%, test 80.00%"
    assert fitted(parts, 10) == "ResNet-110"


def test_a_notice_is_for_terminals_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    notice("reading cifar10")
    assert not capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    notice("reading cifar10")
    assert "reading cifar10" in capsys.readouterr().err


def test_the_runs_of_a_plan_tell_the_time_of_those_to_come_and_what_is_read_and_measured(
    tmp_path: Path, told: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    measure_speed.cache_clear()
    runs = configs(tmp_path, "model.depth=8", "seed=0,1", "execution.progress=lines")
    launch(runs, lambda config: None)
    (second,) = (i for i, line in enumerate(told) if runs[1].run_id in line)
    steps = [("for all" in line, i > second) for i, line in enumerate(told) if line.startswith("  step ")]
    assert steps and all(has_plan != is_last for has_plan, is_last in steps)
    said = capsys.readouterr().err
    assert "synthetic" in said and "measuring" in said


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run = config(tmp_path)
    run.work_dir.mkdir(parents=True)
    assert progress_of(run) is None
    now = Progress(run, 0, 0.0).update(2, 4.0, 75.0)
    write_progress(run.work_dir, now)
    assert progress_of(run) == now


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")]
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text
