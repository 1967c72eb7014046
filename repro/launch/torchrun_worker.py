"""What torchrun starts, once for each device: joins the other ranks, then trains a run with them.

``torchrun … -m repro.launch.torchrun_worker key=value…`` trains what the words describe, as `repro run` would,
run by run; with a job's file, which ``repro.launch.torchrun`` writes, one run.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.config.arguments import command_line
from repro.config.run import RunConfig
from repro.errors import AloneError, InputError, RunError
from repro.launch.torchrun import JOB, OUTCOME, STOP
from repro.runtime.lock import Elsewhere, hold
from repro.runtime.output import steady
from repro.runtime.parent import die_with_parent
from repro.runtime.provenance import read_json, write_json
from repro.runtime.stop import Stopper


@dataclass(frozen=True)
class Work:
    """The runs to train, one after the other."""

    configs: list[RunConfig]
    command: str
    folder: Path | None
    """Where the launcher on this machine leaves its request to stop and reads how it ended."""

    @classmethod
    def read(cls, words: Sequence[str]) -> Work:
        """From a job's file, or from settings as `repro run` takes them."""
        if len(words) == 1 and Path(words[0]).name == JOB:
            values = read_json(Path(words[0]))
            return cls([RunConfig.from_dict(values["config"])], str(values["command"]), Path(words[0]).parent)
        from repro.config.compose import plan

        return cls(plan(list(words)).runs, command_line(words), None)


class Request(Stopper):
    """Signals to this process, and the file that the launcher makes."""

    def __init__(self, work: Work) -> None:
        super().__init__(None if work.folder else work.configs[0].execution.max_minutes)
        self._path = work.folder / STOP if work.folder else None

    def asked(self) -> bool:
        return super().asked() or (self._path is not None and self._path.exists())


def main(words: Sequence[str]) -> int:
    """One rank; returns its exit code."""
    die_with_parent()
    steady()
    if "WORLD_SIZE" not in os.environ:
        print(
            "repro: torchrun starts this module; repro run execution=ddp execution.devices=2 does it", file=sys.stderr
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
        # At once: threads of a process group that lost a peer may never end.
        os._exit(1)


def unsuccessful() -> int:
    """Return the exit code of a rank whose runs did not all end well, and see to it that torchrun has another than 0.

    Were it this one's, torchrun would start all ranks again: it is asked to end instead, and has exit code 1.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # srun or mpirun has started the ranks
        return 1
    if os.environ["LOCAL_RANK"] == "0":
        os.kill(os.getppid(), signal.SIGTERM)
    return 0


def work_together(words: Sequence[str]) -> bool:
    """Train the runs; return whether the user's torchrun can end with 0: where a launcher asks, its files tell."""
    work = Work.read(words)
    there = int(os.environ["WORLD_SIZE"])
    for config in work.configs:
        if config.execution.num_ranks != there:
            raise InputError(
                f"torchrun started {there} processes, but execution.devices={config.execution.devices} × "
                f"execution.nodes={config.execution.nodes} asks for {config.execution.num_ranks}"
            )
    from repro.launch.attempts import note_failure
    from repro.runtime import distributed
    from repro.runtime.device import pick_device

    with distributed.joined(pick_device(work.configs[0].execution.device).type), Request(work) as stopper:
        all_done = True
        say: Callable[[str], None] = tell if distributed.is_first() else lambda line: None
        for config in work.configs:
            state, reason = train_run(config, work.command, stopper, say)
            if distributed.is_first() and work.folder is not None:
                with contextlib.suppress(RunError):  # a disk that is full of late: the reason is in the log too
                    write_json(work.folder / OUTCOME, {"state": state, "reason": reason})
                print(f"{config.run_id}: {reason or state}", file=sys.stderr)
            elif distributed.is_first():
                say(f"{config.run_id}: {reason or state}")
                if state in ("failed", "refused"):
                    note_failure(config, reason)
            all_done = all_done and state == "done"
            if state == "stopped":
                break
    return all_done or work.folder is not None


def tell(line: str) -> None:
    print(line, flush=True)


def train_run(config: RunConfig, command: str, stopper: Stopper, say: Callable[[str], None]) -> tuple[str, str]:
    """How a run ended, on all ranks alike, and why: ``done``, ``stopped``, ``failed``, ``refused`` or ``elsewhere``."""
    from repro.data import load_for
    from repro.engine.run import run
    from repro.runtime import distributed

    with contextlib.ExitStack() as held:
        try:
            distributed.on_first(lambda: take(config, held))
            if distributed.shared((config.work_dir / "record.json").exists()):
                return "done", ""
            if distributed.on_any(stopper.asked()):
                return "stopped", ""
            load = functools.partial(load_for, config)
            distributed.on_first(load)  # which may fetch what the others then find
            dataset = distributed.agreed(load)
            if run(config, dataset, command, stopper, say) is None:
                return "stopped", ""
        except Elsewhere as error:
            return "elsewhere", str(error)
        except InputError as error:
            return "refused", str(error)
        except AloneError:
            raise  # ends this process, so that torchrun stops the others and says why
        except RunError as error:
            return "failed", str(error)
    return "done", ""


def take(config: RunConfig, held: contextlib.ExitStack) -> None:
    """Holds the run's lock, which the system drops when this process is gone.

    Raises:
        Elsewhere: Another process holds it.
    """
    from repro.launch.attempts import FAILURE

    held.enter_context(hold(config.work_dir))
    (config.work_dir / FAILURE).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
