"""Exact evaluation: every image once, a single view of it (paper, section 4.2), counts divided at the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro import dist
from repro.data.transforms import PixelStats, normalize
from repro.device import autocast, memory_format
from repro.graphs import record_graph
from repro.metrics import Counts


class Evaluator:
    """Counts top-1 errors and the loss over uint8 images (N, 3, H, W) with labels (N,); the last batch may be short.
    Of several ranks each counts its own part, and all know the sum.

    Calling it leaves the net in the mode, training or evaluation, that it was in.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        stats: PixelStats,
        batch_size: int,
        precision: str,
        mode: str = "eager",
    ) -> None:
        self.model, self.num_images = model, len(labels)
        self.images, self.labels = (t.tensor_split(dist.size())[dist.rank()] for t in (images, labels))
        self.stats, self.batch_size, self.precision = stats, batch_size, precision
        self._graph: _BatchGraph | None = None
        self._wants_graph = images.device.type == "cuda" and mode != "eager"

    def __call__(self) -> Counts:
        was_training = self.model.training
        self.model.eval()
        batches = zip(torch.split(self.images, self.batch_size), torch.split(self.labels, self.batch_size), strict=True)
        with torch.inference_mode():
            results = [self._count(images, labels) for images, labels in batches]
            # One transfer at the end; losses are summed in double precision on the host.
            losses, errors = (torch.stack(column).tolist() for column in zip(*results, strict=True))
        self.model.train(was_training)
        errors_sum, loss_sum = dist.total([sum(errors), sum(losses)])
        return Counts(int(errors_sum), self.num_images, loss_sum)

    def _count(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed loss and errors of a batch; a full one goes through a CUDA graph where there is one."""
        if not self._wants_graph or len(images) < self.batch_size:
            return self._forward(images, labels)
        if self._graph is None:
            self._graph = _BatchGraph(self._forward, images, labels)
        return self._graph(images, labels)

    def _forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        dtype = next(self.model.parameters()).dtype
        pixels = normalize(images, self.stats).to(dtype, memory_format=memory_format(images.device))
        with autocast(images.device, self.precision):
            logits = self.model(pixels)
        loss = F.cross_entropy(logits.to(dtype), labels, reduction="sum")
        return loss, (logits.argmax(1) != labels).sum()


class _BatchGraph:
    """A function of one batch as a CUDA graph, over copies of its arguments."""

    def __init__(
        self, forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], images: Tensor, labels: Tensor
    ) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        self._graph, self._results = record_graph(lambda: forward(self._images, self._labels))

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        loss, errors = self._results
        return loss.clone(), errors.clone()


def recompute_batch_norm(model: nn.Module, batch: Callable[[int], tuple[Tensor, Tensor]], num_batches: int) -> None:
    """Replaces the running statistics by plain averages over training batches, as the authors' ImageNet release
    did after training (deviation D4). Each rank takes its own part of a batch."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    model.train()
    # Compiled blocks would be compiled anew for each momentum.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for step in range(num_batches):
            for layer in layers:
                layer.momentum = 1 / (step + 1)
            model(batch(step)[0])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    dist.average([b for b in model.buffers() if b.is_floating_point()])
