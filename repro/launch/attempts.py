"""Training one run so that nothing that goes wrong with it reaches another: what became of it, and why."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from repro.config.run import RunConfig
from repro.data import Dataset
from repro.engine.run import run
from repro.errors import InputError, RunError, is_out_of_memory, memory_advice
from repro.launch import torchrun
from repro.runtime.lock import Elsewhere, hold
from repro.runtime.stop import Stopper

FAILURE = "failure.txt"
"""Why a run failed, in its folder."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    state: Literal["finished", "stopped", "elsewhere", "failed"]
    reason: str = ""
    sound: bool = True
    """Whether the process can be trusted with another run: not after an error that nobody foresaw."""


def attempt(
    config: RunConfig,
    dataset_of: Callable[[RunConfig], Dataset],
    command: str,
    stopper: Stopper,
    say: Callable[[str], None],
) -> Outcome:
    """Trains one run under its lock. A failure is noted, in its folder too, and does not spread."""
    failure = config.work_dir / FAILURE
    sound = True
    try:
        if config.execution.num_ranks > 1:
            failure.unlink(missing_ok=True)
            done = torchrun.train(config, command, stopper, say)  # its first rank holds the lock
            return Outcome("finished" if done else "stopped")
        with hold(config.work_dir):
            if is_done(config):
                return Outcome("finished")
            failure.unlink(missing_ok=True)
            done = run(config, dataset_of(config), command, stopper, say) is not None
            return Outcome("finished" if done else "stopped")
    except Elsewhere as error:
        return Outcome("elsewhere", str(error))
    except (InputError, RunError) as error:
        reason = details = str(error)
    except Exception as error:  # no memory, or a fault of the device or of ours
        sound = is_out_of_memory(error)
        reason = memory_advice(error) if sound else f"{type(error).__name__}: {first_line(error)}"
        reason += f" (all of it in {failure})"
        details = traceback.format_exc()
    note_failure(config, details)
    return Outcome("failed", reason, sound)


def note_failure(config: RunConfig, text: str) -> None:
    """Writes why a run failed into its folder, where that is possible: a full disk must not hide what went wrong."""
    try:
        (config.work_dir / FAILURE).write_text(text, encoding="utf-8")
    except OSError:
        return


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def is_done(config: RunConfig) -> bool:
    """A run that has a record is complete: the record is written last. Published records never count."""
    return (config.work_dir / "record.json").exists()
