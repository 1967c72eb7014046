"""Data sets in the memory of the device."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from repro.config.run import DataConfig
from repro.data import Split
from repro.data.augment import Draws, PixelStats, augment, draw_epoch, pixel_stats
from repro.data.feed import Feed
from repro.runtime import distributed


def to_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Move a split to ``device``: uint8 images (N, 3, H, W) and int64 labels (N,)."""
    images = torch.from_numpy(np.ascontiguousarray(split.images.transpose(0, 3, 1, 2)))
    return images.to(device), torch.from_numpy(np.array(split.labels, dtype=np.int64)).to(device)


def split_stats(split: Split, images: Tensor, config: DataConfig) -> PixelStats:
    """Return the pixel statistics of a training split, whose ``images`` are on the device."""
    stats = pixel_stats(images, config.mean, config.std)
    if split.whitening is None:
        return stats
    exact = torch.float32 if images.device.type == "mps" else torch.float64
    return replace(stats, whitening=torch.from_numpy(split.whitening).to(images.device, exact))


class MemoryImages:
    """Images in memory to evaluate."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.num_images = len(labels)
        self._images, self._labels = (t.tensor_split(distributed.size())[distributed.rank()] for t in (images, labels))

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._images.split(batch_size), self._labels.split(batch_size), strict=True)


class MemoryFeed(Feed):
    """Training batches of images in memory."""

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
        super().__init__(len(split), batch_size, device, rank, num_ranks)
        self.images, self.labels = to_device(split, device)
        self.config, self.seed = config, seed
        self.stats = split_stats(split, self.images, config)

    def load(self, step: int) -> tuple[Tensor, ...]:
        return tuple(self.drawn(step))

    def augment(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        draws, data = Draws(*inputs[0]), self.config
        images = augment(self.images[draws.order], draws, self.stats, data.pad, data.pad_order, data.pad_mode)
        return images, self.labels[draws.order]

    def draw(self, epoch: int) -> tuple[Tensor]:
        # One tensor, so that one copy moves it to the device and into a CUDA graph.
        drawn = torch.stack(draw_epoch(len(self), self.config.pad, self.config.flip, self.seed, epoch))
        if self.device.type == "cuda":
            drawn = drawn.pin_memory()  # otherwise the copy would wait for all queued steps
        return (drawn.to(self.device, non_blocking=True),)
