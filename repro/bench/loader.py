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
from repro.bench.timing import per_second, repeat, timed
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, PhotoSplit, PhotoStats
from repro.data.imagenet import decode, folders
from repro.data.imagenet.loader import PhotoFeed
from repro.data.imagenet.workers import AHEAD, CHUNK
from repro.errors import InputError
from repro.runtime.device import num_threads, num_workers, set_up

SAMPLE = 256  # the most images, of all classes; they are read repeatedly, so that no disk is measured


@functools.cache
def sample(data: DataConfig, root: Path) -> Dataset:
    """Take some of the training images below ``root``; ``skipped`` names the unreadable ones among them."""
    train, _ = folders.find(data, root)
    sizes, skipped = np.zeros((len(train), 2), np.int64), []
    for position in folders.evenly(train.labels, SAMPLE):
        try:
            photo = decode.open_photo(train.path(position), "pillow")
            sizes[position] = photo.height, photo.width
        except decode.UnreadableError:
            skipped.append(train.files[position])
    split = folders.readable(train, sizes)
    if not len(split):
        raise InputError(f"none of {folders.plural(len(skipped), 'image', 'images')} in {train.root} can be read")
    # Any statistics do, because they do not affect speed: those of a run need a pass over all images.
    middle = np.full((3, data.image_size, data.image_size), 0.5)
    stats = PhotoStats(middle, middle[:, 0, 0], np.eye(3) / 16, np.full(3, 1 / 16), np.eye(3))
    return Dataset(data.name, split, split, len(split.classes), {}, stats, tuple(skipped))


class HeldFeed(PhotoFeed):
    """A feed that repeats its first batch until ``release``, without reading ahead."""

    def __init__(self, dataset: Dataset, config: RunConfig, device: torch.device) -> None:
        assert isinstance(dataset.train, PhotoSplit) and dataset.photo_stats is not None
        workers, batch_size = num_workers(config.execution, device), config.optim.batch_size
        super().__init__(
            dataset.train, dataset.photo_stats, config.data, batch_size, config.seed, device, workers=workers
        )
        self.held: tuple[Tensor, ...] | None = tuple(t.to(device) for t in super().load(0))
        self.close()

    def load(self, step: int) -> tuple[Tensor, ...]:
        return super().load(step) if self.held is None else self.held

    def release(self) -> int:
        """Return all batches from now on; return the number of steps until the first read-ahead is used up."""
        self.held = None
        return self._workers * AHEAD // -(-self.part_size // CHUNK) + 1


def loader(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Time each available decoder on one core and in all its processes, on otherwise idle processors."""
    dataset, execution, batch_size = sample(config.data, config.paths.data), config.execution, config.optim.batch_size
    split = dataset.train
    assert isinstance(split, PhotoSplit) and split.sizes is not None
    device = set_up(execution, config.optim.precision)
    others = ["torchvision", "nvjpeg"] if device.type == "cuda" else ["torchvision"]
    works = ["pillow", *(name for name in others if decode.with_torchvision(split.path(0), name) is not None)]
    workers = num_threads(execution) if execution.workers is None else execution.workers
    rows = []
    for decoder in works:
        given = changed(config, "data", decoder=decoder)
        feeds = [HeldFeed(dataset, changed(given, "execution", workers=count), device) for count in (0, workers)]
        core_ms, ms = (feed_ms(feed, seconds / len(works) / 2) for feed in feeds)
        core_speed, speed = per_second(batch_size, core_ms), per_second(batch_size, ms)
        row = {"decoder": decoder, "images_per_second_per_core": core_speed, "images_per_second": speed}
        rows.append(row | {"workers": workers, "core_batch_ms": core_ms, "batch_ms": ms})
    return {
        "data": dataset.name,
        "images": len(split),
        "unreadable": len(dataset.skipped),
        "median_size": np.median(split.sizes, 0).tolist(),
        "image_size": config.data.image_size,
        "batch_size": batch_size,
        "rows": rows,
    }


def feed_ms(feed: HeldFeed, seconds: float) -> dict[str, Any]:
    """Time the batches of a feed, with one thread for decoding in this process."""
    steps, threads = itertools.count(), torch.get_num_threads()
    take = timed(lambda: feed.load(next(steps)), feed.device)
    torch.set_num_threads(1)
    try:
        with contextlib.closing(feed):
            take(feed.release())
            return repeat(take, seconds)
    finally:
        torch.set_num_threads(threads)
