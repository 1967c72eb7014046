"""The order of parallel runs, and the report of their progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from repro.cli.main import main
from repro.config.run import RunConfig
from repro.launch.estimates import PlanProgress, forecast, longest_first
from repro.launch.pool import Pool
from repro.launch.slots import Slot
from repro.runtime.provenance import write_json
from tests.runs import configs


@pytest.fixture(autouse=True)
def at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.runtime.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("repro.runtime.progress.BAR_SECONDS", 0.0)


def tell(run: RunConfig, step: int, seconds_left: float) -> None:
    run.work_dir.mkdir(parents=True, exist_ok=True)
    told = {"step": step, "steps": 8, "train_error": 80.0, "images_per_second": 1234.5, "seconds_left": seconds_left}
    write_json(run.work_dir / "progress.json", told)


def test_the_longest_run_comes_first_within_its_line(tmp_path: Path) -> None:
    runs = configs(tmp_path, "model.depth=8,14,20,26")
    seconds = {run.run_id: float(run.model.depth) for run in runs}
    line_of = {run.run_id: int(run.model.depth > 14) for run in runs}
    assert [run.model.depth for run in longest_first(runs, seconds, line_of)] == [14, 8, 26, 20]
    assert [run.model.depth for run in longest_first(runs, seconds, {})] == [26, 20, 14, 8]
    assert longest_first(runs, dict.fromkeys(seconds, 1.0), {}) == runs, "equals stay in the given order"


def test_all_of_the_papers_runs_start_in_the_order_of_their_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started by the command, because the queue needs the plan's order of lines."""
    queued: list[RunConfig] = []

    def train(pool: Pool, waiting: Sequence[RunConfig], stopper: object) -> None:
        queued.extend(waiting)

    monkeypatch.setattr(Pool, "train", train)
    monkeypatch.setattr(
        "repro.launch.plan.seconds_of", lambda runs, _: {run.run_id: float(run.model.depth) for run in runs}
    )
    words = ("exp=cifar_paper", "execution.parallel=2", "data=synthetic", "scale=smoke", "execution.progress=none")
    assert main(["run", *words, "device=cpu", "execution.threads=1", f"paths.work={tmp_path}"]) == 0
    depths = [(run.model.label, run.seed) for run in queued]
    assert {run.model.depth for run in queued[:4]} == {20, 56}, "the nets of Figure 1"
    assert [run.model.depth for run in queued[:2]] == [56, 56], "the longest of them first"
    assert depths[4] == ("ResNet-110", 0)
    assert depths.index(("ResNet-1202", 0)) > depths.index(("ResNet-110", 4))
    assert {run.model.depth for run in queued[-2:]} == {1202}
    assert len(depths) == len({run.run_id for run in queued})


def test_the_time_of_a_plan_is_shared_but_not_below_its_longest_run(tmp_path: Path) -> None:
    runs = configs(tmp_path, "seed=0,1,2")
    seconds = dict.fromkeys([run.run_id for run in runs], 100.0)
    assert forecast(runs, [], seconds).startswith("about 5 min 00 s of training on ")
    assert forecast(runs, [Slot(), Slot()], seconds).startswith("about 2 min 30 s of training, 2 runs at once on ")
    seconds[runs[0].run_id] = 1000.0
    assert forecast(runs, [Slot(), Slot()], seconds).startswith("about 16 min 40 s of training")


def test_each_run_and_the_whole_plan_have_a_line(tmp_path: Path, told: list[str]) -> None:
    runs = configs(tmp_path, "seed=0,1,2,3")
    progress = PlanProgress("lines", dict.fromkeys([run.run_id for run in runs], 10.0), 2)
    tell(runs[1], step=2, seconds_left=60.0)
    progress.look(runs[1:3], runs[3:])
    # Run 1 takes eight times its estimate, and so will the others. Half of 60 + 80 + 80 s is less than 2 in sequence.
    assert told == [
        "  ResNet-20 s1: step 2 of 8, 1,234 images/s, train error 80.00 %, 1 min 00 s left",
        "  ResNet-20 s2: starting",
        "  1 of 4 runs ended, about 1 min 50 s left for all",
    ]


def test_a_bar_on_a_terminal_shows_every_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1")
    progress = PlanProgress("bar", dict.fromkeys([run.run_id for run in runs], 10.0), 2)
    tell(runs[0], step=4, seconds_left=5.0)
    progress.look(runs, [])
    progress.close()
    assert told == []
    assert "0 of 2 runs, plan 10 s, ResNet-20 s0 50%, ResNet-20 s1 0%" in capsys.readouterr().err


def test_none_is_silence(tmp_path: Path, told: list[str]) -> None:
    runs = configs(tmp_path)
    PlanProgress("none", {runs[0].run_id: 1.0}, 2).look(runs, [])
    assert told == []
