"""Measurements on photographs: what decodes them alone, the step alone, and both together.

A sample of the folder's images is read again and again, so files come from memory after the first time: what is
measured is the processors' work, not a disk's.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.bench.ceilings import wait
from repro.bench.rig import Rig, Rounds, identity, repeat
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, PhotoSplit, PhotoStats
from repro.data.batches import Feed, train_feed
from repro.data.imagenet import decode, folders
from repro.data.imagenet.loader import draw_photo_epoch
from repro.data.imagenet.workers import AHEAD, CHUNK, decoding_workers
from repro.errors import InputError
from repro.runtime.device import num_threads, num_workers, set_up

SAMPLE = 256
"""Images at most, evenly from all classes: more would take long to look through and be no other work."""

DECODED = 32
"""Images that are held decoded, to time what comes after: large ones take 10 MB each."""

PROBE = 8
"""Images that are timed first; one alone may be of any size."""

FEED_SHARE = 2
"""Times as long as a single process is measured at one thing."""

LOADER_LIMITS = 0.05
"""Share of a step's time; where it waits longer than that for its batch, the loader is what limits."""


# --- images -------------------------------------------------------------------------------------------------------


@cache
def sample(data: DataConfig, root: Path) -> Dataset:
    """Some of the training images below ``root``, with ``skipped`` naming those among them that cannot be read.

    The statistics are made up, for no speed depends on them: those of a run need a pass over all images.

    Raises:
        InputError: The folder is not as ``data`` says, or none of the images can be read.
    """
    train, _ = folders.find(data, root)
    sizes, skipped = np.zeros((len(train), 2), np.int64), []
    for position in folders.evenly(train.labels, SAMPLE):
        file = train.files[position]
        try:
            photo = decode.open_photo(train.root / file, "pillow")
        except decode.UnreadableError:
            skipped.append(file)
        else:
            sizes[position] = photo.height, photo.width
    split = folders.readable(train, sizes)
    if not len(split):
        raise InputError(f"none of {folders.plural(len(skipped), 'image', 'images')} in {train.root} can be read")
    middle = np.full((3, data.image_size, data.image_size), 0.5)
    stats = PhotoStats(middle, middle[:, 0, 0], np.eye(3) / 16, np.full(3, 1 / 16), np.eye(3))
    return Dataset(data.name, split, split, len(split.classes), {}, stats, tuple(skipped))


def about(dataset: Dataset) -> dict[str, Any]:
    """What images were measured, for the tables and whoever reads them later."""
    assert isinstance(dataset.train, PhotoSplit)
    assert dataset.train.sizes is not None
    height, width = np.median(dataset.train.sizes, 0).tolist()
    size = {"height": height, "width": width}
    return {"data": dataset.name, "images": len(dataset.train), "unreadable": len(dataset.skipped), "median_size": size}


# --- the loader alone ---------------------------------------------------------------------------------------------


