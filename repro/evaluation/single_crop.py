"""Evaluation on a single view of every image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data.augment import PixelStats
from repro.data.batches import Images
from repro.evaluation.counts import Counts
from repro.evaluation.layer_statistics import uncompiled
from repro.evaluation.predict import predict
from repro.models.forward import forward
from repro.runtime import distributed
from repro.runtime.cuda_graphs import record_graph

Results = list[Tensor]
"""Sum of losses, top-1 errors and (optionally) top-5 errors of a batch."""
TOP5_CLASSES = 100
"""The fewest classes for which top-5 errors are counted: the paper reports them for ImageNet (section 4.1)."""


class Evaluator:
    """Counts errors, with ``top5`` also top-5 errors, and the loss over the images of a split (paper, section 4.2).

    Each rank counts its part, and all ranks get the sum. The net keeps its mode (training or evaluation).
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        stats: PixelStats,
        batch_size: int,
        precision: str,
        mode: str = "eager",
        top5: bool = False,
    ) -> None:
        self.model, self.images, self.stats = model, images, stats
        self.batch_size, self.precision, self.top5 = batch_size, precision, top5
        self._graph: _BatchGraph | None = None
        self._wants_graph = stats.mean.device.type == "cuda" and mode != "eager"

    def __call__(self) -> Counts:
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            # Results are copied to the host once, at the end, where losses are summed in double precision.
            results = [self._count(*batch) for batch in self.images.batches(self.batch_size)]
            columns = [torch.stack(column).tolist() for column in zip(*results, strict=True)]
        columns = columns or [[0]] * (2 + self.top5)  # a rank may have no images
        self.model.train(was_training)
        loss, errors, *top5 = distributed.total([sum(column) for column in columns])
        return Counts(int(errors), self.images.num_images, loss, int(top5[0]) if top5 else None)

    def _count(self, images: Tensor, labels: Tensor) -> Results:
        """Count a batch, with a CUDA graph if the batch is full and the mode allows it."""
        if not self._wants_graph or len(images) < self.batch_size:
            return self._forward(images, labels)
        if self._graph is None:
            self._graph = _BatchGraph(self._forward, images, labels)
        return self._graph(images, labels)

    def _forward(self, images: Tensor, labels: Tensor) -> Results:
        logits = predict(self.model, images, self.stats, self.precision)
        dtype = next(self.model.parameters()).dtype
        loss = F.cross_entropy(logits.to(dtype), labels, reduction="sum")
        results = [loss, (logits.argmax(1) != labels).sum()]
        if self.top5:
            results.append((logits.topk(5).indices != labels[:, None]).all(1).sum())
        return results


class _BatchGraph:
    """A CUDA graph of a function of one batch."""

    def __init__(self, forward: Callable[[Tensor, Tensor], Results], images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        self._graph, self._results = record_graph(lambda: forward(self._images, self._labels))

    def __call__(self, images: Tensor, labels: Tensor) -> Results:
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return [result.clone() for result in self._results]


def recompute_batch_norm(
    model: nn.Module, batch: Callable[[int], tuple[Tensor, Tensor]], num_batches: int, precision: str = "fp32"
) -> None:
    """Replace the running statistics by plain averages over training batches, in the precision of training.

    The authors' ImageNet release did so after training (deviation D4). Each rank uses its part of a batch.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    model.train()
    # Compiled blocks would be compiled again for each momentum.
    with torch.no_grad(), uncompiled(model):
        for step in range(num_batches):
            for layer in layers:
                layer.momentum = 1 / (step + 1)
            forward(model, batch(step)[0], precision)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    distributed.average([b for b in model.buffers() if b.is_floating_point()])
