"""Everything that looks on while a run trains: progress, TensorBoard, checkpoints and the request to stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.engine.loop import CurveRow, Hooks, TrainState
from repro.engine.prepared import Prepared
from repro.engine.tensorboard import Events
from repro.errors import AloneError, RunError
from repro.evaluation.counts import Counts
from repro.runtime import checkpoint, distributed
from repro.runtime.progress import Progress
from repro.runtime.provenance import PROGRESS, curve_csv, now, write_atomically, write_json
from repro.runtime.stop import Stopper

STATUS_SECONDS = 2.0
"""Between two writings of a run's progress file."""


@dataclass
class Watch:
    """Answers the loop's hooks for one run."""

    net: Prepared
    stopper: Stopper
    progress: Progress
    events: Events
    saved: float
    told: float = 0.0

    @classmethod
    def start(cls, net: Prepared, stopper: Stopper) -> Watch:
        config, state, optim = net.config, net.state, net.config.optim
        label = f"{config.model.label} s{config.seed}"
        style = config.execution.progress
        progress = Progress(label, state.step, optim.steps, optim.batch_size, style, state.train_seconds)
        events = Events(config.work_dir, state.step, net.dataset.eval.name)
        return cls(net, stopper, progress, events, time.monotonic())

    def hooks(self, evaluate: Callable[[], Counts]) -> Hooks:
        """What the loop of the first rank calls; in step with what ``Follower`` answers on the others."""
        return Hooks(
            logged=self.logged,
            evaluate=evaluate,
            evaluated=self.evaluated,
            save_is_due=lambda: distributed.on_any(self.save_is_due()),
            save=lambda state: distributed.on_first(lambda: self.save(state)),
            stop=lambda: distributed.on_any(self.stopper.asked()),
        )

    def logged(self, state: TrainState, seen: Counts, lr: float) -> None:
        self.progress.update(state.step, state.train_seconds, seen.top1_error)
        with charts_of(self.net.config.work_dir):
            self.events.logged(state.step, seen, lr, self.progress.images_per_second)
        if time.monotonic() - self.told >= STATUS_SECONDS:
            self.told = time.monotonic()
            self.tell(state, seen)

    def tell(self, state: TrainState, seen: Counts) -> None:
        """Writes what ``repro status`` shows of a run under way."""
        values = {
            "step": state.step,
            "steps": self.net.config.optim.steps,
            "train_error": seen.top1_error,
            "images_per_second": self.progress.images_per_second,
            "seconds_left": self.progress.seconds_left(state.step),
            "written": now(),
        }
        # Only a status: a full disk ends the run at its next checkpoint, which says so.
        with contextlib.suppress(RunError):
            write_json(self.net.config.work_dir / PROGRESS, values)

    def evaluated(self, state: TrainState) -> None:
        row = state.curve[-1]
        self.progress.evaluated(self.net.dataset.eval.name, row.eval.top1_error)
        with charts_of(self.net.config.work_dir):
            self.events.evaluated(row.step, row.train, row.eval)

    def save_is_due(self) -> bool:
        return time.monotonic() - self.saved >= self.net.config.execution.checkpoint_seconds

    def save(self, state: TrainState) -> None:
        path = checkpoint.step_path(self.net.config.work_dir, state.step)
        checkpoint.save(path, payload(self.net))
        write_curve(self.net.config.work_dir, state.curve)
        self.saved = time.monotonic()

    def close(self) -> None:
        self.progress.close()
        # What cannot be written any more must not hide why the run ended.
        with contextlib.suppress(OSError):
            self.events.close()


@contextlib.contextmanager
def charts_of(folder: Path) -> Iterator[None]:
    """
    Raises:
        AloneError: TensorBoard's file in ``folder`` cannot be written (a full disk). Only the first rank has one.
    """
    try:
        yield
    except OSError as error:
        raise AloneError(f"the charts in {folder} cannot be written ({error.strerror or error})") from error


@dataclass
class Follower:
    """Answers the loop's hooks on the other ranks: it writes nothing, waits while the first saves, stops with all."""

    stopper: Stopper

    def hooks(self, evaluate: Callable[[], Counts]) -> Hooks:
        def nothing(*_: object) -> None:
            pass

        return Hooks(
            logged=nothing,
            evaluate=evaluate,
            evaluated=nothing,
            save_is_due=lambda: distributed.on_any(False),
            save=lambda state: distributed.on_first(nothing),
            stop=lambda: distributed.on_any(self.stopper.asked()),
        )

    def close(self) -> None:
        pass


def payload(net: Prepared) -> dict[str, Any]:
    """A checkpoint. No generator is in it: what a step sees is a function of the seed and the step."""
    return {
        "model": net.model.state_dict(),
        "optimizer": net.optimizer.state_dict(),
        "state": net.state.to_dict(),
        "setting": net.made_on,
    }


def write_curve(folder: Path, curve: list[CurveRow]) -> None:
    rows = ((r.step, r.epoch, r.lr, r.train.loss, r.train.top1_error, r.eval.loss, r.eval.top1_error) for r in curve)
    write_atomically(folder / "curve.csv", curve_csv(rows))
