"""Batches of a run, from memory or from image files."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data import Dataset, PhotoSplit, Split
from repro.data.feed import Feed
from repro.data.imagenet.loader import PhotoFeed, PhotoImages
from repro.data.in_memory import MemoryFeed, MemoryImages, to_device
from repro.runtime import distributed
from repro.runtime.device import num_workers


class Images(Protocol):
    """Images to evaluate: this rank's part of a split."""

    num_images: int  # of all ranks together

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield uint8 images (N, 3, H, W) and labels (N,) on the device; only the last batch may be short."""


def train_feed(dataset: Dataset, config: RunConfig, device: torch.device) -> Feed:
    split, batch_size, ranks = dataset.train, config.optim.batch_size, (distributed.rank(), distributed.size())
    if isinstance(split, PhotoSplit):
        assert dataset.photo_stats is not None
        workers = num_workers(config.execution, device)
        return PhotoFeed(split, dataset.photo_stats, config.data, batch_size, config.seed, device, *ranks, workers)
    return MemoryFeed(split, config.data, batch_size, config.seed, device, *ranks)


def eval_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    return images_of(dataset.eval, config, device)


def held_out_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """Return the images that are held out to choose an epoch by."""
    assert dataset.held_out is not None
    return images_of(dataset.held_out, config, device)


def train_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """Return the training images without augmentation, for the error on them after training."""
    return images_of(dataset.train, config, device, config.eval.train_images)


def images_of(split: Split | PhotoSplit, config: RunConfig, device: torch.device, limit: int | None = None) -> Images:
    if isinstance(split, PhotoSplit):
        workers = num_workers(config.execution, device)
        return PhotoImages(split, config.data, device, distributed.rank(), distributed.size(), workers, limit)
    images, labels = to_device(split, device)
    return MemoryImages(images[:limit], labels[:limit])
