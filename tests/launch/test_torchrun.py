"""torchrun and its workers, killed during training: the run ends with the same bits and leaves no process."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from repro.config.run import RunConfig
from repro.errors import AloneError, InputError
from repro.launch import torchrun
from repro.launch.outcome import Outcome
from repro.launch.torchrun_worker import Request, main, read, train_run
from repro.runtime import checkpoint
from repro.runtime.lock import hold, is_held
from repro.runtime.log import print_line, send_to
from repro.runtime.provenance import COMMAND, command, read_json, write_json
from repro.runtime.stop import Stopper
from tests.ranks import free_port, on_ranks
from tests.runs import config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

WORDS = (
    *("execution=ddp", "optim.steps=60", "data.image_size=8", "model.depth=8", "eval.every_steps=20"),
    *("execution.checkpoint_seconds=0", "execution.log_steps=1"),
)
SHORT = ("execution=ddp", "optim.steps=2", "optim.milestones=[]", "data.image_size=8", "model.depth=8")
SECONDS = 120.0

takes_minutes = pytest.mark.skipif(not os.environ.get("REPRO_FAULTS"), reason="takes minutes: make test-faults")


def processes(folder: Path) -> dict[int, str]:
    """Return the command lines of the living processes that name ``folder``, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line and (path.parent / "stat").read_text().rpartition(") ")[2][0] != "Z":
                found[int(path.parent.name)] = line
    return found


def worker(folder: Path, rank: int) -> int | None:
    """Return the process id of a rank."""
    for pid, line in processes(folder).items():
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if "torchrun_worker" in line and f"RANK={rank}".encode() in environment:
                return pid
    return None


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_step(of: RunConfig) -> int:
    steps = [int(path.stem.removeprefix("step_")) for path in of.work_dir.glob("step_*.pt")]
    return max(steps, default=0)


@contextlib.contextmanager
def killed_at(of: RunConfig, step: int, rank: int) -> Iterator[list[int]]:
    """Kill a rank once ``step`` is saved; yield the process ids that were killed."""
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: last_step(of) >= step)
        if pid := worker(of.paths.work.parent, rank):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


class StopAt(Stopper):
    """Asks to stop once ``step`` is saved."""

    def __init__(self, of: RunConfig, step: int) -> None:
        super().__init__(None)
        self.of, self.step = of, step

    def asked(self) -> bool:
        return last_step(self.of) >= self.step


def assert_same(one: RunConfig, two: RunConfig) -> None:
    """Compare weights, momentum, statistics and curve to the bit; TensorBoard's steps have no duplicates or gaps."""
    stored = [checkpoint.load(of.work_dir / checkpoint.FINAL) for of in (one, two)]
    assert all(torch.equal(stored[1]["model"][name], tensor) for name, tensor in stored[0]["model"].items())
    momenta = [s["optimizer"]["state"] for s in stored]
    assert all(torch.equal(momenta[1][i]["momentum_buffer"], m["momentum_buffer"]) for i, m in momenta[0].items())
    assert (one.work_dir / "curve.csv").read_text() == (two.work_dir / "curve.csv").read_text()
    results = [read_json(of.work_dir / "record.json")["result"] for of in (one, two)]
    assert results[0] == results[1]
    events = EventAccumulator(str(two.work_dir)).Reload()
    assert [e.step for e in events.Scalars("loss/train")] == list(range(1, 61))


def undisturbed(folder: Path, *words: str) -> str:
    return train_run(config(folder, *WORDS, *words), Stopper(None)).state


@takes_minutes
@pytest.mark.slow
def test_a_killed_worker_a_killed_launcher_and_a_stop_end_with_the_undisturbed_bits(tmp_path: Path) -> None:
    whole, broken = (config(tmp_path / name, *WORDS) for name in ("whole", "broken"))
    assert on_ranks(2, undisturbed, tmp_path / "whole") == ["done", "done"]

    words = ["-m", "tests.launch.test_torchrun", str(tmp_path / "broken")]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as launcher:
        with killed_at(broken, 8, rank=1) as killed:
            assert launcher.stdout is not None
            said = launcher.stdout.readline()
        assert killed
        assert "resumes at step" in said, "torchrun has started all ranks again"
        restarted = last_step(broken)
        wait_for(lambda: last_step(broken) >= restarted + 4)
        there = [line for line in processes(tmp_path).values() if "torchrun_worker" in line]
        assert len(there) == 3, "an agent and two workers"
        launcher.kill()
    wait_for(lambda: not processes(tmp_path))
    wait_for(lambda: not is_held(broken.work_dir))
    assert not (broken.work_dir / "record.json").exists(), "it was to be killed before its end"

    before = last_step(broken)
    assert torchrun.train(broken, StopAt(broken, before + 4)) == Outcome("stopped")
    assert processes(tmp_path) == {}
    assert before + 4 <= last_step(broken) < 60

    assert on_ranks(2, undisturbed, tmp_path / "broken") == ["done", "done"]
    assert torchrun.outcome_of(broken, tmp_path, 0) == Outcome("done")
    assert not list(broken.work_dir.glob(f"{torchrun.PREFIX}*")), "what the killed launcher left"
    assert_same(whole, broken)


