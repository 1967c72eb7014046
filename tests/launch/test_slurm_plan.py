"""Slurm jobs without Slurm: packing of runs, options of sbatch, states of the queue."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from repro.cli.main import main
from repro.config.execution import ExecutionConfig
from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.launch.plan import Result
from repro.launch.slurm import collect as slurm_collect
from repro.launch.slurm import job as slurm_job
from repro.launch.slurm import jobs, node, submit
from repro.launch.slurm.job import ShardJob, for_job
from repro.launch.slurm.jobs import Job, Submission, read_queue
from repro.launch.slurm.submit import parameters, shards
from repro.runtime.provenance import environment
from repro.runtime.stop import LATER
from tests.runs import configs

ON_SLURM = ("execution=slurm", "execution.slurm.poll_seconds=0.001")


def settings(folder: Path, *words: str) -> ExecutionConfig:
    return configs(folder, "execution=slurm", *words)[0].execution


def test_a_run_goes_through_the_file_of_its_job_unchanged(tmp_path: Path) -> None:
    for config in configs(tmp_path, "seed=0,1", "execution=slurm", 'execution.slurm.extra=["nice=5"]'):
        assert RunConfig.from_dict(config.to_dict()) == config


def test_long_runs_come_first_and_jobs_take_equally_long(tmp_path: Path) -> None:
    runs = configs(tmp_path, "model.depth=20,56", "seed=0,1,2", "execution=slurm")
    packed = shards(runs, 3, {})
    assert sorted(c.run_id for job in packed for c in job) == sorted(c.run_id for c in runs)
    assert [[c.model.depth for c in job] for job in packed] == [[56, 56, 20], [56, 20, 20]]
    assert [[c.model.depth for c in job] for job in shards(runs, 1, {})] == [[56]] * 3 + [[20]] * 3
    assert len(shards(runs, 4, {})) == 2
    assert len(shards(runs, 100, {})) == 1


def test_jobs_keep_the_order_of_the_plans_lines(tmp_path: Path) -> None:
    short, long = configs(tmp_path, "model.depth=20,56", "execution=slurm")
    more = configs(tmp_path, "model.depth=20,56", "seed=1", "execution=slurm")
    line_of = {short.run_id: 0, long.run_id: 1} | {run.run_id: 2 for run in more}
    packed = shards([short, long, *more], 1, line_of)
    assert [(c.model.depth, c.seed) for (c,) in packed] == [(20, 0), (56, 0), (56, 1), (20, 1)]
    assert shards([short, long, *more], 4, line_of) == [[short, long, more[1], more[0]]]


def test_what_sbatch_is_asked_for(tmp_path: Path) -> None:
    asked = parameters(settings(tmp_path, "device=auto"), "name")
    assert (asked["gpus_per_node"], asked["nodes"], asked["ntasks_per_node"]) == (1, 1, 1)
    assert asked["additional_parameters"] == {"signal": "B:USR2@120", "requeue": True}
    assert not {"partition", "gres", "mem", "cpus_per_task"} & asked.keys(), "the cluster's own defaults"
    words = [f"execution.slurm.{word}" for word in ("shard=2", "memory=1.5", "partition=short", "time=60", "cpus=3")]
    asked = parameters(settings(tmp_path, *words, 'execution.slurm.extra=["nice=5",exclusive]'), "name")
    assert (asked["gres"], asked["mem"], asked["partition"], asked["time"]) == ("shard:2", "1536MB", "short", 60)
    assert "gpus_per_node" not in asked, "shards stand in place of whole GPUs"
    assert asked["additional_parameters"]["nice"] == "5"
    assert asked["additional_parameters"]["exclusive"] is True
    assert "gpus_per_node" not in parameters(settings(tmp_path, "device=cpu"), "name")
    asked = parameters(settings(tmp_path, "device=cuda", "execution.devices=4", "execution.nodes=2"), "name")
    assert (asked["gpus_per_node"], asked["nodes"], asked["ntasks_per_node"]) == (4, 2, 1)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ('partition="a; rm x"', "one word"),
        ('account="a\'b"', "one word"),
        ('qos="a\\nb"', "one word"),
        ('constraint="$(x)"', "one word"),
        ('extra=["output=x"]', "--output"),
        ('extra=["signal=x"]', "--signal"),
        ('extra=["comment=a\nb"]', "write options of sbatch"),
        ('setup=["a\nb"]', "execution.slurm.setup"),
        ('setup=["#SBATCH --wrap=x"]', "execution.slurm.setup"),
        ('gpu="a b"', "one word"),
        ('extra=["Nice"]', "write options of sbatch"),
        ("time=3", "Slurm may warn a minute early"),
        ("time=1000000", "more than a year"),
        ("gpus=-1", "must not be negative"),
        ("runs_per_job=0", "must be above 0"),
        ("nonsense=1", "unknown key"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, word: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        configs(tmp_path, "execution=slurm", f"execution.slurm.{word}")


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"execution\.slurm\.partition is a setting of execution=slurm"):
        configs(tmp_path, "execution.slurm.partition=short")
    with pytest.raises(InputError, match=r"execution\.engine .*execution=slurm or execution=local"):
        configs(tmp_path, "execution=slurm", "execution.engine=local")
    with pytest.raises(InputError, match="needs as many GPUs"):
        configs(tmp_path, "execution=slurm", "execution.slurm.gpus=2", "execution.devices=4")
    with pytest.raises(InputError, match=r"execution\.max_minutes=5.* execution\.slurm\.time"):
        configs(tmp_path, "execution=slurm", "execution.max_minutes=5")


@pytest.mark.parametrize(
    ("words", "device"),
    [
        ((), "cuda"),
        (("gpus=0",), "cpu"),
        (("gpus=0", "shard=1"), "cuda"),
    ],
)
def test_a_job_trains_on_what_it_asked_for(tmp_path: Path, words: tuple[str, ...], device: str) -> None:
    """A node whose GPU does not work is an error, not a reason to train slowly on its CPU."""
    (config,) = configs(tmp_path, "execution=slurm", "device=auto", *(f"execution.slurm.{word}" for word in words))
    inside = for_job(config)
    assert (inside.execution.device, inside.execution.engine, inside.execution.slurm) == (device, "local", None)
    assert inside.run_id == config.run_id


def submission(folder: Path, *run_ids: tuple[str, ...]) -> Submission:
    path = folder / "work" / jobs.FOLDER / "repro-1"
    path.mkdir(parents=True)
    (path / jobs.SUBMISSION).write_text(json.dumps({"shards": run_ids}))
    return Submission.read(path)


def test_the_queue_is_read(tmp_path: Path) -> None:
    mine = submission(tmp_path, ("a", "b"), ("c",))
    text = """\
