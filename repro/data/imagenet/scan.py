"""One pass over all ImageNet images for checks and statistics."""

import contextlib
import functools
import hashlib
import json
import logging
import stat
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision

from repro.config.run import DataConfig
from repro.data import PhotoSplit, PhotoStats
from repro.data.imagenet import decode
from repro.data.imagenet.folders import listed, plural, printable
from repro.data.imagenet.workers import chunks, read_ahead
from repro.errors import InputError, RunError
from repro.runtime.device import num_processors
from repro.runtime.files import replacing
from repro.runtime.lock import one_at_a_time
from repro.runtime.progress import Display, duration

FORMAT = 1  # version of stored scans; increase it when a scan would find other values in the same files
CHUNK = 128  # images per task of a process
log = logging.getLogger(__name__)

Splits = tuple[PhotoSplit, PhotoSplit]  # training and validation images


@dataclass(frozen=True)
class Scan:
    """Result of a scan. Sums are integers, the same for any number of processes (deviation D17).

    ``train_sizes`` and ``val_sizes`` (N, 2) are heights and widths, 0 for unreadable images; ``unreadable`` has the
    reasons by path. ``pixels`` (3, S, S) is the sum of the training images' centre crops and ``products`` (3, 3) the
    sum of the products of their colours, both int64.
    """

    train_sizes: np.ndarray
    val_sizes: np.ndarray
    pixels: np.ndarray
    products: np.ndarray
    unreadable: dict[str, str]

    def stats(self) -> PhotoStats:
        """Compute mean image, covariance of the colours and its principal components, of pixels in [0, 1]."""
        count = np.count_nonzero(self.train_sizes[:, 0])
        mean_image = self.pixels / count / 255
        mean = mean_image.mean((1, 2))
        area = self.pixels.shape[1] * self.pixels.shape[2]
        covariance = self.products / (count * area * 255**2) - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        # The sign of a component is arbitrary and differs between libraries.
        largest = vectors[np.abs(vectors).argmax(0), range(3)]
        return PhotoStats(mean_image, mean, covariance, values, vectors * np.sign(largest))


def scan(splits: Splits, data: DataConfig, *, cache: Path | None, workers: int | None) -> Scan:
    """Scan all images, or return the stored scan in ``cache``."""
    if cache is None:
        return scan_all(splits, data, workers)
    path = cache / f"photos-{key(splits, data)}.npz"
    found = read(path, splits[0].root, data)
    if found is not None:
        return found
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(one_at_a_time(path.with_suffix(".lock"), "reading all images"))
        except OSError as error:
            raise RunError(f"the folder {cache} cannot be written ({error.strerror})") from error
        found = read(path, splits[0].root, data)
        if found is None:
            found = scan_all(splits, data, workers)
            write(path, found)
    return found


def scan_all(splits: Splits, data: DataConfig, workers: int | None) -> Scan:
    """Decode every image, with progress."""
    root, size = splits[0].root, data.image_size
    scan_task = functools.partial(scan_files, root=root, data=data)
    tasks = [(files, split is splits[0]) for split in splits for files in chunks(split.files, CHUNK)]
    num_train, total, count = len(splits[0]), sum(map(len, splits)), num_processors() if workers is None else workers
    aim = "to check them and for their mean image" if num_train else "to check them"
    processes = plural(max(count, 1), "process", "processes")
    log.info(f"reading all {total:,} images of {root} once with {processes}, {aim}")
    start, display = time.monotonic(), Display("auto", total)
    sizes: list[tuple[int, int]] = []
    unreadable: dict[str, str] = {}
    pixels, products = np.zeros((3, size, size), np.int64), np.zeros((3, 3), np.int64)
    with contextlib.closing(display), contextlib.closing(read_ahead(scan_task, tasks, count)) as parts:
        for part_sizes, part_unreadable, part_pixels, part_products in parts:
            sizes += part_sizes
            unreadable |= part_unreadable
            pixels += part_pixels
            products += part_products
            if display.is_due():
                left = (total - len(sizes)) * (time.monotonic() - start) / len(sizes)
                text = f"{len(sizes):,} of {total:,} images read, {duration(left)} left"
                display.show(len(sizes), [text], [text])
    every = np.array(sizes, np.int32).reshape(-1, 2)
    return Scan(every[:num_train], every[num_train:], pixels, products, unreadable)


