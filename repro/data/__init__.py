"""Data sets: images with their labels, in memory, mapped from disk, or files in folders. Nothing here imports torch.

The modules of the sets are imported where they are used: they build on ``Split``, and a run needs only one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from repro.config.paths import resolve_paths
from repro.config.run import DataConfig, RunConfig
from repro.errors import InputError

NUM_CLASSES = 10
"""Of CIFAR-10 and of the images that are made; photographs have as many as folders."""


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) uint8 and their labels (N,) int64. ``name``: train, train45k, val5k or test."""

    name: str
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PhotoSplit:
    """Photographs of all sizes: ``files`` below ``root``, by name, and their labels (N,) int64, which count
    ``classes`` from 0. ``name``: train or val. ``sizes`` (N, 2) are heights and widths, where they are known."""

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class PhotoStats:
    """Of all training photographs, over their centre crops; pixels are in [0, 1] (deviation D17).

    ``mean_image`` (3, S, S), ``channel_mean`` (3,), and the principal components of the colours: ``covariance`` (3, 3),
    its ``eigenvalues`` (3,), falling, and ``eigenvectors`` (3, 3), one a column. All float64.
    """

    mean_image: np.ndarray
    channel_mean: np.ndarray
    covariance: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """What a run trains and is evaluated on.

    ``digests``: SHA-256 of each whole array by its name, or of the list of each split's files, before any cut.
    ``skipped``: photographs that cannot be read and are left out, as ``data.skip_corrupt`` allows.
    """

    name: str
    train: Split | PhotoSplit
    eval: Split | PhotoSplit
    num_classes: int
    digests: dict[str, str]
    photo_stats: PhotoStats | None = None
    skipped: tuple[str, ...] = ()


def load_for(config: RunConfig, say: Callable[[str], None] = print, *, may_fetch: bool = True) -> Dataset:
    """The data of a run. Only the default data folder is filled by itself: one that the user names is read.

    Raises:
        InputError: As ``load`` does.
    """
    root, cache = config.paths.data, config.paths.work / "cache"
    may_fetch = may_fetch and root == resolve_paths({})["data"]
    return load(config.data, root, may_fetch=may_fetch, say=say, cache=cache, workers=config.execution.workers)


def load(
    data: DataConfig,
    root: Path,
    *,
    may_fetch: bool,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
    workers: int | None = None,
) -> Dataset:
    """The data of a run, checked against its digests.

    Args:
        data: Which set, which split, how many images of which size.
        root: The data folder (``paths.data``). It is only read, unless data is missing and ``may_fetch``.
        may_fetch: Missing data is fetched into ``root``; without it, that is an error.
        say: Takes lines for the user.
        cache: Where a fetch keeps its temporary files, None is inside ``root``; and where the one pass over all
            photographs is kept, None is nowhere.
        workers: Processes that make this pass; None is one for each processor, 0 is none but this one.

    Raises:
        InputError: Data that is missing, truncated or altered, that no source answers for, or fewer images
            than were asked for.
    """
    match data.name:
        case "cifar10":
            return load_cifar10(data, root, may_fetch=may_fetch, say=say, cache=cache)
        case "synthetic":
            return load_synthetic(data)
        case "imagenet" | "tiny_imagenet":
            return load_photos(data, root, say=say, cache=cache, workers=workers)