@pytest.mark.slow
def test_a_signal_to_all_processes_lets_the_run_save(tmp_path: Path) -> None:
    """Slurm sends SIGTERM to all processes of a step when it preempts a job."""
    words = (
        *("execution=ddp", "model.depth=20", "data.image_size=16", "optim.steps=1000", "eval.every_steps=1000"),
        *("execution.checkpoint_seconds=0", "execution.log_steps=50"),
    )
    of = config(tmp_path, *words)
    command = [sys.executable, "-m", "tests.launch.test_torchrun", str(tmp_path), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        wait_for(lambda: last_step(of) >= 50)
        before, there = last_step(of), processes(tmp_path)
        assert len(there) == 4, "launcher, agent and two workers"
        workers = [worker(tmp_path, rank) for rank in (0, 1)]
        for pid in sorted(there, key=lambda pid: pid not in workers):
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)  # so that the agent hears it after its workers, which go on to their next save
        said, _ = launcher.communicate(timeout=SECONDS)
    assert said.splitlines()[-1] == "stopped"
    assert before < last_step(of) < 1000
    assert processes(tmp_path) == {}


@takes_minutes
@pytest.mark.slow
def test_two_agents_with_a_killed_worker_end_with_the_undisturbed_bits(tmp_path: Path) -> None:
    """The test starts the command that is printed for several machines."""
    words = (*WORDS, "execution.nodes=2", "execution.devices=1")
    whole, broken = (config(tmp_path / name, *words) for name in ("whole", "broken"))
    assert on_ranks(2, undisturbed, tmp_path / "whole", "execution.nodes=2", "execution.devices=1") == ["done"] * 2

    given = [f"paths.{name}={tmp_path / 'broken' / name}" for name in ("data", "work", "results")]
    given += ["data=synthetic", "scale=smoke", "execution.threads=1", "execution.progress=none", "device=cpu"]
    printed = torchrun.instructions(broken.execution, [*words, *given])
    (line,) = (line for line in printed.splitlines() if "torchrun" in line)
    endpoint, port = f"{socket.gethostname()}:{torchrun.PORT}", free_port()
    line = line.replace(endpoint, f"127.0.0.1:{port}").replace("ADDRESS", "127.0.0.1")
    store, command, *arguments = shlex.split(line)
    assert command == "torchrun"
    environment = os.environ | dict([store.split("=")])
    log = (tmp_path / "log").open("wb")
    with killed_at(broken, 20, rank=1) as killed:
        agents = [
            subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *arguments], env=environment, stderr=log)
            for _ in range(2)
        ]
        codes = [agent.wait(SECONDS) for agent in agents]
    assert codes == [0, 0], (tmp_path / "log").read_text()
    assert killed
    wait_for(lambda: not processes(tmp_path))
    assert read_json(broken.work_dir / "record.json")["provenance"]["resumed_at"]
    assert_same(whole, broken)


