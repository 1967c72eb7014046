"""Trains one run on several devices: starts torchrun here or on the nodes of a Slurm job, or says how elsewhere.

Three kinds of process: the launcher (``train``), torchrun's agent (``main``), and its workers
(``repro.launch.torchrun_worker``), one a device. The agent dies with the launcher and the workers with the agent,
whatever ends them: nobody is left. The workers live in sessions of their own, so that a request to stop goes through a
file.
"""

from __future__ import annotations

import dataclasses
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from repro.config.execution import ExecutionConfig
from repro.config.run import RunConfig
from repro.errors import InputError, RunError, memory_advice, tells_of_memory
from repro.launch.slurm import jobs as slurm
from repro.runtime.lock import Elsewhere as Elsewhere
from repro.runtime.output import steady
from repro.runtime.parent import die_with_parent
from repro.runtime.provenance import read_json, write_json
from repro.runtime.stop import Stopper

PREFIX = ".torchrun-"
JOB, STOP, OUTCOME, CRASH = "job.json", "stop", "outcome.json", "crash.json"
LOG = "torchrun.log"
LOOK_SECONDS = 0.2
LAUNCHER = "REPRO_LAUNCHER"
PORT = 29400
AGENT_KILLS_SECONDS = 30
"""After which torchrun's agent kills what does not end when it is asked."""


def train(config: RunConfig, command: str, stopper: Stopper, say: Callable[[str], None]) -> bool:
    """Trains one run under torchrun, on this machine or on the nodes of the Slurm job that this process is in.

    Returns:
        Whether the run has its record; False where it was asked to stop and saved itself.

    The first rank holds the run's lock while it trains: the caller must not.

    Raises:
        Elsewhere: Another process trains the run.
        InputError: The run cannot be started as it is.
        RunError: It failed on the way, or was killed more often than ``execution.restarts``.
    """
    check(config.execution)
    try:
        config.work_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=config.work_dir))
    except OSError as error:
        raise RunError(f"the folder {config.work_dir} cannot be used ({error.strerror})") from error
    try:
        write_json(folder / JOB, {"config": as_values(config), "command": command})
        with (config.work_dir / LOG).open("ab") as log:
            code = run_agent(folder, config.execution, log, stopper, say)
        return verdict(config, folder, code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(execution: ExecutionConfig) -> None:
    """What can be known to be wrong before anything starts.

    Raises:
        InputError: There are fewer GPUs than devices asked for, or several machines are.
    """
    if execution.nodes > 1 and not slurm.spans(execution.nodes):
        raise InputError(f"execution.nodes={execution.nodes}: torchrun must be started on each machine by itself")
    import torch  # only now: the agent must first see to it that it dies with its launcher

    from repro.runtime.device import pick_device

    if pick_device(execution.device).type == "cuda" and execution.devices > (there := torch.cuda.device_count()):
        raise InputError(f"execution.devices={execution.devices} but this machine has {there} GPUs: lower it")


def as_values(config: RunConfig) -> dict[str, Any]:
    """The run as JSON values for its workers, which have no terminal to draw a bar on."""
    style: Literal["lines", "none"] = "none" if config.execution.progress == "none" else "lines"
    return dataclasses.replace(config, execution=dataclasses.replace(config.execution, progress=style)).to_dict()


def run_agent(
    folder: Path, execution: ExecutionConfig, log: IO[bytes], stopper: Stopper, say: Callable[[str], None]
) -> int:
    """Runs torchrun to its end, passing on what the first rank says and, to it, the request to stop."""
    words = [f"--nproc-per-node={execution.devices}", *elastic(execution), str(folder / JOB)]
    if execution.nodes > 1:
        command = slurm.on_each_node(execution.nodes, words)
    else:
        # Not by this machine's own name, which need not resolve.
        command = [sys.executable, "-m", "repro.launch.torchrun", "--standalone", "--local-addr=127.0.0.1", *words]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
        stderr=log,
        env=os.environ | STORE | {LAUNCHER: str(os.getpid()), "PYTHONIOENCODING": "utf-8"},  # as lines() reads it
        start_new_session=True,  # Ctrl-C is for the launcher, which asks the ranks to save
    ) as agent:
        try:
            assert agent.stdout is not None
            for line in lines(agent.stdout, lambda: agent.poll() is None):
                if line:
                    say(line)
                if stopper.asked():
                    (folder / STOP).touch()
            return agent.wait()
        finally:
            agent.kill()


STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Ranks that start again would otherwise read the addresses of those that were killed."""


def elastic(execution: ExecutionConfig) -> list[str]:
    """torchrun's words for who is started, and how often again."""
    return [f"--max-restarts={execution.restarts}", "--monitor-interval=0.1", "-m", "repro.launch.torchrun_worker"]


def lines(stream: IO[bytes], alive: Callable[[], bool]) -> Iterator[str]:
    """What a process prints, line by line, and an empty line every ``LOOK_SECONDS`` without."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        is_open = True
        while True:
            there = alive()  # asked before reading: what was printed at the very end is read too
            if is_open and selector.select(LOOK_SECONDS if there else 0):
                chunk = os.read(stream.fileno(), 65536)
                is_open = chunk != b""
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
            elif there:
                time.sleep(0 if is_open else LOOK_SECONDS)
                yield ""
            else:
                yield rest.decode(errors="replace")
                return


def verdict(config: RunConfig, folder: Path, code: int) -> bool:
    """What ``train`` returns or raises, once torchrun has ended with ``code``."""
    if (config.work_dir / "record.json").exists():
        for left in config.work_dir.glob(f"{PREFIX}*"):  # by launchers that were killed
            shutil.rmtree(left, ignore_errors=True)
        return True
    log = config.work_dir / LOG
    if (folder / OUTCOME).exists():
        outcome = read_json(folder / OUTCOME)
        if outcome["state"] == "stopped":
            return False
        raise {"refused": InputError, "elsewhere": Elsewhere}.get(outcome["state"], RunError)(outcome["reason"])
    if (folder / CRASH).exists():
        crash = read_json(folder / CRASH)
        times = config.execution.restarts
        again = f", and {'once' if times == 1 else f'{times} times'} more after starting again" * (times > 0)
        raise RunError(f"rank {crash['rank']} {crash['what']}{again}; all of it in {log}")
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    raise RunError(f"torchrun {ended}; what it said is in {log}")


def instructions(execution: ExecutionConfig, words: Sequence[str]) -> str:
    """How to train the runs of ``words`` on several machines: torchrun's command for each."""
    store = " ".join(f"{name}={value}" for name, value in STORE.items())
    torchrun = [
        *("torchrun", f"--nnodes={execution.nodes}", f"--nproc-per-node={execution.devices}"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{PORT}", "--rdzv-id=repro"),
    ]
    command = f"{store} {shlex.join([*torchrun, '--local-addr=ADDRESS', *elastic(execution), *words])}"
    return (
        f"start this on each of the {execution.nodes} machines, with its own address in the place of ADDRESS:\n\n"
        f"  {command}\n\n"
        f"They meet on this one, {socket.gethostname()}, which must be one of them, and share the folder paths.work.\n"
        "Interrupted? The same commands go on where they stopped."
    )


def main(words: Sequence[str]) -> int:
    """torchrun's agent on this machine; the last word names the job."""
    die_with_parent(int(os.environ.pop(LAUNCHER)))
    steady()
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(list(words))
    except ChildFailedError as error:
        rank, first = first_failure(error.failures)
        said = first.message
        line = first_line(said)
        line = memory_advice(line) if tells_of_memory(line) else line
        what = f"was killed ({first.signal_name()})" if first.exitcode < 0 else f"failed: {line}"
        write_json(Path(words[-1]).parent / CRASH, {"rank": rank, "what": what})
        return 1
    return 0


def first_failure(failures: Mapping[int, Any]) -> tuple[int, Any]:
    """The rank that failed of itself, with torchrun's word of it: the others fail because one is gone.

    One that was killed comes first, unless the agent did it: SIGTERM at once, SIGKILL half a minute later.
    """
    began = min(failure.timestamp for failure in failures.values())

    def order(item: tuple[int, Any]) -> tuple[bool, float]:
        code, when = item[1].exitcode, item[1].timestamp
        was_killed = code < 0 and code != -signal.SIGTERM and when < began + AGENT_KILLS_SECONDS / 2
        return not was_killed, when

    return min(failures.items(), key=order)


def first_line(said: object) -> str:
    text = said.get("message") if isinstance(said, dict) else said
    return (str(text).splitlines() or [""])[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