def load_cifar10(
    data: DataConfig, root: Path, *, may_fetch: bool, say: Callable[[str], None], cache: Path | None
) -> Dataset:
    """CIFAR-10 (paper, section 4.2): 50,000 training and 10,000 test images, or the 45,000/5,000 split.

    ``data.train_images`` and ``data.test_images`` cut the split that is trained and the one that is evaluated on.
    """
    from repro.data.cifar import arrays as cifar10

    if may_fetch and cifar10.missing_files(root):
        from repro.data.cifar.fetch import fetch_cifar10

        fetch_cifar10(root, cache, say)
    arrays, digests = cifar10.open_arrays(root)
    train = Split("train", arrays["train_images"], arrays["train_labels"].astype(np.int64))
    if data.split == "train45k":
        train, evaluated = hold_out(train, len(train) // 10)
    else:
        evaluated = Split("test", arrays["test_images"], arrays["test_labels"].astype(np.int64))
    train = shrink(take_first(train, data.train_images, "data.train_images"), data.image_size)
    evaluated = shrink(take_first(evaluated, data.test_images, "data.test_images"), data.image_size)
    return Dataset(data.name, train, evaluated, NUM_CLASSES, digests)


def load_synthetic(data: DataConfig) -> Dataset:
    """Images made on the spot, as many as asked for (5,000 and 1,000 by default), the same ones every time.

    ``train45k`` holds out the last tenth of the training images; ``data.test_images`` counts test images, which
    that split does not use.
    """
    from repro.data.synthetic import make_synthetic

    train, test = make_synthetic(
        5000 if data.train_images is None else data.train_images,
        1000 if data.test_images is None else data.test_images,
        data.image_size,
    )
    arrays = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    digests = {name: digest_of(array) for name, array in arrays.items()}
    if data.split == "train45k":
        train, test = hold_out(train, len(train) // 10)
    return Dataset(data.name, train, test, NUM_CLASSES, digests)


def load_photos(
    data: DataConfig, root: Path, *, say: Callable[[str], None], cache: Path | None, workers: int | None
) -> Dataset:
    """Photographs in folders (paper, section 4.1): every one is read once, for checks and statistics, before a run.

    ``data.train_images`` and ``data.test_images`` take so many of those that can be read, evenly from all classes;
    the statistics are always those of all training images.
    """
    from repro.data.imagenet import folders, scan

    listings = folders.find(data, root)
    seen = scan.seen(listings, data, cache=cache, workers=workers, say=say)
    bad = seen.unreadable
    if bad:
        scan.report(bad, listings[0].root, data, cache, say)
    train, evaluated = (
        folders.take(folders.readable(listing, sizes), count, setting)
        for listing, sizes, count, setting in (
            (listings[0], seen.train_sizes, data.train_images, "data.train_images"),
            (listings[1], seen.val_sizes, data.test_images, "data.test_images"),
        )
    )
    return Dataset(
        data.name,
        train,
        evaluated,
        len(train.classes),
        {listing.name: listing.digest() for listing in listings},
        seen.stats(),
        tuple(bad),
    )


def load_validation(
    data: DataConfig, root: Path, *, say: Callable[[str], None], cache: Path | None, workers: int | None
) -> Dataset:
    """Load the validation photographs alone, for weights that come with a mean of their own; no training image is read.

    Every image is read once, as for a run, so that all that cannot be decoded are named at once; the training split is
    empty. The arguments are those of ``load``.

    Raises:
        InputError: The folder ``val`` is not as ``data`` says, or images cannot be decoded and ``data.skip_corrupt``
            does not allow that.
    """
    from repro.data.imagenet import folders, scan

    val = folders.find_val(data, root)
    none = folders.listing(val.root, "train", [], [], val.classes)
    seen = scan.seen((none, val), data, cache=cache, workers=workers, say=say)
    if seen.unreadable:
        scan.report(seen.unreadable, val.root, data, cache, say)
    split = folders.take(folders.readable(val, seen.val_sizes), data.test_images, "data.test_images")
    train = PhotoSplit("train", val.root, (), np.zeros(0, np.int64), val.classes)
    digests, skipped = {val.name: val.digest()}, tuple(seen.unreadable)
    return Dataset(data.name, train, split, len(val.classes), digests, skipped=skipped)


def hold_out(train: Split, num_held_out: int) -> tuple[Split, Split]:
    """The training images without the last ``num_held_out`` ones, and those (paper, section 4.2: 45k and 5k).

    Raises:
        InputError: Nothing would be left on one of the two sides.
    """
    num_kept = len(train) - num_held_out
    if num_held_out < 1 or num_kept < 1:
        raise InputError(
            f"data.split=train45k needs more than the {len(train)} training images that there are: "
            "raise data.train_images, or use data.split=train"
        )
    return (
        Split("train45k", train.images[:num_kept], train.labels[:num_kept]),
        Split("val5k", train.images[num_kept:], train.labels[num_kept:]),
    )


def take_first(split: Split, count: int | None, setting: str) -> Split:
    """The first ``count`` images, all for None. ``setting`` is the key that the user wrote, for the message.

    Raises:
        InputError: More are asked for than there are.
    """
    if count is None:
        return split
    if count > len(split):
        raise InputError(f"{setting}={count} is more than the {len(split)} images of the split {split.name}")
    return Split(split.name, split.images[:count], split.labels[:count])


def shrink(split: Split, image_size: int) -> Split:
    """Images of ``image_size`` pixels a side, each the mean of a block of pixels, rounded half up.

    In whole numbers, so that every machine makes the same bytes. The side must be a multiple of ``image_size``.
    """
    factor, rest = divmod(split.images.shape[1], image_size)
    if rest:
        raise ValueError(f"{split.images.shape[1]} pixels a side cannot be shrunk to {image_size}")
    if factor == 1:
        return split
    total = np.zeros((len(split), image_size, image_size, 3), np.uint32)
    for row in range(factor):
        for column in range(factor):
            total += split.images[:, row::factor, column::factor]
    area = factor * factor
    return replace(split, images=((total + area // 2) // area).astype(np.uint8))


def digest_of(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