@pytest.mark.slow
def test_the_printed_command_of_a_failed_run_is_no_success(tmp_path: Path) -> None:
    several = config(tmp_path, *SHORT, "execution.nodes=2", "execution.devices=1")
    given = [f"paths.{name}={tmp_path / name}" for name in ("data", "work", "results")]
    words = [*SHORT, "data=synthetic", "scale=smoke", "device=cpu", "optim.lr=1e30", "execution.devices=1", *given]
    printed = torchrun.instructions(several.execution, words)
    (line,) = (line for line in printed.splitlines() if "torchrun" in line)
    line = line.replace(f"{socket.gethostname()}:{torchrun.PORT}", f"127.0.0.1:{free_port()}")
    line = line.replace("ADDRESS", "127.0.0.1").replace("--nnodes=2", "--nnodes=1")
    store, _, *arguments = shlex.split(line)
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(
        command, env=os.environ | dict([store.split("=")]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.count("the loss is") == 1, "a run that fails is not tried again"


@pytest.mark.parametrize(("outcome", "code", "asked"), [(True, 0, 0), (False, 0, 1)])
def test_runs_that_did_not_end_well_end_torchrun(
    monkeypatch: pytest.MonkeyPatch, outcome: bool, code: int, asked: int
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("repro.launch.torchrun_worker.die_with_parent", lambda: None)
    monkeypatch.setattr("repro.launch.torchrun_worker.work_together", lambda words: outcome)
    monkeypatch.setattr(os, "kill", lambda *to: sent.append(to))
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "repro"}.items():
        monkeypatch.setenv(name, value)
    assert main(["seed=0"]) == code
    assert sent == [(os.getppid(), signal.SIGTERM)] * asked
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert main(["seed=0"]) == int(not outcome), "started by srun or mpirun"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="gives the machine another name, in a namespace of its own")
def test_several_devices_of_one_machine_need_no_name_service(tmp_path: Path) -> None:
    given = [f"paths.{name}={tmp_path / name}" for name in ("data", "work", "results")]
    words = [*SHORT, "data=synthetic", "scale=smoke", "device=cpu", "execution.threads=1", *given]
    command = shlex.join([sys.executable, "-m", "repro", "run", *words])
    script = f"hostname nosuchhost && {command}"
    done = subprocess.run(
        ["unshare", "-u", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "work").glob("*/record.json"))


def endings(folder: Path) -> dict[str, Outcome]:
    """Return how a worker's run ends with each obstacle."""
    from repro.runtime import distributed

    found = {}
    for name in ("done", "elsewhere", "refused", "failed", "asked"):
        of = config(folder / name, *SHORT)
        stopper = Stopper(0.0 if name == "asked" and distributed.rank() == 1 else None)
        with contextlib.ExitStack() as stack:
            if distributed.rank() == 1:
                of.work_dir.mkdir(parents=True)
                if name == "refused":
                    write_json(of.work_dir / "config.json", {"fingerprint": "0" * 16})
                if name == "failed":  # a folder in place of the file makes writing fail
                    (of.work_dir / "curve.csv").mkdir()
                if name == "elsewhere":
                    stack.enter_context(hold(of.work_dir))
            distributed.agreed(lambda: None)
            found[name] = train_run(of, stopper)
    return found


def test_every_rank_knows_how_the_run_ended(tmp_path: Path) -> None:
    first, second = on_ranks(2, endings, tmp_path)
    assert first == second
    assert {name: outcome.state for name, outcome in first.items()} == {
        "done": "done",
        "elsewhere": "elsewhere",
        "refused": "failed",
        "failed": "failed",
        "asked": "stopped",
    }
    assert "is being trained by another process" in first["elsewhere"].reason
    assert "holds another run" in first["refused"].reason
    assert "curve.csv cannot be written" in first["failed"].reason


@pytest.mark.parametrize(
    ("file", "values", "state", "reason"),
    [
        ("outcome.json", {"state": "failed", "reason": "the loss is nan"}, "failed", "the loss is nan"),
        ("outcome.json", {"state": "elsewhere", "reason": "trained"}, "elsewhere", "trained"),
        ("outcome.json", {"state": "stopped"}, "stopped", ""),
        ("crash.json", {"rank": 1, "what": "was killed (SIGKILL)"}, "failed", "rank 1 was killed (SIGKILL), and 3 t"),
        ("nothing.json", {}, "failed", "torchrun was ended by SIGKILL"),
    ],
)
def test_the_launcher_knows_how_it_ended(
    tmp_path: Path, file: str, values: dict[str, object], state: str, reason: str
) -> None:
    one = config(tmp_path, *WORDS)
    write_json(tmp_path / file, values)
    found = torchrun.outcome_of(one, tmp_path, -signal.SIGKILL)
    assert found.state == state
    assert found.reason.startswith(reason)


def test_the_worker_that_was_killed_is_named_before_those_that_failed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {
        rank: ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file="") for rank, code in [(0, 1), (1, -9)]
    }

    def fail(words: list[str]) -> None:
        raise ChildFailedError("repro.launch.torchrun_worker", failures)

    monkeypatch.setattr("torch.distributed.run.main", fail)
    monkeypatch.setattr(torchrun, "die_with_parent", lambda parent: None)
    monkeypatch.setenv(torchrun.LAUNCHER, "1")
    assert torchrun.main(["--standalone", str(tmp_path / torchrun.JOB)]) == 1
    assert read_json(tmp_path / torchrun.CRASH) == {"rank": 1, "what": "was killed (SIGKILL)"}


