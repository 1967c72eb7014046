"""TensorBoard events of a run, in the run's own folder."""

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
"""Every chart has all runs as lines. The same in each run: TensorBoard merges the layouts of runs by their titles.
``repro.report.tensorboard`` writes what the second row shows."""

GRID = 8
GRID_PIXELS = 900
BINS = 64
HISTOGRAM_VALUES = 2**17
"""Responses of a layer that are counted: more would not be seen in a histogram and take seconds a net."""


class Events:
    """Error, loss, learning rate and speed over steps.

    Args:
        step: The step that a resumed run continues from.
        split: The split that the run is evaluated on.
    """

    def __init__(self, folder: Path, step: int, split: str) -> None:
        self.split = split
        # Events of a killed run after its last checkpoint are purged: they are written again.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1, max_queue=1000)
        self.writer.add_custom_scalars(CHARTS)

    def images(self, batch: Tensor, stats: PixelStats) -> None:
        """Show the first images of a batch (N, 3, H, W), augmented and normalized with ``stats``, in their colours."""
        self.writer.add_image("augmented/first_batch", grid(batch, stats), 0)

    def logged(self, step: int, seen: Counts, lr: float, images_per_second: float) -> None:
        self.writer.add_scalar("loss/train", seen.loss, step)
        self.writer.add_scalar("schedule/lr", lr, step)
        if images_per_second:
            self.writer.add_scalar("speed/images_per_second", images_per_second, step)

    def evaluated(self, step: int, train: Counts, evaluated: Counts) -> None:
        """Add the errors of an evaluation, and those of training since the one before, as the paper's dashed curves."""
        self.writer.add_scalar("error/train", train.top1_error, step)
        self.writer.add_scalar(f"error/{self.split}", evaluated.top1_error, step)
        self.writer.add_scalar(f"loss/{self.split}", evaluated.loss, step)

    def responses(self, step: int) -> Callable[[str, Tensor], None]:
        """Return a function that ``layer_statistics.watched`` calls with a layer's name and its responses to a batch.

        It keeps a histogram of each layer's (Fig. 7 has their deviation alone).
        """
        numbers = itertools.count(1)

        def take(layer: str, values: Tensor) -> None:
            tag, flat = f"responses/{next(numbers):03d} {layer}", values.detach().flatten()
            flat = flat[:: -(-len(flat) // HISTOGRAM_VALUES)].float().cpu()
            flat = flat[flat.isfinite()]
            if len(flat):
                self.writer.add_histogram(tag, flat.numpy(), step, bins=BINS)

        return take

    def close(self) -> None:
        self.writer.close()


def grid(batch: Tensor, stats: PixelStats) -> Tensor:
    """Lay the first images of a normalized batch (N, 3, H, W) side by side, uint8 (3, …, …); small ones enlarged."""
    side = min(GRID, max(1, GRID_PIXELS // batch.shape[-1]), max(1, int(len(batch) ** 0.5)))
    pixels = batch[: side * side].detach().float() * stats.std + stats.mean
    pixels = (pixels * 255).round().clamp(0, 255).byte().cpu()
    enlarged = max(1, 64 // pixels.shape[-1])
    pixels = pixels.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    rows = [torch.cat(list(pixels[row * side : (row + 1) * side]), 2) for row in range(side)]
    return torch.cat(rows, 1)
