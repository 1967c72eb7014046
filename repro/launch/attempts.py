"""Training of one run, isolated from other runs."""

import traceback
from collections.abc import Callable

from repro.config.run import RunConfig
from repro.data import AnyDataset
from repro.engine.run import run_any
from repro.errors import InputError, RunError, first_line, is_out_of_memory, memory_advice
from repro.launch import torchrun
from repro.launch.failure import FAILURE, note_failure
from repro.launch.outcome import Outcome, is_done
from repro.runtime.lock import Elsewhere, hold
from repro.runtime.stop import Stopper


def attempt(config: RunConfig, dataset_of: Callable[[RunConfig], AnyDataset], stopper: Stopper) -> Outcome:
    """Train one run under its lock; note a failure in its folder and return it instead of raising it."""
    failure = config.work_dir / FAILURE
    sound = True
    try:
        if config.execution.num_ranks > 1:
            failure.unlink(missing_ok=True)
            outcome = torchrun.train(config, stopper)  # its first rank holds the lock
            if outcome.state == "failed":
                note_failure(config, outcome.reason)
            return outcome
        with hold(config.work_dir):
            if is_done(config):
                return Outcome("done")
            failure.unlink(missing_ok=True)
            done = run_any(config, dataset_of(config), stopper) is not None
            return Outcome("done" if done else "stopped")
    except Elsewhere as error:
        return Outcome("elsewhere", str(error))
    except (InputError, RunError) as error:
        reason = details = str(error)
    except Exception as error:  # out of memory, or a fault of the device or of the code
        sound = is_out_of_memory(error)
        reason = memory_advice(error) if sound else f"{type(error).__name__}: {first_line(error)}"
        reason += f" (full text in {failure})"
        details = traceback.format_exc()
    note_failure(config, details)
    return Outcome("failed", reason, sound)