def loader(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Each decoder that works here: in a single process, step by step, and as the whole feed with its processes."""
    dataset = sample(config.data, config.paths.data)
    assert isinstance(dataset.train, PhotoSplit)
    device = set_up(config.execution, config.optim.precision)
    decoders = decoders_here(dataset.train, device)
    share = seconds / len(decoders) / (3 + FEED_SHARE)
    rows = []
    for decoder in decoders:
        data = dataclasses.replace(config.data, decoder=decoder)
        chosen = dataclasses.replace(config, data=data)
        alone = one_process(dataset.train, data, share, device)
        rows.append({"decoder": decoder, **alone, **whole_feed(chosen, dataset, device, FEED_SHARE * share)})
    return {**about(dataset), "image_size": config.data.image_size, "rows": rows}


def decoders_here(split: PhotoSplit, device: torch.device) -> list[Any]:
    """The decoders that read one of the first images, rather than leave it to Pillow."""
    others = ["torchvision"] + ["nvjpeg"] * (device.type == "cuda")
    paths = [split.root / file for file in split.files[:PROBE]]
    return ["pillow"] + [d for d in others if any(decode.with_torchvision(path, d) is not None for path in paths)]


def one_process(split: PhotoSplit, data: DataConfig, seconds: float, device: torch.device) -> dict[str, Any]:
    """Milliseconds per image on one core: decoding, what follows (resizing, cropping, mirroring), and all of it."""
    paths = [split.root / file for file in split.files]
    draws = draw_photo_epoch(len(paths), data, 0, 0)
    sides, flips = draws.shorter_side.tolist(), draws.flip.tolist()
    places = list(zip(*draws.place.tolist(), strict=True))
    held = [decode.open_photo(path, data.decoder) for path in paths[:DECODED]]

    def open_one(i: int) -> None:
        decode.open_photo(paths[i], data.decoder)

    def crop_one(i: int) -> None:
        decode.crop(held[i], sides[i], data.image_size, places[i], flips[i])

    def all_of_one(i: int) -> None:
        decode.load_crop(paths[i], sides[i], data.image_size, data.decoder, places[i], flips[i])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a process of the feed
    try:
        decoding = one_by_one(open_one, len(paths), seconds, device)
        cropping = one_by_one(crop_one, len(held), seconds, device)
        whole = one_by_one(all_of_one, len(paths), seconds, device)
    finally:
        torch.set_num_threads(threads)
    return {
        "decode_ms": decoding.to_dict(),
        "crop_ms": cropping.to_dict(),
        "whole_ms": whole.to_dict(),
        "images_per_second_per_core": whole.per_second,
    }


def one_by_one(action: Callable[[int], None], num_images: int, seconds: float, device: torch.device) -> Rounds:
    """Times ``action`` on image after image, from the first again after the last."""
    positions = itertools.cycle(range(num_images))

    def some(count: int) -> float:
        start = time.perf_counter()
        for position in itertools.islice(positions, count):
            action(position)
        wait(device)
        return time.perf_counter() - start

    some(1)  # imports, and what a decoder sets up once
    return repeat(some, seconds, PROBE)


def whole_feed(config: RunConfig, dataset: Dataset, device: torch.device, seconds: float) -> dict[str, Any]:
    """Batches as a run would take them, with nothing else to do for the processors: images per second."""
    asked = config.execution.workers
    workers = num_threads(config.execution) if asked is None else asked
    execution = dataclasses.replace(config.execution, workers=workers)
    feed = train_feed(dataset, dataclasses.replace(config, execution=execution), device)
    steps = itertools.count()

    def some(count: int) -> float:
        start = time.perf_counter()
        for step in itertools.islice(steps, count):
            feed.fed(step)
        wait(device)
        return time.perf_counter() - start

    processes = decoding_workers(config.data.decoder, workers, device)
    try:
        some(read_ahead_steps(processes, feed.part_size))
        rounds = repeat(some, seconds)
    finally:
        feed.close()
    speed = feed.part_size * rounds.per_second
    return {
        "workers": processes,
        "batch_size": feed.part_size,
        "batch_ms": rounds.to_dict(),
        "images_per_second": speed,
        "images_per_second_per_worker": speed / max(processes, 1),
    }


def read_ahead_steps(workers: int, batch_size: int) -> int:
    """Steps until what was read ahead is used up: those that follow wait for what they need."""
    return workers * AHEAD // -(-batch_size // CHUNK) + 1


# --- the step, alone and with its loader --------------------------------------------------------------------------


class SwitchedFeed:
    """A feed of files, or one of its batches again and again from the device; it knows how long it was waited for."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.device, self.part_size, self.stats = feed.device, feed.part_size, feed.stats
        self.waited = 0.0
        """Seconds that the host spent on getting batches of files."""
        self.held: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self.feed)

    def hold(self) -> None:
        """From now on the same batch; the processes that read ahead end."""
        self.held = tuple(t.to(self.device) for t in self.feed.fed(0))
        self.feed.close()

    def release(self) -> None:
        """From now on batches of files."""
        self.held = None

    def fed(self, step: int) -> tuple[Tensor, ...]:
        if self.held is not None:
            return self.held
        start = time.perf_counter()
        fed = self.feed.fed(step)
        self.waited += time.perf_counter() - start
        return fed

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return self.feed.augmented(fed)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.augmented(tuple(t.to(self.device) for t in self.fed(step)))

    def close(self) -> None:
        self.feed.close()


def held_rig(config: RunConfig) -> tuple[Rig, SwitchedFeed]:
    """A net whose steps take one batch again and again, until its feed is released."""
    dataset = sample(config.data, config.paths.data)
    device = set_up(config.execution, config.optim.precision)
    feed = SwitchedFeed(train_feed(dataset, config, device))
    feed.hold()
    return Rig(config, dataset, feed), feed


def training(config: RunConfig, seconds: float) -> dict[str, Any]:
    """One net in one precision and step mode: the step alone, and the training loop with its feed."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    rig, feed = held_rig(config)
    try:
        built = time.perf_counter() - begun
        first = rig.warm_up()
        stepping = repeat(rig.steps, 0.4 * seconds)
        feed.release()
        workers = decoding_workers(config.data.decoder, num_workers(config.execution, rig.device), rig.device)
        rig.loop(read_ahead_steps(workers, feed.part_size))
        shares: list[float] = []

        def looped(count: int) -> float:
            before = feed.waited
            taken = rig.loop(count)
            shares.append((feed.waited - before) / taken)
            return taken

        looping = repeat(looped, 0.6 * seconds)
    finally:
        feed.close()
    # A GPU works on while its host waits for the next batch: there only the time that a step takes longer counts.
    lost = max(0.0, 1 - stepping.ms / looping.ms)
    waiting = statistics.median(shares[1:]) if rig.device.type == "cpu" else lost
    cuda = rig.device.type == "cuda"
    return {
        **identity(rig),
        **about(sample(config.data, config.paths.data)),
        "decoder": config.data.decoder,
        "bn_group_size": config.model.bn_group_size,
        "workers": workers,
        "startup_seconds": built + first,
        "step_ms": stepping.to_dict(),
        "loop_ms": looping.to_dict(),
        "step_images_per_second": feed.part_size * stepping.per_second,
        "images_per_second": feed.part_size * looping.per_second,
        "waiting_share": waiting,
        # Beside noise a step can seem slower alone than in the loop: then nothing was waited for that counts.
        "limit": "loader" if waiting >= LOADER_LIMITS and looping.per_second < stepping.per_second else "step",
        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
    }
