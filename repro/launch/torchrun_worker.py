"""A rank, which torchrun starts for each device.

``torchrun … -m repro.launch.torchrun_worker key=value…`` trains the runs of these settings in sequence, as `repro run`
would. With a job's file, which ``repro.launch.torchrun`` writes, it trains one run.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from repro.config.arguments import command_line
from repro.config.run import RunConfig
from repro.errors import AloneError, InputError, RunError
from repro.launch.failure import FAILURE, note_failure
from repro.launch.outcome import Outcome, is_done
from repro.launch.torchrun import JOB, OUTCOME, STOP
from repro.runtime.lock import Elsewhere, hold
from repro.runtime.log import print_line, send_to
from repro.runtime.output import steady
from repro.runtime.parent import die_with_parent
from repro.runtime.provenance import read_json, set_command, write_json
from repro.runtime.stop import Stopper

log = logging.getLogger("repro.launch.torchrun_worker")  # not __name__: torchrun starts it as __main__


def read(words: Sequence[str]) -> tuple[list[RunConfig], Path | None]:
    """Read the runs to train: from a job's file, with its folder, or from settings as in `repro run`."""
    if len(words) == 1 and Path(words[0]).name == JOB:
        return [RunConfig.from_dict(read_json(Path(words[0]))["config"])], Path(words[0]).parent
    from repro.config.compose import plan

    set_command(command_line(words))
    return plan(list(words)).runs, None


class Request(Stopper):
    """Stop requests by signals to this process, or by the launcher's file in ``folder``."""

    def __init__(self, folder: Path | None, max_minutes: float | None) -> None:
        super().__init__(None if folder else max_minutes)
        self._path = folder / STOP if folder else None

    def asked(self) -> bool:
        return super().asked() or (self._path is not None and self._path.exists())


def main(words: Sequence[str]) -> int:
    """Train as one rank; return its exit code."""
    die_with_parent()
    steady()
    if "WORLD_SIZE" not in os.environ:
        print(
            "repro: only torchrun may start this module: use `repro run execution=ddp execution.devices=2`",
            file=sys.stderr,
        )
        return 2
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        return 0 if record(work_together)(words) else unsuccessful()
    except InputError as error:
        if os.environ["RANK"] == "0":
            print(f"repro: {error}", file=sys.stderr)
        return unsuccessful()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        # Exit at once: threads of a process group that lost a peer may never end.
        os._exit(1)


def unsuccessful() -> int:
    """Return the exit code of an unsuccessful rank, and make torchrun end with 1."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # srun or mpirun has started the ranks
        return 1
    if os.environ["LOCAL_RANK"] == "0":
        os.kill(os.getppid(), signal.SIGTERM)  # if this rank exited with 1, torchrun would restart all ranks
    return 0


def work_together(words: Sequence[str]) -> bool:
    """Train the runs; return whether torchrun should end with 0, as always if a launcher reads the outcome."""
    configs, folder = read(words)
    there = int(os.environ["WORLD_SIZE"])
    for execution in (config.execution for config in configs):
        if execution.num_ranks != there:
            raise InputError(
                f"torchrun started {there} processes, but execution.devices={execution.devices} × "
                f"execution.nodes={execution.nodes} asks for {execution.num_ranks}"
            )
    from repro.runtime import distributed
    from repro.runtime.device import pick_device

    request = Request(folder, configs[0].execution.max_minutes)
    with distributed.joined(pick_device(configs[0].execution.device).type), request as stopper:
        send_to(print_line if distributed.is_first() else lambda line: None)
        all_done = True
        for config in configs:
            outcome = train_run(config, stopper)
            if distributed.is_first():
                report(config, outcome, folder)
            all_done = all_done and outcome.state == "done"
            if outcome.state == "stopped":
                break
    return all_done or folder is not None


def report(config: RunConfig, outcome: Outcome, folder: Path | None) -> None:
    """Report the outcome of a run to the launcher, or without one to the user."""
    line = f"{config.run_id}: {outcome.reason or outcome.state}"
    if folder is not None:
        with contextlib.suppress(RunError):  # the disk may be full: the reason is in the output too
            write_json(folder / OUTCOME, dataclasses.asdict(outcome))
        print(line, file=sys.stderr)
    else:
        log.info(line)
        if outcome.state == "failed":
            note_failure(config, outcome.reason)


def train_run(config: RunConfig, stopper: Stopper) -> Outcome:
    """Train a run; return its outcome, the same on all ranks."""
    from repro.data import load_any
    from repro.engine.run import run_any
    from repro.runtime import distributed

    with contextlib.ExitStack() as held:
        try:
            distributed.on_first(lambda: take(config, held))
            if distributed.shared(is_done(config)):
                return Outcome("done")
            if distributed.on_any(stopper.asked()):
                return Outcome("stopped")
            load = functools.partial(load_any, config)
            distributed.on_first(load)  # it may fetch the data for the other ranks
            done = run_any(config, distributed.agreed(load), stopper) is not None
            return Outcome("done" if done else "stopped")
        except Elsewhere as error:
            return Outcome("elsewhere", str(error))
        except AloneError:
            raise  # ends this process, so that torchrun stops the others and says why
        except (InputError, RunError) as error:
            return Outcome("failed", str(error))


def take(config: RunConfig, held: contextlib.ExitStack) -> None:
    """Hold the run's lock, which the system releases when this process ends."""
    held.enter_context(hold(config.work_dir))
    (config.work_dir / FAILURE).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
