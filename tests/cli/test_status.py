"""`repro status`: the state of a run, and the process that trains it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from filelock import SoftFileLock

from repro.cli.main import main
from repro.cli.show import show_statuses
from repro.cli.status import chosen, statuses
from repro.config.run import RunConfig
from repro.data import load_for
from repro.engine.hooks import FirstRankHooks
from repro.engine.prepared import prepare
from repro.engine.resume import claim_folder
from repro.errors import InputError, RunError
from repro.evaluation.counts import Counts
from repro.launch.slurm.collect import step_of
from repro.launch.slurm.jobs import Job, Submission
from repro.runtime.lock import Elsewhere, hold, is_held, owner
from repro.runtime.progress import progress_of
from repro.runtime.provenance import read_json, write_json
from repro.runtime.stop import Stopper
from tests.planted import plant
from tests.runs import config, configs


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """Return a run in progress, at step 3 of 8."""
    one = config(tmp_path)
    one.work_dir.mkdir(parents=True)
    write_json(one.work_dir / "config.json", {"science": one.science.to_dict()})
    told = {"step": 3, "steps": 8, "train_error": 75.0, "images_per_second": 1000.0, "seconds_left": 61.0}
    write_json(one.work_dir / "progress.json", told)
    return one


def test_a_running_run_shows_progress_speed_time_left_and_owner(run: RunConfig) -> None:
    work = run.paths.work
    with hold(run.work_dir):
        line = show_statuses(statuses(work), work).splitlines()[-1]
    for part in ("running", "3 / 8", "75.00", "1,000", "1 min 01 s", f"pid {os.getpid()}, host {socket.gethostname()}"):
        assert part in line
    (after,) = statuses(work)
    assert (after.state, after.note) == ("interrupted", "")


def test_the_time_left_is_that_of_the_process_that_trains_now(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier process was ten times slower, on a busy machine."""
    clock = [1000.0]
    monkeypatch.setattr("repro.runtime.progress.time.monotonic", lambda: clock[0])
    net = prepare(run, load_for(run))
    state = net.state
    state.step, state.train_seconds = 4, 40.0
    hooks = FirstRankHooks(net, Stopper(None))
    clock[0] += 2.0
    state.step, state.train_seconds = 6, 42.0
    hooks.logged(state, Counts(errors=1, images=2), 0.1)
    hooks.close()
    assert read_json(run.work_dir / "progress.json")["seconds_left"] == pytest.approx(2.0)


def test_an_owner_that_is_gone_is_nobody(run: RunConfig) -> None:
    """After a kill the file may still name the process, but the lock is free."""
    write_json(run.work_dir / "owner.json", {"pid": 1, "host": "elsewhere", "started": "2020-01-01"})
    (run.work_dir / "lock").touch()
    assert not is_held(run.work_dir)
    assert statuses(run.paths.work)[0].state == "interrupted"


def test_a_lock_that_is_held_names_its_owner(run: RunConfig) -> None:
    with hold(run.work_dir):
        with pytest.raises(Elsewhere, match=rf"{run.run_id} is being trained by another process \(pid {os.getpid()}, "):
            hold(run.work_dir).__enter__()
        assert owner(run.work_dir)
    assert not owner(run.work_dir)
    with hold(run.work_dir):
        assert is_held(run.work_dir)


def test_a_damaged_owner_file_names_nobody(run: RunConfig) -> None:
    with hold(run.work_dir):
        (run.work_dir / "owner.json").write_text("{")
        (status,) = statuses(run.paths.work)
    assert (status.state, status.note) == ("running", "")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be used"), hold(tmp_path / "file" / "run"):
        pass


