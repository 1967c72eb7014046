"""How one training step is executed. The loop knows only ``run`` and ``read``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from repro.data.stream import TrainStream
from repro.device import autocast, memory_format


@dataclass(frozen=True)
class StepResult:
    """One step's mean loss and wrong answers on its augmented batch."""

    loss: float
    errors: int


class EagerStep:
    """Forward, backward and update, operation by operation.

    Losses and error counts stay on the device until ``read``, so that the host does not wait at every step.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, stream: TrainStream, precision: str, window: int
    ) -> None:
        self.model, self.optimizer, self.stream, self.precision = model, optimizer, stream, precision
        self._losses = torch.zeros(window, device=stream.device)
        self._errors = torch.zeros(window, dtype=torch.int64, device=stream.device)
        self._pending = 0

    def run(self, step: int) -> None:
        """Trains on the batch of ``step``, counted from 0, at the learning rate that the optimizer holds."""
        images, labels = self.stream.batch(step)
        images = images.contiguous(memory_format=memory_format(images.device))
        with autocast(images.device, self.precision):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self._losses[self._pending] = loss.detach()
        self._errors[self._pending] = (logits.detach().argmax(1) != labels).sum()
        self._pending += 1

    def read(self) -> list[StepResult]:
        """The results since the last read, oldest first; at most ``window`` of them are kept."""
        losses, errors = self._losses[: self._pending].tolist(), self._errors[: self._pending].tolist()
        self._pending = 0
        return [StepResult(loss, count) for loss, count in zip(losses, errors, strict=True)]
