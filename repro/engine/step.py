"""One training step, executed in one of several modes.

In every mode a step is the same sequence of operations on tensors that stay in place; the inputs of its batch are
copied into them. Losses and error counts stay on the device and are read only now and then: the host does not wait.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.feed import Feed
from repro.engine.compiled import compile_blocks, lacking_for_triton
from repro.errors import InputError
from repro.evaluation.layer_statistics import left_as_it_was
from repro.models.blocks import BlockNet
from repro.models.chance import Draw
from repro.models.count import measure
from repro.models.forward import forward
from repro.runtime import distributed
from repro.runtime.cuda_graphs import record_graph


@dataclass(frozen=True)
class StepResult:
    """Mean loss and wrong predictions of one step on its whole augmented batch, over all ranks."""

    loss: float
    errors: int


class Step(Protocol):
    """A training step, in any mode."""

    def run(self, step: int) -> None:
        """Train on the batch of ``step``, counted from 0, at the learning rate that the optimizer holds."""

    def read(self) -> list[StepResult]:
        """Return the results since the last read, oldest first; all ranks must read after the same step."""


def step_modes(device: torch.device) -> tuple[str, ...]:
    """Return the modes that ``device`` supports, the simplest first."""
    if device.type == "cuda":
        return ("eager", "graph", "compile")
    return ("eager", "compile") if device.type == "cpu" else ("eager",)


GRAPH_BYTES = 25 * 2**20
"""Bytes of gradients averaged over devices from which ``auto`` uses no graph."""


def step_mode(config: RunConfig, device: torch.device) -> str:
    """Return the mode of a run's steps on ``device``; raises as ``pick_step`` does."""
    if not config.science.is_classification:
        return "eager"
    if config.model.is_random:
        return pick_random_step(config.execution.step, device)
    if config.execution.num_ranks == 1:
        return pick_step(config.execution.step, device)
    params = measure(config.model, config.data.image_size, config.data.num_classes).params
    return pick_step(config.execution.step, device, 4 * params)


def pick_step(mode: str, device: torch.device, averaged_bytes: int = 0) -> str:
    """Return the mode for a value of ``execution.step``.

    On CUDA ``auto`` is a graph, because launching small kernels one by one takes longer than running them. It is eager
    where devices average so many gradients that overlapping this with the backward pass gains more, and on a CPU, where
    compiled blocks are slower (docs/performance.md).

    Raises:
        InputError: The device does not support the mode, or a compiler is missing.
    """
    if mode == "auto":
        return "graph" if device.type == "cuda" and averaged_bytes < GRAPH_BYTES else "eager"
    if mode not in step_modes(device):
        kinds = " or ".join(step_modes(device))
        raise InputError(f"execution.step={mode} cannot run on device={device.type}: use {kinds} or auto")
    compilers = ("c++", "g++", "clang++", "cl")
    if mode == "compile" and not any(map(shutil.which, compilers)):
        raise InputError("execution.step=compile needs a C++ compiler such as g++ on the PATH; auto needs none")
    if mode == "compile" and device.type == "cuda" and (lacking := lacking_for_triton()):
        raise InputError(f"execution.step=compile on a GPU needs {lacking}; auto needs none")
    return mode


def pick_random_step(mode: str, device: torch.device) -> str:
    """Return the mode for a net that drops random blocks or values: only eager.

    A CUDA graph would drop the same ones in every step, and compilation would need other blocks for each survival
    probability.

    Raises:
        InputError: ``mode`` is another one.
    """
    if mode not in ("auto", "eager"):
        raise InputError(
            f"execution.step={mode} cannot run a net with dropout or stochastic depth, whose steps differ: use "
            "execution.step=eager or auto"
        )
    return pick_step("eager", device)