repro-1|0|12_0|RUNNING|n1|None
repro-1|1|12_1|PENDING||Resources
repro-1|7|12_7|PENDING||no such shard
other|0|13_0|RUNNING|n1|None
"""
    first, second = read_queue(text, [mine])
    assert (first.job_id, first.nodes, first.reason, first.run_ids) == ("12_0", "n1", "", ("a", "b"))
    assert (second.state, second.reason, second.run_ids) == ("PENDING", "Resources", ("c",))
    (single,) = read_queue("repro-1|N/A|14|COMPLETED|n1|a|b\n", [mine])
    assert (single.shard, single.is_alive) == (0, False)


def test_two_nodes_meet_on_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.1 NodeHostName=host OS=Linux"
    monkeypatch.setattr(jobs, "call", lambda *words: told)
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "8"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert jobs.spans(2)
    assert not jobs.spans(1)
    srun, *words = jobs.on_each_node(2, ["job.json"])
    assert srun == "srun"
    assert {"--nodes=2", "--ntasks=2", "--cpus-per-task=8", "--nnodes=2", "--rdzv-id=7"} <= set(words)
    assert [word for word in words if word.startswith("--rdzv-endpoint=10.0.0.1:")]
    assert words[-1] == "job.json"


@pytest.mark.parametrize(("node_id", "host"), [("0", "1"), ("1", "0")])
def test_the_first_node_hosts_the_meeting_whatever_its_name_resolves_to(
    node_id: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(node, "node_address", lambda: "10.0.0.1")

    def agent(words: Sequence[str]) -> int:
        given.extend(words)
        return 0

    monkeypatch.setattr("repro.launch.torchrun.main", agent)
    monkeypatch.setenv("SLURM_NODEID", node_id)
    monkeypatch.setenv("REPRO_LAUNCHER", "1")
    assert node.main(["--nnodes=2", "job.json"]) == 0
    assert given[0] == "--local-addr=10.0.0.1"
    assert given[1].startswith(f"--rdzv-conf=is_host={host},")


@pytest.mark.parametrize("text", ["{", "[]", '{"shards": 3}', '{"shards": [[1]]}', '{"shards": [[]]}'])
def test_a_damaged_submission_is_left_out(tmp_path: Path, text: str) -> None:
    mine = submission(tmp_path, ("a",))
    assert jobs.submissions(tmp_path / "work") == [mine]
    (mine.folder / jobs.SUBMISSION).write_text(text)
    assert jobs.submissions(tmp_path / "work") == []


def test_submissions_whose_runs_are_all_done_are_not_asked_about(tmp_path: Path) -> None:
    submission(tmp_path, ("a",), ("b",))
    for number, run_id in enumerate("ab"):
        assert len(jobs.submissions(tmp_path / "work")) == 1, number
        (tmp_path / "work" / run_id).mkdir()
        (tmp_path / "work" / run_id / "record.json").touch()
    assert jobs.submissions(tmp_path / "work") == []


def test_without_slurm_there_are_no_jobs_and_submitting_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    submission(tmp_path, ("a",))
    assert jobs.jobs(tmp_path / "work") == []
    with pytest.raises(InputError, match="sbatch is not installed"):
        slurm_collect.launch(configs(tmp_path, *ON_SLURM), print)
    assert main(["cancel", "--all", f"paths.work={tmp_path / 'work'}"]) == 2
    assert "squeue is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--all", "a-run"]])
def test_cancel_wants_runs_or_all(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cancel", *words, f"paths.work={tmp_path}"]) == 2
    assert "repro cancel --all" in capsys.readouterr().err


def test_cancelling_a_run_cancels_its_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, work = Submission(tmp_path / "repro-1", (("a", "b"), ("c",))), tmp_path / "work"
    first, second = Job("12_0", "RUNNING", "n1", "", mine, 0), Job("12_1", "PENDING", "", "", mine, 1)
    over = Job("11_0", "COMPLETED", "n1", "", mine, 0)
    asked: list[tuple[str, ...]] = []

    def call(*words: str) -> str:
        asked.append(words)
        return ""

    monkeypatch.setattr(jobs, "known_jobs", lambda _: [over, first, second])
    monkeypatch.setattr(jobs, "call", call)
    assert jobs.cancel(work, ["b"]) == [first]
    with pytest.raises(InputError, match="x is in no Slurm job"):
        jobs.cancel(work, ["b", "x"])
    assert jobs.cancel(work, None) == [first, second]
    assert asked == [("scancel", "12_0"), ("scancel", "12_0", "12_1")]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo first >&2; echo no controller >&2; exit 1", "squeue failed: no controller"),
        ("exit 3", "squeue failed: exit code 3"),
        ("exec sleep 60", "Slurm does not answer"),
    ],
)
def test_a_command_of_slurm_that_fails_or_hangs_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(jobs, "ANSWER_SECONDS", 0.5)
    with pytest.raises(RunError, match=said):
        jobs.call("squeue")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("NODE_FAIL\n", "NODE_FAIL"),
        ("CANCELLED by 1000\n", "CANCELLED"),
        ("REQUEUED\nTIMEOUT\n", "TIMEOUT"),
        ("\n", ""),
    ],
)
def test_the_last_word_of_accounting(monkeypatch: pytest.MonkeyPatch, text: str, state: str) -> None:
    monkeypatch.setattr(jobs, "call", lambda *words: text)
    assert jobs.last_state("7") == state


def test_detach_needs_slurm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data=synthetic", "scale=smoke", f"paths.work={tmp_path}", f"paths.results={tmp_path}"]
    assert main(["run", "--detach", *words]) == 2
    assert "--detach needs execution=slurm" in capsys.readouterr().err


State = str | Callable[[], object]


class Queue:
    """A fake queue for the collector: a job goes through a list of states, one at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: Sequence[State]) -> None:
        self.plans, self.submissions = list(map(list, states)), list[Submission]()
        monkeypatch.setattr(slurm_collect, "call", lambda *words: "")
        monkeypatch.setattr(slurm_collect, "jobs", lambda work: [job for job in self.look() if job.is_alive])
        monkeypatch.setattr(slurm_collect, "known_jobs", lambda asked: self.look())
        monkeypatch.setattr(slurm_collect, "last_state", lambda job_id: "")
        monkeypatch.setattr(slurm_collect, "submit", self.submit)

    def submit(self, runs: list[RunConfig], line_of: Mapping[str, int]) -> list[Submission]:
        if not runs:
            return []
        folder = runs[0].paths.work / jobs.FOLDER / f"repro-{len(self.submissions)}"
        folder.mkdir()
        self.submissions.append(Submission(folder, (tuple(c.run_id for c in runs),)))
        return self.submissions[-1:]

    def look(self) -> list[Job]:
        """Return each submission's job in its next state, and later in its last one."""
        found = []
        for number, (one, plan) in enumerate(zip(self.submissions, self.plans, strict=False)):
            state = plan.pop(0) if len(plan) > 1 else plan[0]
            if callable(state):
                state()
                plan[:] = ["COMPLETED"]
            elif state != "gone":
                found.append(Job(f"{number}", state, "n1", "", one, 0))
        return found


