"""ImageNet images for a bench: a sample, its decoders and its feed."""

import contextlib
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.bench.parts import changed
from repro.bench.timing import repeat, timed
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, PhotoSplit, PhotoStats
from repro.data.imagenet import decode, folders
from repro.data.imagenet.loader import PhotoFeed
from repro.data.imagenet.workers import AHEAD, CHUNK
from repro.errors import InputError
from repro.runtime.device import num_threads, num_workers, set_up

SAMPLE = 256  # images at most, from all classes, read again and again: no disk is measured


@functools.cache
def sample(data: DataConfig, root: Path) -> Dataset:
    """Take some of the training images below ``root``; ``skipped`` names those among them that cannot be read."""
    train, _ = folders.find(data, root)
    sizes, skipped = np.zeros((len(train), 2), np.int64), []
    for position in folders.evenly(train.labels, SAMPLE):
        try:
            photo = decode.open_photo(train.root / train.files[position], "pillow")
            sizes[position] = photo.height, photo.width
        except decode.UnreadableError:
            skipped.append(train.files[position])
    split = folders.readable(train, sizes)
    if not len(split):
        raise InputError(f"none of {folders.plural(len(skipped), 'image', 'images')} in {train.root} can be read")
    # Made-up statistics, for no speed depends on them: those of a run need a pass over all images.
    middle = np.full((3, data.image_size, data.image_size), 0.5)
    stats = PhotoStats(middle, middle[:, 0, 0], np.eye(3) / 16, np.full(3, 1 / 16), np.eye(3))
    return Dataset(data.name, split, split, len(split.classes), {}, stats, tuple(skipped))


class HeldFeed(PhotoFeed):
    """A feed that gives its first batch again and again until ``release``, without reading ahead."""

    held: tuple[Tensor, ...] | None = None

    def load(self, step: int) -> tuple[Tensor, ...]:
        return super().load(step) if self.held is None else self.held

    def release(self) -> int:
        """Give all batches from now on; return the steps until what is read ahead first is used up."""
        self.held = None
        return self._workers * AHEAD // -(-self.part_size // CHUNK) + 1


def held_feed(dataset: Dataset, config: RunConfig, device: torch.device) -> HeldFeed:
    split, stats, batch_size = dataset.train, dataset.photo_stats, config.optim.batch_size
    assert isinstance(split, PhotoSplit)
    assert stats is not None
    workers = num_workers(config.execution, device)
    feed = HeldFeed(split, stats, config.data, batch_size, config.seed, device, workers=workers)
    feed.held = tuple(t.to(device) for t in feed.load(0))
    feed.close()
    return feed


def loader(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Time each decoder that works here, on one core and in all its processes, while the processors do nothing else."""
    dataset, execution = sample(config.data, config.paths.data), config.execution
    split = dataset.train
    assert isinstance(split, PhotoSplit)
    assert split.sizes is not None
    device = set_up(execution, config.optim.precision)
    decoders = ["torchvision", "nvjpeg"] if device.type == "cuda" else ["torchvision"]
    first = split.root / split.files[0]
    works = ["pillow", *(name for name in decoders if decode.with_torchvision(first, name) is not None)]
    workers = num_threads(execution) if execution.workers is None else execution.workers
    rows = []
    for decoder in works:
        times = []
        for count in (0, workers):
            given = changed(changed(config, "data", decoder=decoder), "execution", workers=count)
            times.append(feed_ms(held_feed(dataset, given, device), seconds / len(works) / 2))
        core_speed, speed = (1000 * config.optim.batch_size / found["median"] for found in times)
        row = {"decoder": decoder, "images_per_second_per_core": core_speed, "images_per_second": speed}
        rows.append(row | {"workers": workers, "core_batch_ms": times[0], "batch_ms": times[1]})
    return {
        "data": dataset.name,
        "images": len(split),
        "unreadable": len(dataset.skipped),
        "median_size": np.median(split.sizes, 0).tolist(),
        "image_size": config.data.image_size,
        "batch_size": config.optim.batch_size,
        "rows": rows,
    }


def feed_ms(feed: HeldFeed, seconds: float) -> dict[str, Any]:
    """Time the batches of a feed, with one thread for those that this process decodes itself."""
    steps, threads = itertools.count(), torch.get_num_threads()
    take = timed(lambda: feed.load(next(steps)), feed.device)
    torch.set_num_threads(1)
    try:
        with contextlib.closing(feed):
            take(feed.release())
            return repeat(take, seconds)
    finally:
        torch.set_num_threads(threads)
