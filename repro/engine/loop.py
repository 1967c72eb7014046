"""The training loop, which counts steps, not epochs (section 4.2)."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from repro.config.run import EvalConfig, OptimConfig, RunConfig
from repro.engine.optim import WARMUP_CHECK_STEPS, WARMUP_ERROR, count_plateaus, lr_at, set_lr
from repro.engine.step import Step, StepResult
from repro.errors import RunError
from repro.evaluation.counts import Counts
from repro.runtime import distributed

READ_SECONDS = 10.0
"""The most time between two reads of a run on one device, unless a step takes longer. Stop requests are heard and
checkpoints are due only after a read. Ranks read after the same steps, whatever their clocks say."""

UNKNOWN = 0
"""The step of an event that older code did not look for."""


class NotFiniteError(RunError):
    """A loss is infinite or not a number, so the weights cannot be used any more."""


@dataclass(frozen=True)
class CurveRow:
    """One evaluation: ``train`` counts the augmented batches since the previous row (deviation D25), ``eval`` the
    evaluated split."""

    step: int
    epoch: float
    lr: float
    train: Counts
    eval: Counts
    held_out: Counts | None = None
    """Of the images that choose an epoch (``eval.choose=validation``)."""


@dataclass
class TrainState:
    """The state of the loop besides weights and optimizer; checkpoints contain it."""

    step: int = 0
    warmup_end: int | None = 0
    warmup_seen: Counts = Counts()
    window: Counts = Counts()
    curve: list[CurveRow] = field(default_factory=list)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    flow: list[dict[str, Any]] = field(default_factory=list)
    """Signals and gradients of all layers at each evaluation, if ``eval.gradient_flow`` is set."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """The code, start time and device of each process that trained some of the steps."""
    below_80_step: int | None = None
    """The end of the first window of steps with a training error below 80 %; None before that, and ``UNKNOWN`` if older
    code may have passed it unnoticed."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainState:
        names = ("train", "eval", "held_out")
        rows = [
            CurveRow(**{**row, **{name: Counts(**row[name]) for name in names if row.get(name) is not None}})
            for row in values["curve"]
        ]
        counts = {name: Counts(**values[name]) for name in ("warmup_seen", "window")}
        # Older code looked for it only during an until_80 warm-up, which ends at that step.
        before = {"below_80_step": None if values["warmup_end"] is None else UNKNOWN}
        return cls(**{**before, **values, **counts, "curve": rows})


class Hooks:
    """Callbacks of the loop that do nothing; ``repro.engine.hooks`` has those of a run."""

    def logged(self, state: TrainState, seen: Counts, lr: float) -> None:
        """Receive the counts of the steps since the last call, and the learning rate."""

    def evaluate(self) -> Counts:
        return Counts()

    def validate(self) -> Counts | None:
        """Count the errors on the images that choose an epoch, where they do."""
        return None

    def evaluated(self, state: TrainState) -> None:
        """Receive the new row of the curve, ``state.curve[-1]``; all ranks call this."""

    def save_is_due(self) -> bool:
        return False

    def save(self, state: TrainState) -> None:
        """Save a checkpoint."""

    def stop(self) -> bool:
        """Return whether the run shall save and end before its last step."""
        return False


def train(
    execute: Step,
    optimizer: torch.optim.SGD,
    state: TrainState,
    config: RunConfig,
    epoch_images: int,
    hooks: Hooks,
) -> bool:
    """Train from ``state`` to the last step; return False if the run was stopped before.

    Raises:
        NotFiniteError: A loss is not finite.
    """
    optim = config.optim
    clock = time.perf_counter()
    lr = math.nan
    while state.step < optim.steps:
        drops = (
            count_plateaus(optim, [row.train.top1_error for row in state.curve]) if optim.schedule == "plateau" else 0
        )
        before, lr = lr, lr_at(optim, state.step, state.warmup_end, drops)
        if lr != before:
            set_lr(optimizer, lr, optim.momentum_form)
        execute.run(state.step)
        state.step += 1
        evaluating = is_eval_step(state.step, config.eval, optim, epoch_images)
        is_late = distributed.size() == 1 and time.perf_counter() - clock >= READ_SECONDS
        if not (evaluating or is_late or is_read_step(state, config.execution.log_steps)):
            continue
        seen = count(execute.read(), state.step, optim.batch_size, lr)
        now = time.perf_counter()
        state.train_seconds, clock = state.train_seconds + now - clock, now
        state.window += seen
        watch_error(state, seen)
        hooks.logged(state, seen, lr)
        if evaluating:
            epoch = state.step * optim.batch_size / epoch_images
            state.curve.append(CurveRow(state.step, epoch, lr, state.window, hooks.evaluate(), hooks.validate()))
            state.window = Counts()
            now = time.perf_counter()
            state.eval_seconds, clock = state.eval_seconds + now - clock, now
            hooks.evaluated(state)
        if hooks.stop() and state.step < optim.steps:
            hooks.save(state)
            return False
        if hooks.save_is_due():
            hooks.save(state)
            clock = time.perf_counter()
    return True


def is_eval_step(step: int, config: EvalConfig, optim: OptimConfig, epoch_images: int) -> bool:
    """Return whether the net is evaluated after ``step`` steps: usually at the end of each epoch and of the run."""
    if step == optim.steps:
        return True
    if config.every_steps is not None:
        return step % config.every_steps == 0
    return step * optim.batch_size // epoch_images > (step - 1) * optim.batch_size // epoch_images


def is_read_step(state: TrainState, log_steps: int) -> bool:
    """Return whether the host reads the counts of the device after this step."""
    # Until the error is below 80 %, each window of steps is read by itself.
    watching = state.below_80_step is None and state.step % WARMUP_CHECK_STEPS == 0
    return watching or state.step % log_steps == 0


def count(results: list[StepResult], step: int, batch_size: int, lr: float) -> Counts:
    """Add up the results of the steps that end at ``step``.

    Raises:
        NotFiniteError: A loss is not finite; the message names its step.
    """
    total = Counts()
    for offset, result in enumerate(results):
        if not math.isfinite(result.loss):
            at = step - len(results) + offset
            raise NotFiniteError(f"the loss is {result.loss} at step {at}, learning rate {lr:g}")
        total += Counts(result.errors, batch_size, result.loss * batch_size)
    return total


def watch_error(state: TrainState, seen: Counts) -> None:
    """Record the first window of steps with a training error below 80 %, which ends an ``until_80`` warm-up
    (section 4.2, deviation D9)."""
    if state.below_80_step is not None:
        return
    state.warmup_seen += seen
    if state.step % WARMUP_CHECK_STEPS == 0:
        if state.warmup_seen.top1_error < WARMUP_ERROR:
            state.below_80_step = state.step
            if state.warmup_end is None:
                state.warmup_end = state.step
        state.warmup_seen = Counts()
