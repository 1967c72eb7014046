"""Exact evaluation: every image once, a single view of it (paper, section 4.2), counts divided at the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data.transforms import PixelStats, normalize
from repro.device import autocast, memory_format
from repro.metrics import Counts


def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, stats: PixelStats, batch_size: int, precision: str
) -> Counts:
    """Top-1 errors and loss over uint8 images (N, 3, H, W) with labels (N,); the last batch may be short."""
    was_training = model.training
    model.eval()
    errors = torch.zeros((), dtype=torch.int64, device=images.device)
    losses = []
    with torch.inference_mode():
        for some_images, some_labels in zip(
            torch.split(images, batch_size), torch.split(labels, batch_size), strict=True
        ):
            pixels = normalize(some_images, stats).contiguous(memory_format=memory_format(images.device))
            with autocast(images.device, precision):
                logits = model(pixels)
            errors += (logits.argmax(1) != some_labels).sum()
            losses.append(F.cross_entropy(logits.float(), some_labels, reduction="sum"))
        # One transfer at the end; summed in double precision on the host.
        loss_sum = sum(torch.stack(losses).tolist())
    model.train(was_training)
    return Counts(int(errors), len(labels), loss_sum)


def recompute_batch_norm(model: nn.Module, batch: Callable[[int], tuple[Tensor, Tensor]], num_batches: int) -> None:
    """Replaces the running statistics by plain averages over training batches, as the authors' ImageNet release
    did after training (deviation D4)."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    with torch.no_grad():
        for step in range(num_batches):
            model(batch(step)[0])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
