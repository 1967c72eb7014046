"""Data sets that lie in memory, whole on the device: the batch of a step, and the images of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from repro.config.run import DataConfig
from repro.data import Split
from repro.data.augment import Draws, PixelStats, augment, draw_epoch, pixel_stats
from repro.runtime import distributed


def to_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, H, W) and int64 labels (N,) of a split, whole, on ``device``."""
    images = torch.from_numpy(np.ascontiguousarray(split.images.transpose(0, 3, 1, 2)))
    return images.to(device), torch.from_numpy(np.array(split.labels, dtype=np.int64)).to(device)


class MemoryImages:
    """Images of a split that are evaluated, on the device: this rank's part (``data.feeds.Images``)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.num_images = len(labels)
        self._images, self._labels = (t.tensor_split(distributed.size())[distributed.rank()] for t in (images, labels))

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._images.split(batch_size), self._labels.split(batch_size), strict=True)


class TrainStream:
    """The training batches of a set in memory (``data.feeds.Feed``).

    Step t takes images [B*t, B*t + B) of the concatenated per-epoch permutations. No batch is short and no image is
    dropped: a step may end one epoch and begin the next (D15). ``batch_size`` is global: of ``num_ranks`` ranks,
    which divide it, ``rank`` gets its own consecutive part, and chance decides about the whole batch before.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.images, self.labels = to_device(split, device)
        self.config, self.batch_size, self.seed, self.device = config, batch_size, seed, device
        self.part_size = batch_size // num_ranks
        """Images of a step on this rank."""
        self._part_start = rank * self.part_size
        self.stats: PixelStats = pixel_stats(self.images, config.mean, config.std)
        self._epochs: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.labels)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented float32 images (B, 3, H, W) and labels (B,) of ``step``, counted from 0; B is this rank's part."""
        return self.augmented(self.fed(step))

    def fed(self, step: int) -> tuple[Tensor]:
        """The draws of ``step``, packed, (4, B)."""
        return (self.draws(step).packed,)

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """What ``batch`` gives, for draws that are at hand: all of it on the device, as a CUDA graph needs."""
        draws = Draws(fed[0])
        images = augment(self.images[draws.order], draws, self.stats, self.config.pad, self.config.pad_order)
        return images, self.labels[draws.order]

    def close(self) -> None:
        """Nothing reads ahead."""

    def draws(self, step: int) -> Draws:
        """What chance decides about this rank's images of ``step``, on the device."""
        first = step * self.batch_size + self._part_start
        last = first + self.part_size
        parts = []
        for epoch in range(first // len(self), (last - 1) // len(self) + 1):
            start = epoch * len(self)
            parts.append(self._epoch(epoch)[:, max(first - start, 0) : min(last - start, len(self))])
        return Draws(parts[0] if len(parts) == 1 else torch.cat(parts, 1))

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            # Only the epoch that ends and the one that begins are ever needed.
            self._epochs = {e: draws for e, draws in self._epochs.items() if e == epoch - 1}
            drawn = draw_epoch(len(self), self.config.pad, self.config.flip, self.seed, epoch).packed
            if self.device.type == "cuda":
                drawn = drawn.pin_memory()  # else the copy would wait for all steps that are under way
            self._epochs[epoch] = drawn.to(self.device, non_blocking=True)
        return self._epochs[epoch]