def collect(runs: list[RunConfig]) -> tuple[Result, list[RunConfig]]:
    finished = list[RunConfig]()
    return slurm_collect.launch(runs, finished.append), finished


def record(*runs: RunConfig) -> None:
    for config in runs:
        config.work_dir.mkdir(parents=True, exist_ok=True)
        (config.work_dir / "record.json").write_text(json.dumps({"fingerprint": config.fingerprint}))


def test_the_record_is_the_truth_whatever_the_job_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1", *ON_SLURM)
    queue = Queue(monkeypatch, ["PENDING", "RUNNING", lambda: record(*runs), "FAILED"])
    result, finished = collect(runs)
    assert finished == runs == result.finished
    assert (result.exit_code, result.failed) == (0, {})
    assert told[0] == "2 runs, 2 submitted"
    assert told[-1] == "2 of 2 done, 100 % of all steps"
    assert len(queue.submissions) == 1


def test_a_broken_record_fails_its_run_and_the_others_are_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1", *ON_SLURM)
    record(runs[0])
    (runs[0].work_dir / "record.json").write_text("{")
    queue = Queue(monkeypatch, ["PENDING", lambda: record(runs[1])])
    result, finished = collect(runs)
    assert [one.shards for one in queue.submissions] == [((runs[1].run_id,),)]
    assert (finished, result.finished, result.exit_code) == (runs[1:], runs[1:], 1)
    assert "move or delete its folder to train it again" in result.failed[runs[0].run_id]
    assert collect(runs[:1])[0].exit_code == 1 and len(queue.submissions) == 1