def test_what_the_agent_ends_itself_is_not_the_reason() -> None:
    def failure(code: int, when: int) -> ProcessFailure:
        found = ProcessFailure(local_rank=0, pid=1, exitcode=code, error_file="")
        found.timestamp = when
        return found

    alone = {0: failure(-9, 130), 1: failure(1, 100), 2: failure(-15, 100), 3: failure(-9, 130)}
    assert torchrun.first_failure(alone)[0] == 1, "the others hung and were killed half a minute later"
    killed = {0: failure(1, 100), 1: failure(-9, 101), 2: failure(-15, 101)}
    assert torchrun.first_failure(killed)[0] == 1, "out of memory: the first fails because it is gone"


def test_what_only_one_rank_knows_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(*_: object) -> None:
        raise AloneError("a photograph can no longer be read")

    monkeypatch.setattr("repro.engine.run.run", alone)
    with pytest.raises(AloneError), Stopper(None) as stopper:
        train_run(config(tmp_path, *SHORT), stopper)


def test_a_job_goes_to_its_workers_whole_and_a_stop_reaches_them(tmp_path: Path) -> None:
    one = config(tmp_path, *WORDS, "execution.progress=bar")
    write_json(tmp_path / torchrun.JOB, {"config": torchrun.as_values(one)})
    (found,), folder = read([str(tmp_path / torchrun.JOB)])
    assert (found.run_id, found.paths) == (one.run_id, one.paths)
    assert found.execution.progress == "lines", "a worker has no terminal"
    request = Request(folder, None)
    assert not request.asked()
    (tmp_path / torchrun.STOP).touch()
    assert request.asked()


def test_several_nodes_are_reached_through_their_slurm_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    several = config(tmp_path, *WORDS, "execution.nodes=2", "execution.devices=1", "device=cpu")
    asked: list[list[str]] = []

    def on_each_node(nodes: int, words: list[str]) -> list[str]:
        asked.append([str(nodes), *words])
        return [sys.executable, "-c", "print('goes on'); raise SystemExit(3)"]

    monkeypatch.setattr("repro.launch.slurm.jobs.spans", lambda nodes: nodes == 2)
    monkeypatch.setattr("repro.launch.slurm.jobs.on_each_node", on_each_node)
    outcome = torchrun.train(several, Stopper(None))
    assert outcome.state == "failed" and outcome.reason.startswith("torchrun ended with exit code 3")
    assert told == ["goes on"]
    assert asked[0][:2] == ["2", "--nproc-per-node=1"]
    assert asked[0][-1].endswith(torchrun.JOB)


def test_words_are_composed_as_repro_run_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "")
    configs, folder = read(["data=synthetic", "seed=0,1", "execution=ddp", f"paths.work={tmp_path}"])
    assert [c.seed for c in configs] == [0, 1]
    assert command() == "repro run data=synthetic seed=0,1"
    assert folder is None


def test_lines_come_whole_and_the_last_without_its_end(told: list[str]) -> None:
    script = "import sys, time; print('tw', end='', flush=True); time.sleep(0.2); print('o\\nlast', end='')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        torchrun.pass_on(process.stdout)
    assert told == ["two", "last"]


def test_what_cannot_start_is_said_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = config(tmp_path, *WORDS, "execution.nodes=2")
    with pytest.raises(InputError, match=r"execution\.nodes=2"):
        torchrun.train(several, Stopper(None))
    assert not several.work_dir.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("repro.launch.torchrun_worker.die_with_parent", lambda: None)
        assert main(["data=synthetic"]) == 2
    assert "repro run execution=ddp" in capsys.readouterr().err


if __name__ == "__main__":
    send_to(print_line)
    with Stopper(None) as asked:
        print(torchrun.train(config(Path(sys.argv[1]), *(sys.argv[2:] or WORDS)), asked).state)