def build_step(
    mode: str,
    model: BlockNet,
    optimizer: torch.optim.SGD,
    feed: Feed,
    precision: str,
    window: int,
    micro_batch: int | None = None,
    label_smoothing: float = 0.0,
) -> Step:
    """Build the step in a mode of ``step_modes``.

    Args:
        window: The most steps between two reads.
        micro_batch: Images of one forward and backward pass: a multiple of the batch-norm group that divides the rank's
            part of a batch; None means the whole part.
    """
    if mode == "compile":
        compile_blocks(model)
    kind = GraphStep if feed.device.type == "cuda" and mode != "eager" else EagerStep
    step = kind(model, optimizer, feed, precision, window, micro_batch, label_smoothing)
    if mode == "compile":
        step.augment = torch.compile(feed.augment, dynamic=False)
    return step


def copy_all(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors in place; there may be none."""
    if tensors:
        torch._foreach_copy_(list(tensors), list(values))


class EagerStep:
    """A step executed operation by operation."""

    def __init__(
        self,
        model: BlockNet,
        optimizer: torch.optim.SGD,
        feed: Feed,
        precision: str,
        window: int,
        micro_batch: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self.model, self.optimizer, self.feed, self.precision = model, optimizer, feed, precision
        self.augment, self.label_smoothing = feed.augment, label_smoothing
        self.micro_batch = micro_batch or feed.part_size
        device = feed.device
        self._dtype = next(model.parameters()).dtype
        self._fed: tuple[Tensor, ...] = ()
        self._losses = torch.zeros(window, dtype=self._dtype, device=device)
        self._errors = torch.zeros(window, dtype=torch.int64, device=device)
        self._positions = torch.arange(window, device=device)
        self._position = torch.zeros((), dtype=torch.int64, device=device)
        self._pending = 0
        self._parameters = list(model.parameters())
        self._statistics = [b for b in model.buffers() if b.is_floating_point()]
        self._mean: distributed.Mean | None = None
        self._wrapped: distributed.DataParallel | None = None
        self._number = 0
        if distributed.size() > 1:
            self._join_ranks()

    def _join_ranks(self) -> None:
        self._wrapped = distributed.DataParallel(self.model, is_static=not self.model.skips_blocks)
        if self._statistics:
            self._mean = distributed.Mean(self._statistics)

    def run(self, step: int) -> None:
        fed = self.feed.load(step)
        if not self._fed:
            self._fed = tuple(torch.empty_like(t, device=self.feed.device) for t in fed)
        for place, tensor in zip(self._fed, fed, strict=True):
            place.copy_(tensor, non_blocking=True)
        self._number = step
        self._execute()
        self._pending += 1

    def read(self) -> list[StepResult]:
        losses, errors = self._losses[: self._pending].tolist(), self._errors[: self._pending].tolist()
        self._pending = 0
        self._position.zero_()
        sums = distributed.total(losses + errors)
        losses, errors = [s / distributed.size() for s in sums[: len(losses)]], [int(s) for s in sums[len(losses) :]]
        return [StepResult(loss, count) for loss, count in zip(losses, errors, strict=True)]

    def _execute(self) -> None:
        if self._wrapped is not None and not self._wrapped.is_settled:
            self._settle(self._wrapped)
        self._step()

    def _settle(self, wrapped: distributed.DataParallel) -> None:
        """Let DDP arrange its buckets on a batch that leaves the net unchanged, in new and in resumed runs alike."""
        images, labels = (t[: self.micro_batch] for t in self.augment(self._fed))
        with left_as_it_was(self.model, training=True):
            wrapped.settle(lambda: self._pass(images, labels))

    def _step(self) -> None:
        """Compute a whole step on the device."""
        images, labels = self.augment(self._fed)
        self.optimizer.zero_grad(set_to_none=True)
        if self.micro_batch < len(images):
            loss, errors = self._accumulate(images.split(self.micro_batch), labels.split(self.micro_batch))
        else:
            loss, errors = self._pass(images, labels)
        self._average()
        if self.model.skips_blocks:
            # Momentum and weight decay also apply to skipped blocks (deviation D34).
            for p in self._parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.optimizer.step()
        self._keep(loss, errors)

    def _accumulate(self, images: Sequence[Tensor], labels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch piece by piece; return the same as ``_pass`` on the whole batch."""
        # Each piece updates the running statistics from before the step, and the mean of the results is kept: a single
        # pass gives the same, because batch norm takes the mean over its groups.
        before = [statistic.clone() for statistic in self._statistics]
        sums = [torch.zeros_like(statistic) for statistic in self._statistics]
        results = []
        for number, piece in enumerate(zip(images, labels, strict=True), 1):
            is_last = number == len(images)
            # Ranks average the gradients only once, after the last piece.
            quiet = contextlib.nullcontext() if is_last or self._wrapped is None else self._wrapped.no_sync()
            with quiet:
                results.append(self._pass(*piece, number - 1, len(images)))
            if sums:  # nets without batch norm have none
                torch._foreach_add_(sums, self._statistics)
            copy_all(self._statistics, before)
        if sums:
            torch._foreach_div_(sums, len(images))
        copy_all(self._statistics, sums)
        losses, errors = (torch.stack(column).sum() for column in zip(*results, strict=True))
        return losses, errors

    def _pass(self, images: Tensor, labels: Tensor, piece: int = 0, num_pieces: int = 1) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch, or of one of its equal pieces.

        Returns:
            Its part of the batch's mean loss, and its number of wrong predictions.
        """
        with self._drawing(piece * len(images)):
            logits = forward(self.model if self._wrapped is None else self._wrapped, images, self.precision)
            loss = F.cross_entropy(logits.to(self._dtype), labels, label_smoothing=self.label_smoothing)
            loss = loss if num_pieces == 1 else loss / num_pieces
            torch.autograd.backward(loss)
        return loss.detach(), (logits.detach().argmax(1) != labels).sum()

    def _drawing(self, first: int) -> contextlib.AbstractContextManager[None]:
        """Let the net drop random blocks or values; ``first`` is the first image's position in this rank's part."""
        if not self.model.is_random:
            return contextlib.nullcontext()
        part_size = self.feed.part_size
        place = distributed.rank() * part_size + first
        return self.model.drawing(Draw(self.model.seed, self._number, place, part_size * distributed.size()))

    def _average(self) -> None:
        """Average the running statistics over all ranks; DDP has already averaged the gradients."""
        # With the same statistics on all ranks after every step, the time of an evaluation or a checkpoint changes
        # nothing.
        if self._mean is not None:
            copy_all(self._statistics, self._mean(self._statistics))

    def _keep(self, loss: Tensor, errors: Tensor) -> None:
        # An indexed write would be slower: its deterministic form on CUDA sorts.
        here = self._positions == self._position
        torch.where(here, loss, self._losses, out=self._losses)
        torch.where(here, errors, self._errors, out=self._errors)
        self._position += 1


class Replayed(Protocol):
    """A CUDA graph, or a stand-in for one."""

    def replay(self) -> None:
        """Launch the graph."""


class GraphStep(EagerStep):
    """A step recorded as one CUDA graph, from the augmentation to the update: one launch instead of hundreds."""

    _graph: Replayed | None = None

    def _join_ranks(self) -> None:
        # One collective averages everything: DDP could be recorded only after eleven steps.
        self._mean = distributed.Mean(self._parameters + self._statistics)

    def _average(self) -> None:
        """Average gradients and statistics; a parameter that this rank did not use adds zeros."""
        if self._mean is None:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        means = self._mean(gradients + self._statistics)
        for p, gradient in zip(self._parameters, means[: len(gradients)], strict=True):
            p.grad = gradient
        copy_all(self._statistics, means[len(gradients) :])

    def _execute(self) -> None:
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        return record_graph(self._step, self.undo())[0]

    def undo(self) -> Callable[[], None]:
        """Return a function that restores the current weights, statistics and counts after the warm-up of a graph."""
        changed = [*self.model.parameters(), *self.model.buffers(), self._losses, self._errors, self._position]
        changed += [value for state in self.optimizer.state.values() for value in state.values()]
        before = [t.detach().clone() for t in changed]

        def undo() -> None:
            with torch.no_grad():
                for tensor, value in zip(changed, before, strict=True):
                    tensor.copy_(value)
            # Without gradients the graph allocates its own; otherwise it would add to the existing ones.
            self.optimizer.zero_grad(set_to_none=True)

        return undo