def test_what_is_in_the_queue_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    runs = configs(tmp_path, "seed=0,1", *ON_SLURM)
    queue = Queue(monkeypatch, ["PENDING"])
    for _ in range(2):
        slurm_collect.launch(runs, lambda _: None, detach=True)
    assert len(queue.submissions) == 1
    assert [line for line in told if line.startswith("2 runs")] == [
        "2 runs, 2 submitted",
        "2 runs, 2 in the queue already",
    ]


def test_a_job_that_slurm_queues_again_is_not_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    states: list[State] = [
        "RUNNING",
        "NODE_FAIL",
        "NODE_FAIL",
        "PENDING",
        "BOOT_FAIL",
        "REQUEUED",
        "RUNNING",
        lambda: record(run),
    ]
    queue = Queue(monkeypatch, states)
    assert collect([run])[1] == [run]
    assert len(queue.submissions) == 1


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "PREEMPTED"])
def test_a_lost_job_is_submitted_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    queue = Queue(monkeypatch, ["RUNNING", state], ["RUNNING", lambda: record(run)])
    assert collect([run])[1] == [run]
    assert len(queue.submissions) == 2
    (other,) = configs(tmp_path / "other", *ON_SLURM)
    queue = Queue(monkeypatch, *[["RUNNING", state] for _ in range(9)])
    result = collect([other])[0]
    assert len(queue.submissions) == slurm_collect.SUBMISSIONS
    assert result.exit_code == 1
    assert f"ended as {state}" in result.failed[other.run_id]


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "OUT_OF_MEMORY", "gone"])
def test_a_job_that_ended_otherwise_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    queue = Queue(monkeypatch, ["RUNNING", state])
    result, finished = collect([run])
    assert (finished, result.exit_code, len(queue.submissions)) == ([], 1, 1)
    assert run.run_id in result.failed


