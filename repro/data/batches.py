"""Batches of a run, from memory or decoded from files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data import Dataset, PhotoSplit, Split
from repro.data.augment import PixelStats
from repro.data.imagenet.loader import PhotoFeed, PhotoImages
from repro.data.in_memory import MemoryImages, TrainStream, to_device
from repro.runtime import distributed
from repro.runtime.device import num_workers


class Feed(Protocol):
    """Training batches by step. A step is fed tensors of the same shapes and types every time, as a CUDA graph needs,
    and makes its augmented batch of them on the device alone."""

    device: torch.device
    part_size: int
    """Images of a step on this rank."""
    stats: PixelStats

    def __len__(self) -> int:
        """Images in an epoch."""

    def fed(self, step: int) -> tuple[Tensor, ...]:
        """What ``augmented`` needs for ``step``, counted from 0: on the device, or in host memory (pinned for CUDA)."""

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Float32 images (B, 3, H, W), augmented and normalized, and labels (B,); B is this rank's part."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What ``augmented`` gives for ``step``."""

    def close(self) -> None:
        """Ends what was started to read ahead."""


class Images(Protocol):
    """Images of a split that are evaluated: this rank's part of them."""

    num_images: int
    """Of all ranks together."""

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 images (N, 3, H, W) and labels (N,) on the device; every batch is full but the last. No image comes
        twice, on whichever rank."""


def train_feed(dataset: Dataset, config: RunConfig, device: torch.device) -> Feed:
    """Return the training batches of a run, this rank's part of each."""
    split, batch_size, ranks = dataset.train, config.optim.batch_size, (distributed.rank(), distributed.size())
    if isinstance(split, PhotoSplit):
        assert dataset.photo_stats is not None
        workers = num_workers(config.execution, device)
        return PhotoFeed(split, dataset.photo_stats, config.data, batch_size, config.seed, device, *ranks, workers)
    return TrainStream(split, config.data, batch_size, config.seed, device, *ranks)


def eval_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """Return this rank's part of the split that a run is evaluated on."""
    return images_of(dataset.eval, config, device)


def train_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """Return this rank's part of the training images as they are, for the error on them after training."""
    return images_of(dataset.train, config, device, config.eval.train_images)


def images_of(split: Split | PhotoSplit, config: RunConfig, device: torch.device, limit: int | None = None) -> Images:
    """Return the first ``limit`` images of a split, all for None, without augmentation."""
    if isinstance(split, PhotoSplit):
        workers = num_workers(config.execution, device)
        return PhotoImages(split, config.data, device, distributed.rank(), distributed.size(), workers, limit)
    images, labels = to_device(split, device)
    return MemoryImages(images[:limit], labels[:limit])
