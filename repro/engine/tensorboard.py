"""TensorBoard events of a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from repro.data.augment import PixelStats
from repro.evaluation.counts import Counts

CHARTS: dict[str, dict[str, list[Any]]] = {
    "error %, all runs": {
        "training error": ["Multiline", ["^error/train$"]],
        "test or validation error": ["Multiline", ["^error/(test|val|val5k)$"]],
    },
    "by depth and by layer": {
        "final error % against depth": ["Multiline", ["^error_by_depth/"]],
        "std of the 3x3 layers' responses, against layer": ["Multiline", ["^response_std$"]],
    },
}
"""Charts with one line for each run; TensorBoard merges the equal layouts of all runs. ``repro.report.tensorboard``
writes the values of the second row."""

GRID = 8
GRID_PIXELS = 900
BINS = 64
HISTOGRAM_VALUES = 2**17
"""Responses of a layer in a histogram: more would not change it visibly, but take seconds for each net."""


class Events:
    """Error, loss, learning rate and speed over steps.

    TensorBoard's first tab sorts tags by name: errors come first, then other curves, histograms and pictures.

    Args:
        step: The step from which the run resumes, or 0.
        split: The split for evaluation.
    """

    def __init__(self, folder: Path, step: int, split: str) -> None:
        self.split = split
        # A killed run may have written events after its last checkpoint; they are removed and written again.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1, max_queue=1000)
        self.writer.add_custom_scalars(CHARTS)

    def images(self, batch: Tensor, stats: PixelStats) -> None:
        """Show the first images of a batch (N, 3, H, W) that was augmented and normalized with ``stats``."""
        self.writer.add_image("training_images/augmented", grid(batch, stats), 0)

    def logged(self, step: int, seen: Counts, lr: float, images_per_second: float) -> None:
        self.writer.add_scalar("loss/train", seen.loss, step)
        self.writer.add_scalar("schedule/lr", lr, step)
        if images_per_second:
            self.writer.add_scalar("speed/images_per_second", images_per_second, step)

    def evaluated(self, step: int, train: Counts, evaluated: Counts) -> None:
        """Add the errors of an evaluation and the training errors since the previous one."""
        self.writer.add_scalar("error/train", train.top1_error, step)
        self.writer.add_scalar(f"error/{self.split}", evaluated.top1_error, step)
        self.writer.add_scalar(f"loss/{self.split}", evaluated.loss, step)

    def responses(self, step: int) -> Callable[[str, Tensor], None]:
        """Return a callback for ``layer_statistics.watched`` that adds a histogram of each layer's responses."""
        numbers = itertools.count(1)

        def take(layer: str, values: Tensor) -> None:
            tag, flat = f"statistics/responses {next(numbers):03d} {layer}", values.detach().flatten()
            flat = flat[:: -(-len(flat) // HISTOGRAM_VALUES)].float().cpu()
            flat = flat[flat.isfinite()]
            if len(flat):
                self.writer.add_histogram(tag, flat.numpy(), step, bins=BINS)

        return take

    def close(self) -> None:
        self.writer.close()


def grid(batch: Tensor, stats: PixelStats) -> Tensor:
    """Arrange the first images of a normalized batch (N, 3, H, W) in a grid, uint8 (3, …, …); enlarge small ones."""
    side = min(GRID, max(1, GRID_PIXELS // batch.shape[-1]), max(1, int(len(batch) ** 0.5)))
    pixels = batch[: side * side].detach().float() * stats.std + stats.mean
    pixels = (pixels * 255).round().clamp(0, 255).byte().cpu()
    enlarged = max(1, 64 // pixels.shape[-1])
    pixels = pixels.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    rows = [torch.cat(list(pixels[row * side : (row + 1) * side]), 2) for row in range(side)]
    return torch.cat(rows, 1)
