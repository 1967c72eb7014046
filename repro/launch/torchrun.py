"""A run on several devices, under torchrun.

There are three kinds of process: the launcher (``train``), torchrun's agent (``main``), and its workers
(``repro.launch.torchrun_worker``), one per device. The agent ends with the launcher and the workers with the agent, so
that no process is left. The workers have their own sessions, which signals do not reach: a file asks them to stop.
"""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from repro.config.execution import ExecutionConfig
from repro.config.run import RunConfig
from repro.errors import InputError, RunError, first_line, memory_advice, tells_of_memory
from repro.launch.outcome import Outcome, is_done
from repro.launch.slurm import jobs as slurm
from repro.runtime.output import steady
from repro.runtime.parent import die_with_parent
from repro.runtime.provenance import read_json, write_json
from repro.runtime.stop import Stopper

log = logging.getLogger(__name__)

PREFIX, LOG = ".torchrun-", "torchrun.log"
JOB, STOP, OUTCOME, CRASH = "job.json", "stop", "outcome.json", "crash.json"
LOOK_SECONDS = 0.2
LAST_LINES_SECONDS = 5.0  # the wait for the last lines if another process keeps the pipe open
LAUNCHER = "REPRO_LAUNCHER"
PORT = 29400
HANDLED = "SIGHUP,SIGQUIT"  # signals that end the agent
AGENT_KILLS_SECONDS = 30  # torchrun's agent waits so long before it kills workers that do not end on SIGTERM


def train(config: RunConfig, stopper: Stopper) -> Outcome:
    """Train one run under torchrun, here or on the nodes of this Slurm job; its first rank holds the run's lock."""
    check(config.execution)
    try:
        config.work_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=config.work_dir))
    except OSError as error:
        raise RunError(f"the folder {config.work_dir} cannot be used ({error.strerror})") from error
    try:
        write_json(folder / JOB, {"config": as_values(config)})
        with (config.work_dir / LOG).open("ab") as output:
            code = run_agent(folder, config.execution, output, stopper)
        return outcome_of(config, folder, code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(execution: ExecutionConfig) -> None:
    """Refuse more devices than exist, and several machines outside of Slurm."""
    if execution.nodes > 1 and not slurm.spans(execution.nodes):
        raise InputError(f"execution.nodes={execution.nodes}: outside of Slurm start torchrun on each machine")
    import torch  # imported late: the agent must first arrange to end with its launcher

    from repro.runtime.device import pick_device

    if pick_device(execution.device).type == "cuda" and execution.devices > (there := torch.cuda.device_count()):
        raise InputError(f"execution.devices={execution.devices} but this machine has {there} GPUs: lower it")


def as_values(config: RunConfig) -> dict[str, Any]:
    """Return the run as JSON values for its workers, which have no terminal for a progress bar."""
    return config.with_execution(progress="none" if config.execution.progress == "none" else "lines").to_dict()


def run_agent(folder: Path, execution: ExecutionConfig, errors: IO[bytes], stopper: Stopper) -> int:
    """Run torchrun to its end; log the lines of its first rank and pass on a stop request."""
    words = [f"--nproc-per-node={execution.devices}", *elastic(execution), str(folder / JOB)]
    if execution.nodes > 1:
        command = slurm.on_each_node(execution.nodes, words)
    else:
        # This machine's own name need not resolve.
        command = [sys.executable, "-m", "repro.launch.torchrun", "--standalone", "--local-addr=127.0.0.1", *words]
    agent = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env=os.environ | STORE | {LAUNCHER: str(os.getpid()), "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,  # Ctrl-C goes only to the launcher, which asks the ranks to save
    )
    assert agent.stdout is not None
    listener = threading.Thread(target=pass_on, args=(agent.stdout,), daemon=True)
    listener.start()
    try:
        while agent.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait(LOOK_SECONDS)
            if stopper.asked():
                (folder / STOP).touch()
        listener.join(LAST_LINES_SECONDS)
        return agent.returncode
    finally:
        agent.kill()
        agent.wait()


def pass_on(lines: IO[str]) -> None:
    with lines:
        for line in lines:
            log.info(line.rstrip("\n"))


STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Without it, restarted ranks would read the addresses of those that were killed."""


def elastic(execution: ExecutionConfig) -> list[str]:
    """Return torchrun's arguments for the module to start and the number of restarts."""
    return [f"--max-restarts={execution.restarts}", "--monitor-interval=0.1", "-m", "repro.launch.torchrun_worker"]


def outcome_of(config: RunConfig, folder: Path, code: int) -> Outcome:
    """Return the outcome of a run whose torchrun has ended with ``code``."""
    if is_done(config):
        for left in config.work_dir.glob(f"{PREFIX}*"):  # by killed launchers
            shutil.rmtree(left, ignore_errors=True)
        return Outcome("done")
    if (folder / OUTCOME).exists():
        return Outcome(**read_json(folder / OUTCOME))
    output = config.work_dir / LOG
    if (folder / CRASH).exists():
        crash, times = read_json(folder / CRASH), config.execution.restarts
        count = "once" if times == 1 else f"{times} times"
        again = f", and {count} more after starting again" if times else ""
        return Outcome("failed", f"rank {crash['rank']} {crash['what']}{again}; full output in {output}")
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Outcome("failed", f"torchrun {ended}; its output is in {output}")


def instructions(execution: ExecutionConfig, words: Sequence[str]) -> str:
    """Return instructions to train the runs of ``words`` on several machines: torchrun's command for each."""
    store = " ".join(f"{name}={value}" for name, value in STORE.items())
    torchrun = [
        *("torchrun", f"--nnodes={execution.nodes}", f"--nproc-per-node={execution.devices}"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={socket.gethostname()}:{PORT}", "--rdzv-id=repro"),
    ]
    command = f"{store} {shlex.join([*torchrun, '--local-addr=ADDRESS', *elastic(execution), *words])}"
    return (
        f"give this command on each of the {execution.nodes} machines, with its own address for ADDRESS:\n\n"
        f"  {command}\n\n"
        f"This machine, {socket.gethostname()}, must be one of them, and all must share the folder paths.work.\n"
        "To resume after an interruption, give the commands again."
    )


def main(words: Sequence[str]) -> int:
    """Run torchrun's agent on this machine; the last word is the job's file."""
    die_with_parent(int(os.environ.pop(LAUNCHER)))
    steady()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A scheduler sends them to all processes. If the agent passed them on, they would be the workers' second ones,
        # which end them before they have saved.
        signal.signal(number, lambda number, frame: None)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun([f"--signals-to-handle={HANDLED}", *words])
    except ChildFailedError as error:
        rank, first = first_failure(error.failures)
        said = first.message
        line = first_line(said.get("message") if isinstance(said, dict) else said)
        line = memory_advice(line) if tells_of_memory(line) else line
        what = f"was killed ({first.signal_name()})" if first.exitcode < 0 else f"failed: {line}"
        write_json(Path(words[-1]).parent / CRASH, {"rank": rank, "what": what})
        return 1
    return 0


def first_failure(failures: Mapping[int, Any]) -> tuple[int, Any]:
    """Return the rank that failed on its own, with its failure; the others fail because one is gone."""
    # A killed rank comes first, unless the agent killed it: with SIGTERM at once, SIGKILL half a minute later.
    late = min(failure.timestamp for failure in failures.values()) + AGENT_KILLS_SECONDS / 2
    codes = {rank: failure.exitcode for rank, failure in failures.items() if failure.timestamp < late}
    killed = {rank: failures[rank] for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM}
    return min((killed or failures).items(), key=lambda item: item[1].timestamp)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
