"""Executing a plan: finished runs are skipped, failures do not spread, invalid plans do not start."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from torch.utils.tensorboard import SummaryWriter

from repro.cli.status import statuses
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch.attempts import attempt
from repro.launch.outcome import Outcome
from repro.launch.plan import Result, launch
from repro.results.publish import plan_publication, publish
from repro.results.read import read_records
from repro.runtime.provenance import environment, uncounted
from tests.runs import configs

SMALL = ("model.depth=8", "data.image_size=8")


def go(runs: list[RunConfig]) -> tuple[Result, list[RunConfig]]:
    finished: list[RunConfig] = []
    return launch(runs, finished.append), finished


def test_what_is_done_is_skipped_and_published_records_do_not_count(tmp_path: Path, told: list[str]) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL)
    result, finished = go(runs)
    assert finished == runs == result.finished
    assert told[0] == "2 runs, 2 to start"
    assert "of training on" in told[1], "how long, on what"
    publish(plan_publication([], runs[0].paths.work, runs[0].paths.results), runs[0].paths.results)
    told.clear()
    result, finished = go(runs)
    assert (finished, result.exit_code) == ([], 0)
    assert told == [f"nothing is left to do: all 2 runs have a record in {runs[0].paths.work}"]
    shutil.rmtree(runs[0].work_dir)
    assert go(runs)[1] == [runs[0]], "its published record does not stand in"


def test_published_records_are_read_like_the_others(tmp_path: Path) -> None:
    (run,) = configs(tmp_path, *SMALL)
    go([run])
    planned = plan_publication([run.run_id], run.paths.work, run.paths.results)
    (folder,) = publish(planned, run.paths.results)
    assert sorted(p.name for p in folder.iterdir()) == ["curve.csv", "record.json"]
    reading = read_records([run.paths.results / "runs", run.paths.work])
    assert [record.run_id for record in reading.records] == [run.run_id]
    assert not reading.left_out
    with pytest.raises(InputError, match="is not a finished run"):
        plan_publication(["../../etc"], run.paths.work, run.paths.results)


def test_after_a_fault_of_the_process_the_rest_goes_on_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """After a device error all later runs in the same process would fail too."""
    runs = configs(tmp_path, "seed=0,1,2", *SMALL, "optim.steps=2", "optim.milestones=[]")
    real = attempt

    def spoiled(config: RunConfig, *rest: Any) -> Outcome:
        assert config.seed < 2, "the process cannot be trusted any more"
        return real(config, *rest) if config.seed == 0 else Outcome("failed", "an illegal access", sound=False)

    monkeypatch.setattr("repro.launch.plan.attempt", spoiled)
    result, finished = go(runs)
    assert result.failed == {runs[1].run_id: "an illegal access"}
    assert [c.seed for c in finished] == [0, 2]
    assert "this process had a fault: the other runs continue in another one" in told


def test_charts_that_cannot_be_written_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    monkeypatch.setattr(SummaryWriter, "close", full)
    runs = configs(tmp_path, *SMALL)
    result, _ = go(runs)
    assert result.failed == {
        runs[0].run_id: f"the charts in {runs[0].work_dir} cannot be written (No space left on device)"
    }


@pytest.mark.parametrize(
    ("commit", "dirty", "said"),
    [("abc", "1", "never count as measured; commit first"), ("unknown", "0", "set REPRO_COMMIT="), ("abc", "0", "")],
)
def test_who_trains_at_the_papers_budget_hears_before_that_it_will_not_count(
    commit: str, dirty: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_COMMIT", commit)
    monkeypatch.setenv("REPRO_DIRTY", dirty)
    environment.cache_clear()
    try:
        assert said in uncounted() if said else uncounted() == ""
    finally:
        environment.cache_clear()


def test_a_failing_run_is_listed_and_does_not_spread(tmp_path: Path) -> None:
    runs = configs(tmp_path, "optim.lr=1e30,0.02", *SMALL)
    result, finished = go(runs)
    assert result.exit_code == 1
    assert finished == runs[1:]
    (reason,) = result.failed.values()
    assert "the loss is" in reason
    states = {s.run_id: s for s in statuses(runs[0].paths.work)}
    assert states[runs[0].run_id].state == "failed"
    assert "the loss is" in states[runs[0].run_id].note
    assert states[runs[1].run_id].state == "done"


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL)
    runs[0].work_dir.mkdir(parents=True)
    with FileLock(runs[0].work_dir / "lock"):
        result, finished = go(runs)
        (runs[0].work_dir / "config.json").write_text(json.dumps({"science": runs[0].science.to_dict()}))
        assert statuses(runs[0].paths.work)[0].state == "running"
    assert finished == runs[1:]
    assert result.elsewhere == [runs[0].run_id]
    assert not (runs[0].work_dir / "record.json").exists()


def test_time_that_is_up_saves_and_says_75(tmp_path: Path, told: list[str]) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL, "execution.max_minutes=1e-9")
    result, finished = go(runs)
    assert result.exit_code == 75
    assert finished == []
    assert "the same command resumes" in told[-1]
    assert statuses(runs[0].paths.work)[0].state == "interrupted"
    again = configs(tmp_path, "seed=0,1", *SMALL)
    assert go(again)[1] == again


def test_a_run_whose_own_processes_alone_were_stopped_is_said_and_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL, "optim.steps=2", "optim.milestones=[]")
    real = attempt

    def one_stopped(config: RunConfig, *rest: Any) -> Outcome:
        return Outcome("stopped") if config.seed == 0 else real(config, *rest)

    monkeypatch.setattr("repro.launch.plan.attempt", one_stopped)
    result, finished = go(runs)
    assert (finished, result.failed, result.exit_code) == (runs[1:], {}, 75)
    assert result.stopped == [runs[0].run_id]
    assert runs[0].run_id in told[-1] and "the same command resumes" in told[-1]


@pytest.mark.parametrize("name", ["work", "results"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    runs = configs(tmp_path, f"paths.{name}={tmp_path / 'file' / 'deeper'}")
    with pytest.raises(InputError, match=r"is a file"):
        go(runs)


@pytest.mark.parametrize("name", ["config.json", "record.json"])
def test_a_folder_of_another_run_is_refused_before_anything_starts(tmp_path: Path, name: str) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL)
    runs[1].work_dir.mkdir(parents=True)
    (runs[1].work_dir / name).write_text('{"fingerprint": "0123456789abcdef"}')
    with pytest.raises(InputError, match="holds another run"):
        go(runs)
    assert not runs[0].work_dir.exists()


@pytest.mark.parametrize("damage", ["cut", "another object", "a value"])
def test_a_broken_record_fails_its_run_with_the_remedy_and_the_others_are_trained(
    damage: str, tmp_path: Path, told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1", *SMALL)
    go(runs[:1])
    file = runs[0].work_dir / "record.json"
    text = file.read_text()
    changed = json.dumps({**json.loads(text), "steps": 7})
    file.write_text(broken := {"cut": text[: len(text) // 2], "another object": '{"a": 1}', "a value": changed}[damage])
    told.clear()
    result, finished = go(runs)
    assert (finished, result.finished, result.exit_code) == (runs[1:], runs[1:], 1)
    assert list(result.failed) == [runs[0].run_id]
    reason = result.failed[runs[0].run_id]
    assert str(file) in reason and "move or delete its folder to train it again" in reason
    assert any(runs[0].run_id in line and "failed" in line for line in told)
    assert file.read_text() == broken
    told.clear()
    again, finished = go(runs[:1])
    assert (finished, again.exit_code, list(again.failed)) == ([], 1, [runs[0].run_id])
    shutil.rmtree(runs[0].work_dir)
    assert go(runs)[1] == runs[:1]


def test_a_step_mode_that_the_device_has_not_is_refused_before_anything_starts(tmp_path: Path) -> None:
    runs = configs(tmp_path, "execution.step=graph")
    with pytest.raises(InputError, match=r"execution\.step=graph cannot run on device=cpu"):
        go(runs)
    assert not runs[0].work_dir.exists()


def test_data_that_is_missing_is_refused_before_anything_starts(tmp_path: Path) -> None:
    runs = configs(tmp_path, "data=cifar10")
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="repro data fetch cifar10"):
        go(runs)
    assert not runs[0].work_dir.exists()


def test_a_damaged_record_is_broken_and_not_done_in_status(tmp_path: Path) -> None:
    (run,) = configs(tmp_path, *SMALL)
    go([run])
    (run.work_dir / "record.json").write_text("{")
    assert statuses(run.paths.work)[0].state == "broken"