def scan_files(
    task: tuple[Sequence[str], bool], root: Path, data: DataConfig
) -> tuple[list[tuple[int, int]], dict[str, str], np.ndarray, np.ndarray]:
    """Decode the files of a task; return sizes, unreadable files, pixels and products as in ``Scan``.

    The second part of the task is whether pixels and products count, as for training images.
    """
    assert data.eval_resize is not None
    (files, counts), size = task, data.image_size
    sizes, unreadable = [], {}
    pixels, products = torch.zeros(3, size, size, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64)
    for file in files:
        try:
            photo = open_file(root / file, data)
        except decode.UnreadableError as error:
            unreadable[file] = str(error)
            sizes.append((0, 0))
            continue
        sizes.append((photo.height, photo.width))
        if counts:
            crop = decode.crop(photo, data.eval_resize, size)
            pixels += crop
            # The products of one image are below 2^53, so that doubles represent their sum exactly, in any order.
            colours = crop.flatten(1).double()
            products += (colours @ colours.T).long()
    return sizes, unreadable, pixels.numpy(), products.numpy()


def open_file(path: Path, data: DataConfig) -> decode.Photo:
    """Decode an image; raise an UnreadableError if it is not one, or not a file (opening a pipe would wait forever)."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        target = f"a link to {path.readlink()}: " if path.is_symlink() else ""
        raise decode.UnreadableError(path, f"{target}{error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise decode.UnreadableError(path, "a folder" if stat.S_ISDIR(mode) else "not a file")
    return decode.open_photo(path, decoder_of(data)[0])


def decoder_of(data: DataConfig) -> tuple[str, str]:
    """Return the decoder of a scan and its version; for nvJPEG it is Pillow, because the processes have no GPU."""
    if data.decoder == "torchvision":
        return "torchvision", str(torchvision.__version__)
    return "pillow", PIL.__version__


def report(unreadable: dict[str, str], root: Path, data: DataConfig, cache: Path | None) -> None:
    """Log all unreadable images, the many of them in a file; raise an InputError unless ``data.skip_corrupt``."""
    lines = [f"{printable(str(root / file))} ({printable(why)})" for file, why in unreadable.items()]
    text = listed(lines, cache, "unreadable")
    images = plural(len(lines), "image", "images")
    if not data.skip_corrupt:
        raise InputError(
            f"{images} cannot be read; replace them, or leave them out with data.skip_corrupt=true:\n  {text}"
        )
    log.info(f"{images} cannot be read, left out (data.skip_corrupt=true):\n  {text}")


def key(splits: Splits, data: DataConfig) -> str:
    """Digest everything that determines a scan: files with modification times, sizes, and the decoder's version."""
    parts = [FORMAT, *decoder_of(data), data.eval_resize, data.image_size]
    text = json.dumps(parts + [split.digest(with_times=True) for split in splits])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(path: Path, found: Scan) -> None:
    unreadable = np.frombuffer(json.dumps(found.unreadable).encode(), np.uint8)
    with replacing(path, RunError) as file:
        np.savez(file, **{**vars(found), "unreadable": unreadable})


def read(path: Path, root: Path, data: DataConfig) -> Scan | None:
    """Read a stored scan; return None if there is none, or if an unreadable image has become readable."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("train_sizes", "val_sizes", "pixels", "products")}
            found = Scan(**arrays, unreadable=json.loads(stored["unreadable"].tobytes()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    for name in found.unreadable:
        # The cause was its permissions or the disk, not the file.
        with contextlib.suppress(decode.UnreadableError):
            open_file(root / name, data)
            return None
    return found
