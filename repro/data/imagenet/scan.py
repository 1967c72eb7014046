"""One pass over all photographs of a set: which cannot be decoded, how large they are, their mean image and colours.

Sums are whole numbers, so they are the same however many processes make them (deviation D17).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from filelock import FileLock, Timeout

from repro.config.run import DataConfig
from repro.data import PhotoStats
from repro.data.imagenet import decode
from repro.data.imagenet.folders import SHOWN, Listing, plural, printable
from repro.data.imagenet.workers import num_workers, read_ahead
from repro.errors import InputError, RunError
from repro.runtime.files import replacing
from repro.runtime.progress import LINE_SECONDS, duration
from repro.runtime.provenance import write_atomically

FORMAT = 1
"""Of what is kept; it rises where a pass would find something else in the same files."""

CHUNK = 128
"""Images of one task of a process."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Seen:
    """What a pass found.

    ``train_sizes`` and ``val_sizes`` (N, 2) are heights and widths, 0 where an image cannot be read; ``unreadable``
    says why, by path. ``pixels`` (3, S, S) is the sum of the training images' centre crops and ``products`` (3, 3) that
    of the products of their colours, both int64.
    """

    train_sizes: np.ndarray
    val_sizes: np.ndarray
    pixels: np.ndarray
    products: np.ndarray
    unreadable: dict[str, str]

    def stats(self) -> PhotoStats:
        """Mean image, covariance of the colours and its principal components, of pixels in [0, 1]."""
        count = np.count_nonzero(self.train_sizes[:, 0])
        mean_image = self.pixels / count / 255
        mean = mean_image.mean((1, 2))
        area = self.pixels.shape[1] * self.pixels.shape[2]
        covariance = self.products / (count * area * 255**2) - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        # A component and its opposite are the same; libraries differ in which one they give.
        largest = vectors[np.abs(vectors).argmax(0), range(3)]
        return PhotoStats(mean_image, mean, covariance, values, vectors * np.sign(largest))


@dataclass(frozen=True)
class Chunk:
    """Files to look at, and whether they count for the statistics."""

    files: Sequence[str]
    counts: bool


@dataclass(frozen=True)
class Sight:
    """What one chunk showed."""

    sizes: list[tuple[int, int]]
    unreadable: dict[str, str]
    pixels: torch.Tensor | None
    products: torch.Tensor | None


@dataclass(frozen=True)
class Look:
    """Decodes a chunk of images, in any process."""

    root: Path
    decoder: str
    shorter_side: int
    size: int

    def __call__(self, chunk: Chunk) -> Sight:
        sizes, unreadable = [], {}
        pixels = torch.zeros(3, self.size, self.size, dtype=torch.int64)
        products = torch.zeros(3, 3, dtype=torch.int64)
        for file in chunk.files:
            try:
                photo = opened(self.root / file, self.decoder)
            except decode.UnreadableError as error:
                unreadable[file] = str(error)
                sizes.append((0, 0))
                continue
            sizes.append((photo.height, photo.width))
            if chunk.counts:
                crop = decode.crop(photo, self.shorter_side, self.size)
                pixels += crop
                # The products of one image are below 2^53: doubles hold their sum exactly, in any order.
                colours = crop.flatten(1).double()
                products += (colours @ colours.T).long()
        return Sight(sizes, unreadable, *((pixels, products) if chunk.counts else (None, None)))


def opened(path: Path, decoder: str) -> decode.Photo:
    """Decode an image, if it is a file: opening a pipe would wait for ever.

    Raises:
        UnreadableError: It is no file, cannot be read or is no image.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        target = f"a link to {path.readlink()}: " if path.is_symlink() else ""
        raise decode.UnreadableError(f"{target}{error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise decode.UnreadableError("a folder" if stat.S_ISDIR(mode) else "not a file")
    return decode.open_photo(path, decoder)


def seen(
    listings: tuple[Listing, Listing], data: DataConfig, *, cache: Path | None, workers: int | None, say: Say
) -> Seen:
    """The pass over ``listings`` (training and validation images), or what an earlier one left in ``cache``.

    Raises:
        RunError: The cache cannot be written, or a process ended.
    """
    if cache is None:
        return look_through(listings, data, workers, say)
    path = cache / f"photos-{key(listings, data)}.npz"
    found = still_true(read(path), listings[0].root, data)
    if found is None:
        with one_at_a_time(path, say):
            found = still_true(read(path), listings[0].root, data)
            if found is None:
                found = look_through(listings, data, workers, say)
                write(path, found)
    return found


def still_true(found: Seen | None, root: Path, data: DataConfig) -> Seen | None:
    """None where an image that could not be read now can: its rights or the disk were at fault, not the file."""
    for file in found.unreadable if found else ():
        with contextlib.suppress(decode.UnreadableError):
            opened(root / file, scanner(data)[0])
            return None
    return found


def key(listings: tuple[Listing, Listing], data: DataConfig) -> str:
    """What the result of a pass depends on: files with their times of change, sizes, and the decoder's version."""
    decoder, version = scanner(data)
    parts = [FORMAT, decoder, version, data.eval_resize, data.image_size]
    return hashlib.sha256(json.dumps([*parts, *(s.digest(with_times=True) for s in listings)]).encode()).hexdigest()[
        :16
    ]


