"""The updates of a detector's training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.feed import Batch, proposals_in
from repro.engine.detection.prepared import PreparedDetector, Training
from repro.engine.detection.steps import begin_step, end_step
from repro.engine.loop import NotFiniteError
from repro.engine.optim import load_optimizer, set_lr
from repro.runtime import checkpoint, distributed
from repro.runtime.device import autocast

Losses = dict[str, float]
Values = dict[str, Tensor]
"""Losses on one rank, on the device."""


def batch_size_of(net: PreparedDetector) -> int:
    """Return the images of an update in the present step of training, on all ranks."""
    config = net.config
    assert config.detection is not None
    return config.detection.rpn_batch_size if net.step in (1, 3) else config.optim.batch_size


def lr_of(net: PreparedDetector) -> float:
    """Return the learning rate of the next update."""
    config = net.config
    assert config.detection is not None
    has_dropped = net.state.update >= config.detection.drops[net.state.part]
    return config.optim.lr / config.optim.decay_factor if has_dropped else config.optim.lr


def train_detector(
    net: PreparedDetector, hooks: DetectionHooks, restore: Callable[[PreparedDetector], None] | None = None
) -> bool:
    """Train all steps from the state of ``net``; return False if the run was stopped before the end.

    Args:
        restore: Fills detector and optimizer from a checkpoint in the present step of training.

    Raises:
        NotFiniteError: A loss is not finite.
    """
    while net.state.part < len(net.steps):
        proposals = begin_step(net, hooks)
        if restore is not None:
            restore(net)
            restore = None
        if proposals is None:
            hooks.save(net)
            return False
        mean, batch_size = Averager(net), batch_size_of(net)

        def one_update(proposals: list[Tensor] = proposals, mean: Averager = mean, size: int = batch_size) -> Values:
            batch = net.feed.batch(net.state.part, net.state.update, net.before, size)
            return update(net, losses_of(net, batch, proposals), mean)

        if not train_step_of(net, one_update, lambda: lr_of(net), batch_size, hooks):
            return False
        end_step(net)
    return True


def train_step_of(
    net: Training,
    one_update: Callable[[], Values],
    rate: Callable[[], float],
    batch_size: int,
    hooks: DetectionHooks,
) -> bool:
    """Train one step to its last update; return False if the run was stopped before.

    Args:
        one_update: Makes the next update and returns its losses on this rank.
        rate: Returns the learning rate of the next update.
        batch_size: Images of an update on all ranks.
    """
    state, execution = net.state, net.config.execution
    updates, last = net.steps[state.part], len(net.steps) - 1
    rows: list[Values] = []
    clock, lr = time.perf_counter(), math.nan
    while state.update < updates:
        before, lr = lr, rate()
        if lr != before:
            set_lr(net.optimizer, lr, net.config.optim.momentum_form)
        rows.append(one_update())
        state.update += 1
        state.images += batch_size
        if state.update % execution.log_steps and state.update < updates:
            continue
        losses = read(rows, net, lr)
        rows.clear()
        now = time.perf_counter()
        state.train_seconds, clock = state.train_seconds + now - clock, now
        state.losses.append({"update": net.updates, "step": state.part + 1, "lr": lr, **losses})
        hooks.logged(net, losses, lr)
        clock = time.perf_counter()
        is_end = state.update == updates and state.part == last
        if hooks.stop() and not is_end:
            hooks.save(net)
            return False
        if hooks.save_is_due():
            hooks.save(net)
            clock = time.perf_counter()
    return True


def losses_of(net: PreparedDetector, batch: Batch, proposals: Sequence[Tensor]) -> Values:
    """Compute this rank's losses in the present step of training, divided by its number of images."""
    model = net.model
    with autocast(net.device, net.config.optim.precision):
        if net.step is None:
            losses = model.losses(batch.images, batch.objects, batch.draws)
        elif net.step in (1, 3):
            maps = model.maps(batch.images)
            losses = model.rpn_losses(maps, batch.images, batch.objects, batch.draws)
        else:
            maps = model.maps(batch.images)
            found = proposals_in(batch, proposals)
            losses = model.head_losses(maps, batch.images, found, batch.objects, batch.draws)
        # Ranks have equally many images, so that the mean over ranks is the sum over the global batch divided by it.
        return {name: value / len(batch.images) for name, value in losses.items()}


def update(net: Training, losses: Values, mean: Callable[[], None]) -> Values:
    """Make one update by the sum of ``losses``; return their values."""
    net.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    mean()
    net.optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


class Averager:
    """Averages the gradients of the trained parameters over the ranks, in one collective."""

    def __init__(self, net: Training) -> None:
        self._parameters = [p for p in net.model.parameters() if p.requires_grad]
        self._mean = distributed.Mean(self._parameters) if distributed.size() > 1 else None

    def __call__(self) -> None:
        if self._mean is None:
            return
        # A rank without objects in its images may have no gradient for the layers of boxes.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        for parameter, gradient in zip(self._parameters, self._mean(gradients), strict=True):
            parameter.grad = gradient


def read(rows: Sequence[Values], net: Training, lr: float) -> Losses:
    """Return the mean of each loss over updates and ranks.

    Raises:
        NotFiniteError: A loss is not finite; the message names its update.
    """
    names = list(rows[0])
    values = torch.stack([torch.stack([row[name] for name in names]) for row in rows]).double().cpu()
    flat = [value / distributed.size() for value in distributed.total(values.flatten().tolist())]
    table = [flat[i : i + len(names)] for i in range(0, len(flat), len(names))]
    for offset, row in enumerate(table):
        for name, value in zip(names, row, strict=True):
            if not math.isfinite(value):
                at = net.updates - len(table) + offset
                raise NotFiniteError(f"the loss {name} is {value} at update {at}, learning rate {lr:g}")
    return {name: sum(row[i] for row in table) / len(table) for i, name in enumerate(names)}


def filled_from(stored: dict[str, object]) -> Callable[[Training], None]:
    """Return a function that fills detector and optimizer from a checkpoint, on all ranks."""

    def restore(net: Training) -> None:
        def fill() -> None:
            net.model.load_state_dict(stored["model"])  # type: ignore[arg-type]
            load_optimizer(net.optimizer, stored["optimizer"])  # type: ignore[arg-type]

        distributed.on_first(fill)
        rates = [group["lr"] for group in net.optimizer.param_groups]
        momentum = [value for state in net.optimizer.state.values() for value in state.values()]
        distributed.copy_from_first([*net.model.state_dict().values(), *rates, *momentum])

    return restore


def payload(net: Training) -> dict[str, object]:
    """Return the content of a checkpoint."""
    # No random state is needed: every draw is a function of the seed, the update and the image.
    return {
        "model": net.model.state_dict(),
        "optimizer": net.optimizer.state_dict(),
        "state": net.state.to_dict(),
        "setting": net.made_on,
        "digests": dict(net.dataset.digests),
        # With these, the file alone is a detector (repro.engine.detection.stored).
        "pixels": {"mean": net.stats.mean, "std": net.stats.std},
        "classes": list(net.classes),
    }


def save_checkpoint(net: Training) -> None:
    checkpoint.save(checkpoint.step_path(net.config.work_dir, net.updates), payload(net))