@pytest.mark.parametrize(
    ("outcome", "failed", "elsewhere", "times"),
    [
        ({"failed": "the loss is nan"}, "the loss is nan", False, 1),
        ({"refused": "another commit"}, "another commit", False, 1),
        ({"elsewhere": True}, "", True, 1),
        ({"again": True}, "ended as COMPLETED", False, slurm_collect.SUBMISSIONS),
        ("nonsense", "ended as COMPLETED", False, 1),
    ],
)
def test_what_the_job_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any, failed: str, elsewhere: bool, times: int
) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    queue = Queue(monkeypatch, *[["RUNNING", "COMPLETED"] for _ in range(9)])

    def submit_and_tell(runs: list[RunConfig], line_of: Mapping[str, int]) -> list[Submission]:
        (one,) = queue.submit(runs, line_of)
        values = {"failed": {}, "elsewhere": [], "refused": "", "again": False}
        if isinstance(outcome, dict):
            values |= outcome
            values["failed"] = {run.run_id: outcome["failed"]} if "failed" in outcome else {}
            values["elsewhere"] = [run.run_id] * elsewhere
        one.outcome_path(0).write_text(json.dumps(values if isinstance(outcome, dict) else outcome))
        return [one]

    monkeypatch.setattr(slurm_collect, "submit", submit_and_tell)
    result = collect([run])[0]
    assert len(queue.submissions) == times
    assert result.elsewhere == [run.run_id] * elsewhere
    assert result.exit_code == (LATER if elsewhere else 1)
    assert (failed in result.failed[run.run_id]) if failed else not result.failed


def test_a_queue_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    queue = Queue(monkeypatch, ["RUNNING", lambda: record(run)])
    silent = iter([True, True, False])

    def answers(asked: object) -> list[Job]:
        if next(silent, False):
            raise RunError("Slurm does not answer (squeue)")
        return queue.look()

    monkeypatch.setattr(slurm_collect, "known_jobs", answers)
    result, _ = collect([run])
    assert result.exit_code == 0
    assert told.count("Slurm does not answer (squeue); asking again") == 1


def test_a_run_left_to_another_process_that_ends_meanwhile_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = configs(tmp_path, "seed=0,1", *ON_SLURM)
    queue = Queue(monkeypatch, ["COMPLETED"], ["RUNNING"] * 9 + [lambda: record(*runs)])

    def submit_apart(wanted: list[RunConfig], line_of: Mapping[str, int]) -> list[Submission]:
        found = [one for run in wanted for one in queue.submit([run], line_of)]
        found[0].outcome_path(0).write_text(json.dumps({"elsewhere": [runs[0].run_id]}))
        return found

    monkeypatch.setattr(slurm_collect, "submit", submit_apart)
    result, _ = collect(runs)
    assert (result.finished, result.elsewhere, result.exit_code) == (runs, [], 0)


@pytest.mark.parametrize("refusals", [1, 9])
def test_a_refused_resubmission_is_tried_again_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str], refusals: int
) -> None:
    (run,) = configs(tmp_path, *ON_SLURM)
    queue = Queue(monkeypatch, ["RUNNING", "NODE_FAIL"], ["RUNNING", lambda: record(run)])
    refused = iter([False] + [True] * refusals)

    def submit(runs: list[RunConfig], line_of: Mapping[str, int]) -> list[Submission]:
        if next(refused, False):
            raise RunError("Slurm refused the jobs: no controller")
        return queue.submit(runs, line_of)

    monkeypatch.setattr(slurm_collect, "submit", submit)
    result, finished = collect([run])
    assert "Slurm refused the jobs: no controller; trying again" in told
    if refusals == 1:
        assert (finished, result.exit_code, result.failed) == ([run], 0, {})
    else:
        assert (finished, result.exit_code, list(result.failed)) == ([], 1, [run.run_id])


