"""From a data set to what a run reads: its training batches and the images that it is evaluated on."""

from __future__ import annotations

import torch

from repro.config.run import RunConfig
from repro.data import Dataset, PhotoSplit, Split
from repro.data.batches import Feed, Images
from repro.data.imagenet.loader import PhotoFeed, PhotoImages
from repro.data.in_memory import MemoryImages, TrainStream, to_device
from repro.runtime import distributed
from repro.runtime.device import num_workers


def train_feed(dataset: Dataset, config: RunConfig, device: torch.device) -> Feed:
    """The training batches of a run: this rank's part of each."""
    split, batch_size, ranks = dataset.train, config.optim.batch_size, (distributed.rank(), distributed.size())
    if isinstance(split, PhotoSplit):
        assert dataset.photo_stats is not None
        workers = num_workers(config.execution, device)
        return PhotoFeed(split, dataset.photo_stats, config.data, batch_size, config.seed, device, *ranks, workers)
    return TrainStream(split, config.data, batch_size, config.seed, device, *ranks)


def eval_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """This rank's part of the split that a run is evaluated on."""
    return images_of(dataset.eval, config, device)


def train_images(dataset: Dataset, config: RunConfig, device: torch.device) -> Images:
    """This rank's part of the training images as they are, for the error on them after training."""
    return images_of(dataset.train, config, device, config.eval.train_images)


def images_of(split: Split | PhotoSplit, config: RunConfig, device: torch.device, limit: int | None = None) -> Images:
    """The first ``limit`` images of a split, all for None, without augmentation."""
    if isinstance(split, PhotoSplit):
        workers = num_workers(config.execution, device)
        return PhotoImages(split, config.data, device, distributed.rank(), distributed.size(), workers, limit)
    images, labels = to_device(split, device)
    return MemoryImages(images[:limit], labels[:limit])
