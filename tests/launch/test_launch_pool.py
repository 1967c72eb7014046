"""Several runs at once: the same bits as in sequence, whichever process is killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.cli.status import statuses
from repro.config.run import RunConfig
from repro.launch import worker
from repro.launch.outcome import Outcome
from repro.launch.plan import Result, launch
from repro.launch.pool import Pool, Worker
from repro.launch.process import listen
from repro.launch.slots import Slot
from repro.report.tensorboard import SUFFIX
from repro.runtime import checkpoint, nvidia_mps
from repro.runtime.provenance import COMMAND, read_json
from repro.runtime.stop import LATER
from tests.runs import configs

TRAINING = {
    "model.depth": "8",
    "data.image_size": "8",
    "optim.steps": "40",
    "optim.milestones": "[]",
    "eval.every_steps": "20",
    # With a checkpoint after every step, every kill finds one.
    "execution.log_steps": "1",
    "execution.checkpoint_seconds": "0",
}
AT_ONCE = "execution.parallel=2"
SEEDS = "seed=0,1,2"


def training(*words: str) -> list[str]:
    """Return the settings ``words``, with defaults for the others."""
    given = {word.partition("=")[0] for word in words}
    return [*words, *(f"{key}={value}" for key, value in TRAINING.items() if key not in given)]


def plan(folder: Path, *words: str) -> list[RunConfig]:
    return configs(folder, *training(*words))


def go(runs: list[RunConfig]) -> Result:
    return launch(runs, lambda _: None)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `repro run` as a process, on the runs of ``plan``."""
    smoke = ["data=synthetic", "scale=smoke", "execution.threads=1", "device=cpu"]
    paths = [f"paths.{name}={folder / name}" for name in ("work", "data", "results")]
    command = [sys.executable, "-m", "repro", "run", *smoke, *training(*words), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def assert_same(found: list[RunConfig], expected: list[RunConfig]) -> None:
    for one, two in zip(found, expected, strict=True):
        assert (one.work_dir / "curve.csv").read_bytes() == (two.work_dir / "curve.csv").read_bytes()
        results = [json.loads((c.work_dir / "record.json").read_text())["result"] for c in (one, two)]
        assert results[0] == results[1]
        weights = [checkpoint.load(c.work_dir / checkpoint.FINAL)["model"] for c in (one, two)]
        assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def owner_pid(run: RunConfig) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads((run.work_dir / "owner.json").read_text())["pid"])
    return None


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextlib.contextmanager
def killer(run: RunConfig, times: int) -> Iterator[None]:
    """Kills the process that trains ``run`` each time it has saved a step."""

    def kill() -> None:
        before: set[object] = {None}
        for _ in range(times):
            wait_for(lambda: owner_pid(run) not in before and checkpoint.checkpoints(run.work_dir))
            pid = owner_pid(run)
            assert pid is not None and pid != os.getpid()
            os.kill(pid, signal.SIGKILL)
            before.add(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    yield
    thread.join(1)
    assert not thread.is_alive(), "it found nobody to kill"


def workers(folder: Path) -> set[int]:
    """List the living worker processes of the runs in ``folder``."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if "repro.launch.worker" in words and str(folder / "work") in words:
                found.add(int(path.parent.name))
    return found


def fake_slots(monkeypatch: pytest.MonkeyPatch, *slots: Slot) -> None:
    monkeypatch.setattr("repro.launch.plan.slots_for", lambda _: list(slots))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[RunConfig]:
    """Train the runs one after the other in this process."""
    runs = plan(tmp_path_factory.mktemp("alone"), SEEDS)
    assert go(runs).exit_code == 0
    return runs


@pytest.mark.parametrize("width", [1, 2])
def test_at_once_gives_the_bits_of_one_after_the_other(
    alone: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, told: list[str]
) -> None:
    """In two processes, and in two threads of one process."""
    monkeypatch.setenv(COMMAND, "repro run seed=0,1,2")
    if width == 2:
        fake_slots(monkeypatch, Slot(width=2))
    runs = plan(tmp_path, SEEDS, AT_ONCE)
    result = go(runs)
    assert (result.exit_code, result.finished) == (0, runs)
    assert "2 runs at once" in told[1] and "1 thread each" in told[1]
    assert_same(runs, alone)
    commands = {read_json(run.work_dir / "record.json")["provenance"]["command"] for run in runs}
    assert commands == {"repro run seed=0,1,2"}, "workers inherit it"


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["streams", "mps"])
def test_runs_that_share_a_gpu_each_have_the_bits_of_one_alone(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads of one process, and in processes under MPS; the launcher chooses by what is there."""
    seen: list[tuple[list[Slot], bool]] = []

    class Seen(Pool):
        def __init__(self, slots: list[Slot], environment: dict[str, str], *more: Any) -> None:
            seen.append((slots, bool(environment)))
            super().__init__(slots, environment, *more)

    monkeypatch.setattr("repro.launch.plan.Pool", Seen)
    if how == "streams":
        monkeypatch.setattr(nvidia_mps, "CONTROL", "a program that is not there")
    elif shutil.which(nvidia_mps.CONTROL) is None:
        pytest.skip("no MPS on this machine")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # MPS has sockets inside, whose names must be short
        words = ("device=cuda", "execution.step=graph", "seed=0,1")
        one_by_one = plan(Path(folder, "1"), *words, "execution.runs_per_gpu=1", "execution.parallel=1")
        together = plan(Path(folder, "2"), *words, "execution.runs_per_gpu=2", "execution.parallel=2")
        assert (go(one_by_one).exit_code, go(together).exit_code) == (0, 0)
        assert_same(together, one_by_one)
    ((slots, has_mps),) = seen
    assert has_mps == (how == "mps")
    assert [slot.width for slot in slots] == ([1, 1] if has_mps else [2])


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_a_failing_run_and_a_killed_worker_hurt_nobody_else(
    alone: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """Not even runs in the same process."""
    fake_slots(monkeypatch, Slot(width=2))
    runs = plan(tmp_path, "seed=0,1", AT_ONCE)
    (bad,) = plan(tmp_path, "optim.lr=1e30", AT_ONCE)
    with killer(runs[0], times=1):
        result = go([runs[0], bad, runs[1]])
    assert result.exit_code == 1
    assert list(result.failed) == [bad.run_id]
    assert "the loss is" in (bad.work_dir / "failure.txt").read_text()
    assert any("was killed (SIGKILL); out of memory?; the run resumes" in line for line in told)
    assert result.finished == runs
    assert_same(runs, alone[:2])


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_a_process_that_had_a_fault_is_left_by_all(
    alone: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    fake_slots(monkeypatch, Slot(width=2))
    runs = plan(tmp_path, "seed=0,1", AT_ONCE)
    (odd,) = plan(tmp_path, "seed=9", AT_ONCE)
    odd.work_dir.mkdir(parents=True)
    checkpoint.save(checkpoint.step_path(odd.work_dir, 1), {"model": {}})
    result = go([runs[0], odd, runs[1]])
    assert list(result.failed) == [odd.run_id]
    assert "Traceback" in (odd.work_dir / "failure.txt").read_text() and "Traceback" not in "".join(told)
    assert result.finished == runs
    assert f"{runs[0].run_id}: its process had a fault; the run resumes from what it saved" in told
    assert_same(runs, alone[:2])


def test_a_worker_sees_the_gpu_of_its_slot_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []

    def popen(words: list[str], **options: Any) -> Any:
        started.append(options["env"])
        return SimpleNamespace(stdin=io.BytesIO(), stdout=io.BytesIO())

    monkeypatch.setattr("repro.launch.process.subprocess.Popen", popen)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    (run,) = plan(tmp_path, "seed=0")
    for slot in (Slot(gpu="7"), Slot()):
        Worker(slot, {"REPRO_MPS": "1"}, queue.SimpleQueue()).give(run, alone=False)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in started] == ["7", "5,7"]
    assert [env["REPRO_MPS"] for env in started] == ["1", "1"]


def test_a_worker_sees_to_its_signals_and_its_output_before_it_imports_torch() -> None:
    """The output of a library during its import must not get among the messages."""
    code = "import sys, repro.launch.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_a_message_of_a_killed_worker_does_not_hide_its_end() -> None:
    found: list[Any] = []
    whole = pickle.dumps(("a run", Outcome("done")))
    listen(io.BytesIO(whole + whole[:-9]), found.append)
    assert found == [("a run", Outcome("done")), None]


def test_a_line_is_told_with_the_run_of_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[tuple[str, str | Outcome]] = []
    trainer = worker.Trainer(2, messages.append)

    def attempt(config: RunConfig, *_: object) -> Outcome:
        trainer.say(f"seed {config.seed}")
        return Outcome("done")

    monkeypatch.setattr("repro.launch.attempts.attempt", attempt)
    runs = plan(tmp_path, "seed=0,1")
    for run in runs:
        thread = threading.Thread(target=trainer.train, args=(run,))
        thread.start()
        thread.join()
    trainer.say("of no run")
    lines = [(run.run_id, line) for run in runs for line in (f"seed {run.seed}", Outcome("done"))]
    assert messages == [*lines, ("", "of no run")]


def test_a_thread_keeps_its_stream_for_all_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch hands out 32 streams in turns, so one stream per run would soon be shared with another thread."""
    made: list[object] = []

    def stream() -> object:
        made.append(object())
        return made[-1]

    used: list[object] = []

    def on(own: object) -> contextlib.AbstractContextManager[None]:
        used.append(own)
        return contextlib.nullcontext()

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.Stream", stream)
    monkeypatch.setattr("torch.cuda.stream", on)
    trainer = worker.Trainer(2, lambda message: None)
    monkeypatch.setattr("repro.launch.attempts.attempt", lambda *_: Outcome("done"))
    (one,) = plan(tmp_path, "seed=0")
    for _ in range(2):
        trainer.train(one)
    beside = threading.Thread(target=trainer.train, args=(one,))
    beside.start()
    beside.join()
    assert used == [made[0], made[0], made[1]] and len(made) == 2


def test_who_shares_a_process(tmp_path: Path) -> None:
    """Precision, determinism and threads are settings of a whole process, so mixing them would change numbers."""
    words = ["seed=0", "model.depth=14", "optim.precision=bf16", "execution.threads=2", "execution.step=compile"]
    words.append("execution.deterministic=false")
    one, like, *others = (plan(tmp_path, word)[0] for word in words)
    there = Worker(Slot(width=2), {}, queue.SimpleQueue())
    assert there.takes(one, alone=True)
    there.runs["one"] = one
    assert there.takes(like, alone=False)
    assert not there.takes(like, alone=True), "whoever may have crashed a process gets one to itself"
    assert not any(there.takes(other, alone=False) for other in others)
    there.runs["another"] = like
    assert not there.takes(like, alone=False), "it is full"


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_a_run_whose_process_is_killed_twice_is_given_up_and_tried_by_the_next_command(
    alone: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slots(monkeypatch, Slot())
    runs = plan(tmp_path)
    with killer(runs[0], times=2):
        result = go(runs)
    assert result.exit_code == 1
    assert result.failed[runs[0].run_id] == "its process was killed (SIGKILL) twice; out of memory?"
    (status,) = statuses(runs[0].paths.work)
    assert (status.state, status.note) == ("failed", result.failed[runs[0].run_id])
    monkeypatch.undo()
    assert go(runs).exit_code == 0
    assert_same(runs, alone[:1])


def saved(runs: list[RunConfig]) -> bool:
    return any(checkpoint.checkpoints(run.work_dir) for run in runs)


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_a_launcher_that_is_killed_leaves_no_child_and_moves_no_bit(alone: list[RunConfig], tmp_path: Path) -> None:
    runs = plan(tmp_path, SEEDS)
    process = start(tmp_path, SEEDS, AT_ONCE)
    wait_for(lambda: saved(runs))
    assert len(workers(tmp_path)) >= 2
    process.kill()
    process.communicate(timeout=300)
    wait_for(lambda: not workers(tmp_path))
    left = {s.state for s in statuses(runs[0].paths.work)}
    assert "interrupted" in left and left <= {"interrupted", "done"}
    assert go(runs).exit_code == 0
    assert_same(runs, alone)


def test_sigterm_saves_all_and_the_same_command_goes_on(
    alone: list[RunConfig], tmp_path: Path, told: list[str]
) -> None:
    runs = plan(tmp_path, SEEDS, AT_ONCE)

    def ask() -> None:
        wait_for(lambda: saved(runs) and workers(tmp_path))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    result = go(runs)
    thread.join(1)
    assert result.exit_code == 128 + signal.SIGTERM
    assert told[-1] == "stopped (SIGTERM): everything is saved; the same command resumes"
    assert not workers(tmp_path), "the launcher waits for them"
    left = {s.state for s in statuses(runs[0].paths.work)}
    assert "interrupted" in left and left <= {"interrupted", "done"}
    again = plan(tmp_path, SEEDS)
    assert go(again).exit_code == 0
    assert_same(again, alone)


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_a_second_signal_ends_at_once_and_leaves_no_child(tmp_path: Path) -> None:
    # Results are not read before the last step, so a worker that is asked to stop takes long.
    words = ("optim.steps=100000", "execution.log_steps=100000", "eval.every_steps=100000")
    runs = plan(tmp_path, *words, "seed=0,1")
    process = start(tmp_path, *words, "seed=0,1", AT_ONCE)
    work = runs[0].paths.work
    wait_for(lambda: [s.state for s in statuses(work)] == ["running"] * 2 and all(map(owner_pid, runs)))
    owners = {owner_pid(run) for run in runs}
    assert len(owners) == 2 and owners <= workers(tmp_path)
    assert {int(s.note.split(",")[0].removeprefix("pid ")) for s in statuses(work)} == owners
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None and owners <= workers(tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    wait_for(lambda: not workers(tmp_path), 10)


def test_an_orphan_that_cannot_save_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 1])
    slept: list[float] = []
    monkeypatch.setattr("os.getppid", lambda: next(parents))
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit):
        worker._end_as_orphan(7)
    assert slept == [1, 1, worker.ORPHAN_SECONDS]


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_two_launchers_at_once_train_each_run_once(alone: list[RunConfig], tmp_path: Path) -> None:
    runs = plan(tmp_path, SEEDS)
    processes = [start(tmp_path, SEEDS), start(tmp_path, SEEDS)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    # The command without runs left to start ends with LATER while the other still trains its last run.
    codes = [process.returncode for process in processes]
    assert 0 in codes and set(codes) <= {0, LATER}, said
    assert_same(runs, alone)
    for run in runs:
        events = [path for path in run.work_dir.glob("events.out.tfevents.*") if path.suffix != SUFFIX]
        assert len(events) == 1, "each training writes one of its own"


@pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")
def test_time_that_is_up_saves_all_and_the_same_command_goes_on(
    alone: list[RunConfig], tmp_path: Path, told: list[str]
) -> None:
    result = go(plan(tmp_path, SEEDS, AT_ONCE, "execution.max_minutes=1e-9"))
    assert result.exit_code == 75
    assert "the same command resumes" in told[-1]
    runs = plan(tmp_path, SEEDS)
    assert [s.state for s in statuses(runs[0].paths.work)] == ["interrupted"] * 2
    assert all(checkpoint.checkpoints(c.work_dir) for c in runs if c.work_dir.exists()), "each came to save a step"
    assert go(runs).exit_code == 0
    assert_same(runs, alone)