def test_ctrl_c_leaves_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    def interrupt() -> None:  # without its own signal: a shell lets background processes ignore SIGINT
        raise KeyboardInterrupt

    runs = configs(tmp_path, *ON_SLURM)
    Queue(monkeypatch, ["RUNNING", interrupt])
    result, _ = collect(runs)
    assert result.exit_code == 130
    assert "the jobs continue" in told[-1]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardJob:
    """Return a job of two runs that have not started training."""
    runs = configs(tmp_path, "seed=0,1", *ON_SLURM)
    folder = tmp_path / "work" / jobs.FOLDER / "repro-1"
    folder.mkdir(parents=True)
    values = {
        "command": "repro run …",
        "provenance": slurm_job.provenance(),
        "shards": [[config.run_id for config in runs]],
        "configs": {config.run_id: config.to_dict() for config in runs},
    }
    (folder / jobs.SUBMISSION).write_text(json.dumps(values))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(slurm_job, "LOOK_SECONDS", 0)
    monkeypatch.setattr(slurm_job, "call", lambda *words: pytest.fail(f"asked Slurm {words}"))
    return ShardJob(folder, 0)


@pytest.fixture(autouse=True)
def handlers_as_before() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(job: ShardJob) -> tuple[int, dict[str, Any]]:
    """Return the exit code of a job and its last output."""
    with pytest.raises(SystemExit) as ended:
        job()
    path = job.folder / "outcome_0.json"
    return int(ended.value.code or 0), json.loads(path.read_text()) if path.exists() else {}


def training(monkeypatch: pytest.MonkeyPatch, *results: Result | signal.Signals) -> list[list[str]]:
    """Replace training by something quick; return the runs of each call."""
    calls, left = list[list[str]](), list(results)

    def launch(runs: list[RunConfig], *rest: object) -> Result:
        calls.append([config.run_id for config in runs])
        result = left.pop(0)
        if isinstance(result, signal.Signals):
            signal.raise_signal(result)
            raise AssertionError("the signal was not heard")
        return result

    monkeypatch.setattr("repro.launch.plan.launch", launch)
    return calls


def answering(monkeypatch: pytest.MonkeyPatch, state: str) -> list[tuple[str, ...]]:
    """Let Slurm report this state of the job; return the list of its questions."""
    asked: list[tuple[str, ...]] = []

    def call(*words: str) -> str:
        asked.append(words)
        return state

    monkeypatch.setattr(slurm_job, "call", call)
    return asked


def test_a_job_trains_its_runs_here(job: ShardJob) -> None:
    code, outcome = start(job)
    assert (code, outcome) == (0, {"failed": {}, "elsewhere": [], "refused": "", "again": False})
    assert len(list(job.folder.parent.parent.glob("*/record.json"))) == 2


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("commit", "0" * 40, f"commit {'0' * 40}"),
        ("code", "0", "code 0"),
        ("python", "2.7", "python 2.7"),
        ("packages", ["torch==1.0"], "packages torch==1.0"),
    ],
)
def test_a_job_refuses_other_code(
    job: ShardJob, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, sentence: str
) -> None:
    calls = training(monkeypatch)
    path = job.folder / jobs.SUBMISSION
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"provenance": values["provenance"] | {name: value}}))
    code, outcome = start(job)
    assert code == 1
    assert sentence in outcome["refused"]
    assert calls == []


