"""Callbacks of the training loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from repro.data.batches import held_out_images
from repro.engine.loop import CurveRow, Hooks, TrainState
from repro.engine.prepared import Prepared
from repro.engine.record import evaluator_of
from repro.engine.tensorboard import Events
from repro.errors import AloneError, RunError
from repro.evaluation.counts import Counts
from repro.evaluation.layer_statistics import left_as_it_was, measure_flow, watched
from repro.evaluation.predict import predict
from repro.evaluation.single_crop import Evaluator
from repro.runtime import checkpoint, distributed
from repro.runtime.progress import Progress, write_progress
from repro.runtime.provenance import curve_csv, write_atomically
from repro.runtime.stop import Stopper

STATUS_SECONDS = 2.0
"""Time between two updates of a run's progress file."""

SHOWN_IMAGES = 128
"""Images whose layer responses are shown as histograms."""


class RankHooks(Hooks):
    """Callbacks of every rank: they evaluate together, and only the first rank writes."""

    def __init__(self, net: Prepared, stopper: Stopper) -> None:
        self.net, self.stopper = net, stopper
        self._evaluator = evaluator_of(net, net.images)
        self._validator: Evaluator | None = None
        if net.config.eval.choose == "validation":
            self._validator = evaluator_of(net, held_out_images(net.dataset, net.config, net.device))

    def begin(self) -> None:
        if self.net.resumed is None:
            self._measure_flow()

    def evaluate(self) -> Counts:
        return self._evaluator()

    def validate(self) -> Counts | None:
        return self._validator() if self._validator else None

    def evaluated(self, state: TrainState) -> None:
        self._measure_flow()

    def save_is_due(self) -> bool:
        return distributed.on_any(self._is_due())

    def save(self, state: TrainState) -> None:
        distributed.on_first(self._write)

    def stop(self) -> bool:
        return distributed.on_any(self.stopper.asked())

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _measure_flow(self) -> None:
        """Record signals and gradients of the next batch if ``eval.gradient_flow`` is set."""
        net = self.net
        if net.config.eval.gradient_flow:
            optim = net.config.optim
            layers = measure_flow(net.model, *net.feed.batch(net.state.step), optim.precision, optim.label_smoothing)
            net.state.flow.append({"step": net.state.step, "layers": layers})

    def _is_due(self) -> bool:
        return False

    def _write(self) -> None:
        pass


class FirstRankHooks(RankHooks):
    """Callbacks of the first rank, which writes all files of the run."""

    def __init__(self, net: Prepared, stopper: Stopper) -> None:
        super().__init__(net, stopper)
        self.folder = net.config.work_dir
        self.progress = Progress(net.config, net.state.step, net.state.train_seconds)
        self.events = Events(self.folder, net.state.step, net.dataset.eval.name)
        self._saved = time.monotonic()
        self._told = 0.0

    def begin(self) -> None:
        super().begin()
        if self.net.state.step == 0:
            self.events.images(self.net.feed.batch(0)[0], self.net.feed.stats)

    def logged(self, state: TrainState, seen: Counts, lr: float) -> None:
        told = self.progress.update(state.step, state.train_seconds, seen.top1_error)
        with charts_of(self.folder):
            self.events.logged(state.step, seen, lr, told.images_per_second)
        if time.monotonic() - self._told >= STATUS_SECONDS:
            self._told = time.monotonic()
            # A full disk ends the run at its next checkpoint, with a message; the status alone is not worth it.
            with contextlib.suppress(RunError):
                write_progress(self.folder, told)

    def evaluated(self, state: TrainState) -> None:
        super().evaluated(state)
        row = state.curve[-1]
        self.progress.evaluated(self.net.dataset.eval.name, row.eval.top1_error)
        with charts_of(self.folder):
            self.events.evaluated(row.step, row.train, row.eval)

    def end(self) -> None:
        """Write histograms of the layers' responses to some images of the evaluated split (Fig. 7)."""
        net = self.net
        batch, _ = next(iter(net.images.batches(SHOWN_IMAGES)))
        with (
            left_as_it_was(net.model, training=False),
            torch.inference_mode(),
            watched(net.model, self.events.responses(net.state.step)),
        ):
            predict(net.model, batch, net.feed.stats, net.config.optim.precision)

    def close(self) -> None:
        self.progress.close()
        # An error here must not hide why the run ended.
        with contextlib.suppress(OSError):
            self.events.close()

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.net.config.execution.checkpoint_seconds

    def _write(self) -> None:
        state = self.net.state
        checkpoint.save(checkpoint.step_path(self.folder, state.step), payload(self.net))
        write_curve(self.folder, state.curve)
        self._saved = time.monotonic()


def hooks_of(net: Prepared, stopper: Stopper) -> RankHooks:
    return FirstRankHooks(net, stopper) if distributed.is_first() else RankHooks(net, stopper)


@contextlib.contextmanager
def charts_of(folder: Path) -> Iterator[None]:
    """Raise ``AloneError`` if TensorBoard's file in ``folder`` cannot be written: only the first rank has one."""
    try:
        yield
    except OSError as error:
        raise AloneError(f"the charts in {folder} cannot be written ({error.strerror or error})") from error


def payload(net: Prepared) -> dict[str, Any]:
    """Return the content of a checkpoint."""
    # No random state is needed: the batch of a step is a function of the seed and the step.
    return {
        "model": net.model.state_dict(),
        "optimizer": net.optimizer.state_dict(),
        "state": net.state.to_dict(),
        "setting": net.made_on,
        "digests": dict(net.dataset.digests),
    }


def write_curve(folder: Path, curve: list[CurveRow]) -> None:
    rows = ((r.step, r.epoch, r.lr, r.train.loss, r.train.top1_error, r.eval.loss, r.eval.top1_error) for r in curve)
    write_atomically(folder / "curve.csv", curve_csv(rows))