def scanner(data: DataConfig) -> tuple[str, str]:
    """The decoder of the pass and its version. It runs in processes that have no GPU: Pillow stands in for nvJPEG."""
    if data.decoder == "torchvision":
        return "torchvision", str(torchvision.__version__)
    return "pillow", PIL.__version__


def look_through(listings: tuple[Listing, Listing], data: DataConfig, workers: int | None, say: Say) -> Seen:
    """The pass itself, with its progress."""
    assert data.eval_resize is not None
    look = Look(listings[0].root, scanner(data)[0], data.eval_resize, data.image_size)
    chunks = [Chunk(files, i == 0) for i, split in enumerate(listings) for files in parts(split.files)]
    total, count = sum(map(len, listings)), num_workers(workers)
    aim = "to check them and for their mean image" if len(listings[0]) else "to check them"
    processes = plural(max(count, 1), "process", "processes")
    say(f"reading all {total:,} images of {look.root} once with {processes}, {aim}")
    start = shown = time.monotonic()
    sizes: list[tuple[int, int]] = []
    unreadable: dict[str, str] = {}
    pixels, products = np.zeros((3, look.size, look.size), np.int64), np.zeros((3, 3), np.int64)
    with contextlib.closing(read_ahead(look, chunks, count)) as sights:
        for sight in sights:
            sizes += sight.sizes
            unreadable |= sight.unreadable
            if sight.pixels is not None and sight.products is not None:
                pixels += sight.pixels.numpy()
                products += sight.products.numpy()
            now = time.monotonic()
            if now - shown >= LINE_SECONDS:
                shown = now
                left = (total - len(sizes)) * (now - start) / len(sizes)
                say(f"  {len(sizes):,} of {total:,} images read, {duration(left)} left")
    every = np.array(sizes, np.int32).reshape(-1, 2)
    train = len(listings[0])
    return Seen(every[:train], every[train:], pixels, products, unreadable)


def parts(files: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(files), CHUNK):
        yield files[start : start + CHUNK]


def report(unreadable: dict[str, str], root: Path, data: DataConfig, cache: Path | None, say: Say) -> None:
    """Says which images cannot be read: at once all of them, beyond the first in a file in ``cache``.

    Raises:
        InputError: ``data.skip_corrupt`` does not allow to leave them out.
    """
    lines = [f"{printable(str(root / file))} ({printable(why)})" for file, why in unreadable.items()]
    text = "\n  ".join(lines[:SHOWN])
    if len(lines) > SHOWN:
        text += f"\n  and {len(lines) - SHOWN:,} more"
        if cache is not None:
            whole = "\n".join(lines) + "\n"
            path = cache / f"unreadable-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.txt"
            write_atomically(path, whole)
            text += f"; all are listed in {path}"
    images = plural(len(lines), "image", "images")
    if not data.skip_corrupt:
        raise InputError(
            f"{images} cannot be read; replace them, or leave them out with data.skip_corrupt=true:\n  {text}"
        )
    say(f"{images} cannot be read, left out (data.skip_corrupt=true):\n  {text}")


# --- the cache ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def one_at_a_time(path: Path, say: Say) -> Iterator[None]:
    """Of several runs, or ranks, that need the same pass, one makes it and the others wait for it."""
    with contextlib.ExitStack() as held:
        lock = FileLock(path.with_suffix(".lock"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(lock.acquire(timeout=1))
            except Timeout:
                say("another process is reading all images; this one waits for it")
                held.enter_context(lock.acquire())
        except NotImplementedError:
            pass  # a file system without locks: at worst the pass is made twice
        except OSError as error:
            raise RunError(f"the folder {path.parent} cannot be written ({error.strerror})") from error
        yield


def write(path: Path, found: Seen) -> None:
    """Writes what a pass found so that a reader finds all of it or nothing."""
    try:
        with replacing(path) as file:
            np.savez(
                file,
                train_sizes=found.train_sizes,
                val_sizes=found.val_sizes,
                pixels=found.pixels,
                products=found.products,
                unreadable=np.frombuffer(json.dumps(found.unreadable).encode(), np.uint8),
            )
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror})") from error


def read(path: Path) -> Seen | None:
    """What an earlier pass left, or None where it left nothing that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("train_sizes", "val_sizes", "pixels", "products")}
            return Seen(**arrays, unreadable=json.loads(stored["unreadable"].tobytes()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