def test_a_lock_that_would_outlive_its_process_is_none(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks in the file system, filelock uses a marker file, which a killed process leaves behind."""
    monkeypatch.setattr("repro.runtime.lock.FileLock", SoftFileLock)
    (run.work_dir / "lock").unlink(missing_ok=True)
    with pytest.raises(RunError, match="has no locks"), hold(run.work_dir):
        pass
    assert not (run.work_dir / "lock").exists()


def test_a_job_of_another_version_is_shown_without_its_runs_steps(run: RunConfig) -> None:
    def configs_of(shard: int) -> list[RunConfig]:
        raise InputError("unknown key")

    submission = SimpleNamespace(configs=configs_of, shards=[["other-run"]])
    job = SimpleNamespace(submission=submission, shard=0, run_ids=["other-run"], job_id="12_0", state="PENDING")
    found = {s.run_id: s for s in statuses(run.paths.work, [cast(Job, job)])}
    assert (found["other-run"].state, found["other-run"].note) == (
        "queued",
        "job 12_0: submitted by another version of the program",
    )
    assert run.run_id in found


def test_jobs_in_the_queue_stand_beside_the_runs(run: RunConfig) -> None:
    """One run is in progress on a node; another is still queued and has no folder yet."""
    (waiting,) = (c for c in configs(run.paths.work.parent, "seed=7"))
    submission = SimpleNamespace(configs=lambda shard: [(run, waiting)[shard]])
    jobs = [
        Job("12_0", "RUNNING", "n1", "", cast(Submission, submission), 0),
        Job("12_1", "PENDING", "", "Priority", cast(Submission, submission), 1),
    ]
    with hold(run.work_dir):
        found = {s.run_id: s for s in statuses(run.paths.work, jobs)}
    assert found[run.run_id].state == "running"
    assert found[run.run_id].step == 3
    assert found[run.run_id].note == "job 12_0: running n1"
    assert found[waiting.run_id].state == "queued"
    assert found[waiting.run_id].steps == 8
    assert found[waiting.run_id].note == "job 12_1: pending (Priority)"
    assert {s.state for s in statuses(run.paths.work, jobs)} == {"queued"}, "no process holds the first any more"


def test_a_run_names_its_experiment_and_what_differs_and_filters_choose(tmp_path: Path) -> None:
    words = ("exp=cifar_residual_vs_plain", "model.depth=20", "model.shortcut=A", "optim.nesterov=false,true")
    usual, other = configs(tmp_path, *words)
    for one in (usual, other):
        claim_folder(one)
    work = usual.paths.work
    found = {s.run_id: s for s in statuses(work)}
    assert found[usual.run_id].exp == "cifar_residual_vs_plain"
    assert found[usual.run_id].differs == "data=synthetic"
    assert found[other.run_id].differs == "data=synthetic, optim.nesterov=true"
    for filters, chosen_ids in (
        (["optim.nesterov=true"], {other.run_id}),
        (["optim.nesterov=1"], set()),
        (["optim.lr=2e-2", "optim.decay_factor=10", "eval.large_crop=null"], set(found)),
        (["optim.milestones=[1,2],[6]", "model.shortcut=A"], set(found)),
        (["optim.milestones=[4]"], set()),
        (["exp=cifar_residual_vs_plain", "state=done,interrupted"], set(found)),
        (["seed=7"], set()),
    ):
        assert {s.run_id for s in chosen(statuses(work), filters)} == chosen_ids


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optim.nestrov=true", "optim.nesterov"),
        ("detection.trainin=joint", "detection.training"),
        ("state=faild", "failed"),
        ("scale=smok,paper", "smoke"),
        ("exp=cifar_depth_swep", "cifar_depth_sweep"),
        ("seed", "seed=…"),
        ("seed=", "seed=…"),
    ],
)
def test_a_filter_that_no_run_can_match_is_refused_without_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    assert main(["status", word, f"paths.work={tmp_path}"]) == 2
    assert said in capsys.readouterr().err
    assert main(["status", "state=failed", "seed=1", f"paths.work={tmp_path}"]) == 0


def test_a_narrow_terminal_drops_columns_and_keeps_run_state_and_error(run: RunConfig) -> None:
    found = [replace(s, images_per_second=1000.0, exp="cifar_residual_vs_plain") for s in statuses(run.paths.work)]
    whole, narrow = (show_statuses(found, run.paths.work, width) for width in (None, 60))
    assert "images/s" in whole and "experiment" in whole
    assert "images/s" not in narrow and "75.00" in narrow
    assert max(map(len, narrow.splitlines())) <= 60


def test_a_finished_run_is_set_beside_the_published_ones_and_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, error in ((0, 8.5), (1, 8.6), (2, 8.7)):
        plant(tmp_path / "results" / "runs", seed=seed, error=error)
    for seed, error in ((0, 8.5), (3, 8.55), (4, 12.0)):
        folder = plant(tmp_path / "work", seed=seed, error=error)
        science = json.loads((folder / "record.json").read_text())["science"]
        write_json(folder / "config.json", {"science": science})
    assert main(["status", f"paths.work={tmp_path / 'work'}", f"paths.results={tmp_path / 'results'}", "--json"]) == 0
    found = {int(s["settings"]["seed"]): s["published"] for s in json.loads(capsys.readouterr().out)}
    assert found == {0: "identical", 3: "within", 4: "outside"}


TOLD = {"step": 3, "steps": 8, "train_error": 75.0, "images_per_second": 1000.0, "seconds_left": 61.0}
ODD = [
    "",
    "{",
    "[]",
    "[" * 100_000,
    '{"step": 3}',
    json.dumps({**TOLD, "step": "3"}),
    json.dumps({**TOLD, "step": -1}),
    json.dumps({**TOLD, "train_error": None}),
    json.dumps({**TOLD, "seconds_left": [1]}),
    json.dumps({**TOLD, "seconds_left": float("inf")}),
    json.dumps({**TOLD, "images_per_second": 10**400}),
    "folder",
]


@pytest.mark.parametrize("text", ODD)
def test_an_odd_progress_file_is_named_in_the_line_of_its_run_alone(run: RunConfig, text: str) -> None:
    (other,) = (c for c in configs(run.paths.work.parent, "seed=7"))
    for name, one in (("config.json", {"science": other.science.to_dict()}), ("progress.json", TOLD)):
        other.work_dir.mkdir(exist_ok=True)
        write_json(other.work_dir / name, one)
    path = run.work_dir / "progress.json"
    path.unlink()
    path.mkdir() if text == "folder" else path.write_text(text)
    work = run.paths.work
    for state, held in (("interrupted", contextlib.nullcontext()), ("running", hold(run.work_dir))):
        with held:
            found = {s.run_id: s for s in statuses(work)}
            shown = show_statuses(list(found.values()), work)
        assert (found[run.run_id].state, found[run.run_id].step, found[run.run_id].steps) == (state, 0, 8)
        assert str(path) in found[run.run_id].note and str(path) in shown
        assert (found[other.run_id].step, found[other.run_id].error, found[other.run_id].note) == (3, 75.0, "")
        assert progress_of(run) is None and step_of(run) == 0 and step_of(other) == 3
    (run.work_dir / "failure.txt").write_bytes(b"out of memory \xff")
    failed = {s.run_id: s for s in statuses(work)}[run.run_id]
    assert failed.state == "failed" and failed.note.startswith("out of memory") and str(path) in failed.note


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("[]", "record.json is not a JSON object"),
        ('{"a": 1}', "its record.json has no result"),
        (
            '{"result": {"final": {"top1_error": 5}}, "steps": "x", "images_per_second": 1}',
            "its record.json is invalid",
        ),
    ],
)
def test_a_damaged_record_breaks_the_line_of_its_run_alone(run: RunConfig, record: str, said: str) -> None:
    (run.work_dir / "record.json").write_text(record)
    (found,) = statuses(run.paths.work)
    assert (found.state, found.step, found.steps) == ("broken", 0, 8)
    assert said in found.note and found.note.endswith("move or delete its folder to train it again")
    assert run.run_id in show_statuses([found], run.paths.work)
