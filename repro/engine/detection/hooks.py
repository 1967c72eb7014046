"""Callbacks of a detector's training: progress, losses and checkpoints."""

from __future__ import annotations

import contextlib
import time

from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.events import DetectorEvents, are_due
from repro.engine.detection.prepared import PreparedDetector, Training
from repro.engine.detection.steps import NAMES
from repro.engine.detection.training import Losses, save_checkpoint
from repro.engine.hooks import charts_of
from repro.errors import RunError
from repro.results.detection_record import DetectionResult
from repro.runtime import distributed
from repro.runtime.progress import Display, Told, write_progress
from repro.runtime.provenance import write_atomically
from repro.runtime.stop import Stopper

STATUS_SECONDS = 2.0
LOSSES = ("rpn_scores", "rpn_boxes", "head_scores", "head_boxes")
LOCALIZER_LOSSES = ("scores", "boxes")
CURVE = "losses.csv"


class RankHooks(DetectionHooks):
    """Callbacks of every rank; only the first one writes."""

    def __init__(self, net: Training, stopper: Stopper) -> None:
        self.stopper = stopper
        self._saved = self._begun = time.monotonic()
        self._told, self._first = 0.0, net.state.images
        self._seconds = net.config.execution.checkpoint_seconds
        self._shown = (net.state.part, net.state.update)
        self._display: Display | None = None
        self._events: DetectorEvents | None = None
        if distributed.is_first():
            self._events = DetectorEvents(net.config.work_dir, net.updates)
            self._display = Display(net.config.execution.progress, net.config.optim.steps, net.updates)

    def logged(self, net: Training, losses: Losses, lr: float) -> None:
        if self._display is None or self._events is None:
            return
        told = self.told(net, losses)
        with charts_of(net.config.work_dir):
            self._events.logged(net, losses, lr, told.images_per_second)
            if isinstance(net, PreparedDetector):
                self._show(self._events, net)
        if self._display.is_due():
            name = f"step {net.state.part + 1} of {len(net.steps)} ({NAMES[net.step]})"
            label = f"{net.config.label} s{net.config.seed}"
            self._display.show(told.step, told.parts(label), [f"{name}: {told.text()}"])
        if time.monotonic() - self._told >= STATUS_SECONDS:
            self._told = time.monotonic()
            # A full disk ends the run at its next checkpoint, with a message; the status alone is not worth it.
            with contextlib.suppress(RunError):
                write_progress(net.config.work_dir, told)

    def _show(self, events: DetectorEvents, net: PreparedDetector) -> None:
        """Show pictures if they are due."""
        part, update = self._shown
        if are_due(net, update if part == net.state.part else 0):
            events.pictures(net)
        self._shown = (net.state.part, net.state.update)

    def tested(self, net: PreparedDetector, result: DetectionResult) -> None:
        """Receive the result of the test."""
        if self._events is not None:
            with charts_of(net.config.work_dir):
                self._events.tested(net, result)

    def told(self, net: Training, losses: Losses) -> Told:
        """Return the progress; the time left is that of the images left at the pace of this process so far."""
        seconds, done = time.monotonic() - self._begun, net.state.images - self._first
        pace = done / seconds if seconds > 0 else 0.0
        left = images_of(net) - net.state.images
        loss = sum(losses.values())
        return Told(net.updates, net.config.optim.steps, None, pace, left / pace if pace else 0.0, loss)

    def save_is_due(self) -> bool:
        is_due = distributed.is_first() and time.monotonic() - self._saved >= self._seconds
        return distributed.on_any(is_due)

    def save(self, net: Training) -> None:
        distributed.on_first(lambda: self._write(net))
        self.saved()

    def saved(self) -> None:
        self._saved = time.monotonic()

    def _write(self, net: Training) -> None:
        save_checkpoint(net)
        write_losses(net)

    def stop(self) -> bool:
        return distributed.on_any(self.stopper.asked())

    def close(self) -> None:
        if self._display is not None:
            self._display.close()
        if self._events is not None:
            # An error here must not hide why the run ended.
            with contextlib.suppress(OSError):
                self._events.close()


def images_of(net: Training) -> int:
    """Count the images of all updates of a run."""
    config = net.config
    sizes: list[int] = []
    if config.detection is not None and len(net.steps) > 1:
        sizes = [config.detection.rpn_batch_size, config.optim.batch_size] * 2
    return sum(n * size for n, size in zip(net.steps, sizes or [config.optim.batch_size], strict=True))


def write_losses(net: Training) -> None:
    """Write the mean losses over training, a row for each read of them."""
    columns = ("update", "step", "lr", *(LOSSES if net.config.localization is None else LOCALIZER_LOSSES))
    lines = [",".join(columns)]
    for row in net.state.losses:
        lines.append(",".join(format(row[name], ".10g") if name in row else "" for name in columns))
    write_atomically(net.config.work_dir / CURVE, "".join(f"{line}\n" for line in lines))