@pytest.mark.parametrize("starts", [True, False])
def test_a_job_takes_the_commit_of_the_same_code_from_its_submission_where_git_is_missing(
    job: ShardJob, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    path = job.folder / jobs.SUBMISSION
    values = json.loads(path.read_text())
    changes = {"commit": "1" * 40, "code": slurm_job.digest() if starts else "0"}
    path.write_text(json.dumps(values | {"provenance": values["provenance"] | changes, "dirty": False}))
    for name in ("REPRO_COMMIT", "REPRO_DIRTY"):
        monkeypatch.setenv(name, "")  # to be as before at the end
    monkeypatch.setattr("repro.runtime.provenance.git", lambda *words: None)
    calls = training(monkeypatch, Result())
    environment.cache_clear()
    try:
        assert start(job)[0] == (0 if starts else 1)
        assert len(calls) == starts
        assert (environment()["commit"], environment()["dirty"]) == (("1" * 40, False) if starts else ("unknown", None))
    finally:
        environment.cache_clear()


def test_a_job_refuses_a_run_under_another_runs_name(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = training(monkeypatch)
    path = job.folder / jobs.SUBMISSION
    values = json.loads(path.read_text())
    first, second = values["configs"]
    values["configs"][first] = values["configs"][second]
    path.write_text(json.dumps(values))
    code, outcome = start(job)
    assert (code, calls) == (1, [])
    assert "submit again" in outcome["refused"]


@pytest.mark.parametrize("state", ["RUNNING\n", "SIGNALING\n"])
@pytest.mark.parametrize(
    "stopped", [Result(exit_code=143), Result(stopped=["a"], exit_code=75), signal.SIGTERM, signal.SIGUSR2]
)
def test_a_job_that_is_asked_to_end_goes_back_into_the_queue(
    job: ShardJob, monkeypatch: pytest.MonkeyPatch, stopped: Result | signal.Signals, state: str
) -> None:
    training(monkeypatch, stopped)
    asked = answering(monkeypatch, state)
    code, outcome = start(job)
    assert code != 0
    assert outcome == {}, "it has not ended"
    assert asked[-1] == ("scontrol", "requeue", "7")


def test_a_job_of_an_array_goes_back_alone(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own number may be that of the array, which Slurm's commands take for all jobs of the array."""
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "0")):
        monkeypatch.setenv(name, value)
    training(monkeypatch, Result(exit_code=143))
    asked = answering(monkeypatch, "RUNNING")
    assert start(job) == (128 + signal.SIGUSR2, {})
    assert asked == [("squeue", "-h", "-j", "7_0", "-o", "%T"), ("scontrol", "requeue", "7_0")]


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", ""])
def test_a_job_that_slurm_ends_is_not_queued_again(job: ShardJob, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """It was cancelled, or Slurm queues it again after preemption."""
    training(monkeypatch, Result(exit_code=143))
    asked = answering(monkeypatch, state)
    start(job)
    assert [words[0] for words in asked] == ["squeue"]


def test_a_job_that_cannot_go_back_says_so(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*words: str) -> str:
        raise RunError("Slurm does not answer")

    training(monkeypatch, Result(exit_code=143))
    monkeypatch.setattr(slurm_job, "call", silent)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert start(job)[1]["again"] is True


def saving(monkeypatch: pytest.MonkeyPatch, *steps: int | None) -> None:
    """Let each start of a job save this step, or nothing, before it is asked to end."""
    left = list(steps)

    def launch(runs: list[RunConfig], *rest: object) -> Result:
        if (step := left.pop(0)) is not None:
            runs[0].work_dir.mkdir(parents=True, exist_ok=True)
            (runs[0].work_dir / f"step_{step:08d}.pt").touch()
        return Result(exit_code=143)

    monkeypatch.setattr("repro.launch.plan.launch", launch)


REQUEUED = (128 + signal.SIGUSR2, dict[str, Any]())


def test_a_job_that_never_gets_to_save_does_not_start_for_ever(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    saving(monkeypatch, *[None] * 9)
    answering(monkeypatch, "RUNNING")
    assert [start(job) for _ in range(slurm_job.FRUITLESS_STARTS - 1)] == [REQUEUED] * (slurm_job.FRUITLESS_STARTS - 1)
    code, outcome = start(job)
    assert code == 1
    assert "raise execution.slurm.time" in outcome["refused"]


def test_a_job_that_saved_a_step_goes_back_however_often_it_was_started(
    job: ShardJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "9")
    saving(monkeypatch, None, None, 5, None, 6, None, None, None)
    asked = answering(monkeypatch, "RUNNING")
    assert [start(job) for _ in range(7)] == [REQUEUED] * 7, "starts without a saved step count only in a row"
    assert asked[-1] == ("scontrol", "requeue", "7")
    assert "raise execution.slurm.time" in start(job)[1]["refused"]


def test_a_job_that_is_asked_to_end_before_it_knows_its_runs_goes_back(
    job: ShardJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "9")
    monkeypatch.setattr(Submission, "configs", lambda *_: signal.raise_signal(signal.SIGTERM))
    answering(monkeypatch, "RUNNING")
    assert start(job) == REQUEUED


def test_a_run_that_a_lost_node_still_trains_is_waited_for(job: ShardJob, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ids = Submission.read(job.folder).shards[0]
    busy = Result(failed={run_ids[0]: "the loss is nan"}, elsewhere=[run_ids[1]], exit_code=1)
    calls = training(monkeypatch, busy, dataclasses.replace(busy, failed={}), Result())
    code, outcome = start(job)
    assert calls == [list(run_ids), [run_ids[1]], [run_ids[1]]]
    assert (code, outcome["failed"], outcome["elsewhere"]) == (1, {run_ids[0]: "the loss is nan"}, [])


def test_the_script_runs_the_setup_before_the_job_and_quotes_options(tmp_path: Path) -> None:
    lines = 'execution.slurm.setup=["module load cuda/12","export A=\'b c\'"]'
    options = 'execution.slurm.extra=["comment=a; rm x","container-image=nvcr.io#nvidia/pytorch:25","exclusive"]'
    words = ("execution=slurm", "device=auto", "execution.slurm.gpu=h100", lines, options)
    text = submit.preview(configs(tmp_path, "seed=0,1", *words), {})
    script = text[text.index("#!/bin/bash") :].splitlines()
    assert "#SBATCH --gpus-per-node=h100:1" in script
    assert "#SBATCH --comment='a; rm x'" in script
    assert "#SBATCH --container-image='nvcr.io#nvidia/pytorch:25'" in script
    assert "#SBATCH --exclusive" in script
    first = script.index("module load cuda/12")
    assert script[first + 1] == "export A='b c'"
    assert max(i for i, line in enumerate(script) if line.startswith("#SBATCH")) < first
    (job,) = (i for i, line in enumerate(script) if line.startswith("exec "))
    assert job > first + 1


def test_a_dry_run_lists_the_jobs_and_the_script_without_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    folders = [f"paths.{name}={tmp_path / name}" for name in ("work", "results")]
    words = ["data=synthetic", "scale=smoke", "seed=0,1,2", "execution=slurm", "execution.slurm.runs_per_job=2"]
    assert main(["run", *words, *folders, "execution.slurm.gpu=rtx9", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert [line.count(",") for line in said.splitlines() if line.startswith("job ")] == [1, 0]
    assert "#SBATCH --array=0-1%2" in said
    assert "no benchmark of rtx9" in said and "unknown" in said
    assert not (tmp_path / "work" / jobs.FOLDER).exists()


def test_a_plan_without_missing_runs_has_no_jobs(tmp_path: Path) -> None:
    (run,) = configs(tmp_path, "execution=slurm")
    run.work_dir.mkdir(parents=True)
    (run.work_dir / "record.json").touch()
    assert submit.preview([run], {}) == "no jobs: every run has a record"


def test_submitting_writes_the_story_before_the_jobs_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("sbatch", "srun"):
        (bin_folder / name).write_text('#!/bin/sh\ncp "$1" "$0.script"\necho Submitted batch job 12\n')
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder), prepend=":")
    runs = configs(tmp_path, "seed=0,1,2", "execution=slurm", "execution.slurm.runs_per_job=2")
    (tmp_path / "work" / jobs.FOLDER).mkdir(parents=True)
    (one,) = submit.submit(runs)
    assert Submission.read(one.folder) == one
    assert one.values["dirty"] is environment()["dirty"]
    assert [config.run_id for shard in (0, 1) for config in one.configs(shard)] == [r for s in one.shards for r in s]
    script = (bin_folder / "sbatch.script").read_text()
    assert f"#SBATCH --job-name={one.name}" in script
    assert "#SBATCH --array=0-1%2" in script
    assert "#SBATCH --signal=B:USR2@120" in script
    assert "\nexec " in script, "Python takes the place of the shell, and hears the signal"
    assert len(list(one.folder.glob("12_*_submitted.pkl"))) == 2
