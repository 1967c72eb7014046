"""Data sets: the images and labels of a run, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from repro.config.paths import resolve_paths
from repro.config.run import DataConfig, RunConfig
from repro.errors import InputError

if TYPE_CHECKING:
    from repro.data.detection.dataset import DetectionDataset
    from repro.data.localization import LocalizationDataset

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_CLASSES = 10  # classes of CIFAR-10 and of synthetic images; ImageNet images have one per folder


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) uint8 and their labels (N,) int64. ``name``: train, train45k, val5k or test.

    ``whitening`` is the matrix of training images with ``data.whiten=zca`` (deviation D50).
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    whitening: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PhotoSplit:
    """ImageNet images: ``files`` below ``root``, with labels (N,) int64, which are positions in ``classes``.

    ``name`` is train or val. ``stamps`` (N, 2) are sizes in bytes and modification times in nanoseconds; ``sizes``
    (N, 2) are heights and widths, if known.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    stamps: np.ndarray
    sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)

    def path(self, position: int) -> str:
        return str(self.root / self.files[position])

    def at(self, positions: np.ndarray) -> PhotoSplit:
        files = tuple(self.files[i] for i in positions)
        sizes = None if self.sizes is None else self.sizes[positions]
        return replace(self, files=files, labels=self.labels[positions], stamps=self.stamps[positions], sizes=sizes)

    def digest(self, *, with_times: bool = False) -> str:
        """Return the SHA-256 of lines with path, size in bytes and label, and ``with_times`` the modification time."""
        digest = hashlib.sha256()
        for file, label, (size, changed) in zip(self.files, self.labels.tolist(), self.stamps.tolist(), strict=True):
            line = f"{file}\t{size}\t{label}\t{changed}\n" if with_times else f"{file}\t{size}\t{label}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class PhotoStats:
    """Statistics of the centre crops of all training images, float64; pixels are in [0, 1] (deviation D17).

    ``mean_image`` (3, S, S), ``channel_mean`` (3,), ``covariance`` of the colours (3, 3), its ``eigenvalues`` (3,),
    largest first, and ``eigenvectors`` (3, 3) in columns.
    """

    mean_image: np.ndarray
    channel_mean: np.ndarray
    covariance: np.ndarray
    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Images for training and evaluation.

    ``digests`` are the SHA-256 of each whole array, or of the list of each split's files. ``skipped`` are unreadable
    ImageNet images, which ``data.skip_corrupt`` leaves out.
    """

    name: str
    train: Split | PhotoSplit
    eval: Split | PhotoSplit
    num_classes: int
    digests: dict[str, str]
    photo_stats: PhotoStats | None = None
    skipped: tuple[str, ...] = ()
    held_out: Split | None = None
    """Training images that are held out while the test set is evaluated, to choose an epoch by (deviation D48)."""


AnyDataset: TypeAlias = "Dataset | DetectionDataset | LocalizationDataset"


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the classes by label: CIFAR-10's own, the folders of ImageNet images, or numbers."""
    if isinstance(dataset.train, PhotoSplit):
        return dataset.train.classes
    return CIFAR10_CLASSES if dataset.name == "cifar10" else tuple(map(str, range(dataset.num_classes)))


def load_any(config: RunConfig, *, may_fetch: bool = True) -> AnyDataset:
    """Load the data of a run, of classification, of a detector or of a localizer."""
    if config.data.boxes:
        from repro.data.localization.dataset import load_localization

        workers = config.execution.workers
        return load_localization(config.data, config.paths.data, config.paths.work / "cache", workers)
    if config.data.has_boxes:
        from repro.data.detection.dataset import load_detection

        return load_detection(config.data, config.paths.data, config.paths.work / "cache")
    return load_for(config, may_fetch=may_fetch)


def load_for(config: RunConfig, *, may_fetch: bool = True) -> Dataset:
    """Load the data of a run of classification; only the default data folder is ever written, not one that the user
    names."""
    root, cache = config.paths.data, config.paths.work / "cache"
    may_fetch = may_fetch and root == resolve_paths({})["data"]
    return load(config.data, root, may_fetch=may_fetch, cache=cache, workers=config.execution.workers)


def load(
    data: DataConfig, root: Path, *, may_fetch: bool, cache: Path | None = None, workers: int | None = None
) -> Dataset:
    """Load a data set and check it against its digests.

    Args:
        root: The folder ``paths.data``, written only if data is missing and ``may_fetch`` is True.
        cache: The folder that keeps the scan of ImageNet images.
        workers: The number of processes that scan; None is one per processor, 0 is only this process.

    Raises:
        InputError: Data is missing, truncated or altered, no source answers, or there are too few images.
    """
    match data.name:
        case "cifar10":
            return whitened(load_cifar10(data, root, may_fetch=may_fetch), data, cache)
        case "cifar100":
            return whitened(load_cifar100(data, root, may_fetch=may_fetch), data, cache)
        case "svhn":
            return whitened(load_svhn(data, root, may_fetch=may_fetch), data, cache)
        case "synthetic":
            return whitened(load_synthetic(data), data, cache)
        case "imagenet" | "tiny_imagenet" | "shapes_photos":
            return load_photos(data, root, cache=cache, workers=workers)
        case "shapes" | "voc" | "coco" | "imagenet_det":
            raise InputError(f"data={data.name} has boxes of objects, for detectors")


def whitened(dataset: Dataset, data: DataConfig, cache: Path | None) -> Dataset:
    """Add the whitening of the training images if ``data.whiten`` asks for it."""
    if data.whiten == "none" or not isinstance(dataset.train, Split):
        return dataset
    from repro.data.whitening import zca

    return replace(dataset, train=replace(dataset.train, whitening=zca(dataset.train.images, cache)))


def load_cifar10(data: DataConfig, root: Path, *, may_fetch: bool) -> Dataset:
    """Load CIFAR-10 (paper, section 4.2): 50,000 training and 10,000 test images, or the 45,000/5,000 split."""
    from repro.data.cifar.arrays import missing_files, open_arrays

    if may_fetch and missing_files(root):
        from repro.data.cifar.fetch import fetch_cifar10

        fetch_cifar10(root)
    arrays, digests = open_arrays(root)
    return dataset_of(data, arrays, digests)


def dataset_of(data: DataConfig, arrays: Mapping[str, np.ndarray], digests: dict[str, str]) -> Dataset:
    """Make the data set of ``data`` from the images and labels of both splits."""
    train, test = (
        Split(name, arrays[f"{name}_images"], arrays[f"{name}_labels"].astype(np.int64)) for name in ("train", "test")
    )
    train, evaluated, held_out = divided(train, test, data.split)
    train = shrink(take_first(train, data.train_images, "data.train_images"), data.image_size)
    evaluated = shrink(take_first(evaluated, data.test_images, "data.test_images"), data.image_size)
    held_out = None if held_out is None else shrink(held_out, data.image_size)
    return Dataset(data.name, train, evaluated, data.num_classes, digests, held_out=held_out)


def load_cifar100(data: DataConfig, root: Path, *, may_fetch: bool) -> Dataset:
    """Load CIFAR-100: 50,000 training and 10,000 test images, or the 45,000/5,000 split."""
    from repro.data.cifar import cifar100

    if may_fetch and cifar100.stored(root) is None:
        cifar100.fetch_cifar100(root)
    arrays = cifar100.open_arrays(root)
    return dataset_of(data, arrays, {name: digest_of(array) for name, array in arrays.items()})


def load_svhn(data: DataConfig, root: Path, *, may_fetch: bool) -> Dataset:
    """Load SVHN: 604,388 training and 26,032 test images of digits."""
    from repro.data import svhn

    if may_fetch and len(svhn.stored(root)) < len(svhn.official()):
        svhn.fetch_svhn(root)
    arrays = svhn.open_arrays(root)
    return dataset_of(data, arrays, {name: digest_of(array) for name, array in arrays.items()})


def load_synthetic(data: DataConfig) -> Dataset:
    """Make synthetic images, by default 5,000 and 1,000, always the same."""
    from repro.data.synthetic import make_synthetic

    num_train = 5000 if data.train_images is None else data.train_images
    num_test = 1000 if data.test_images is None else data.test_images
    train, test = make_synthetic(num_train, num_test, data.image_size)
    digests: dict[str, str] = {}
    for split in (train, test):
        digests |= {f"{split.name}_images": digest_of(split.images), f"{split.name}_labels": digest_of(split.labels)}
    train, test, held_out = divided(train, test, data.split)
    return Dataset(data.name, train, test, NUM_CLASSES, digests, held_out=held_out)


def load_photos(
    data: DataConfig, root: Path, *, cache: Path | None, workers: int | None, only_val: bool = False
) -> Dataset:
    """Load ImageNet images in folders (paper, section 4.1), after one scan of all images for checks and statistics.

    ``data.train_images`` and ``data.test_images`` limit the number of images, evenly over all classes; the statistics
    are those of all training images.

    Args:
        root: The folder ``paths.data``; drawn images are in ``cache`` instead.
        only_val: Read no training images, for weights with their own mean.
    """
    from repro.data.imagenet import folders
    from repro.data.imagenet.scan import report, scan

    if data.name == "shapes_photos":
        from repro.data.drawn_photos import draw_folder

        root = draw_folder(cache)
    splits = folders.find(data, root, only_val=only_val)
    digests = {split.name: split.digest() for split in splits if len(split)}
    found = scan(splits, data, cache=cache, workers=workers)
    if found.unreadable:
        report(found.unreadable, splits[0].root, data, cache)
    train, val = map(folders.readable, splits, (found.train_sizes, found.val_sizes))
    if not only_val:
        train = folders.take(train, data.train_images, "data.train_images")
    val = folders.take(val, data.test_images, "data.test_images")
    stats = None if only_val else found.stats()
    return Dataset(data.name, train, val, len(val.classes), digests, stats, tuple(found.unreadable))


def divided(train: Split, test: Split, split: str) -> tuple[Split, Split, Split | None]:
    """Return the images to train on, to evaluate on and to hold out, by ``data.split`` (deviations D7, D37, D48)."""
    if split == "train":
        return train, test, None
    kept, held_out = hold_out(train)
    return (kept, held_out, None) if split == "train45k" else (kept, test, held_out)


def hold_out(train: Split) -> tuple[Split, Split]:
    """Split off the last tenth of the training images (paper, section 4.2: 45k and 5k)."""
    kept = len(train) - len(train) // 10
    if kept == len(train):
        raise InputError(
            f"data.split=train45k needs more than {len(train)} training images: raise data.train_images, or use "
            "data.split=train"
        )
    return (
        Split("train45k", train.images[:kept], train.labels[:kept]),
        Split("val5k", train.images[kept:], train.labels[kept:]),
    )


def take_first(split: Split, count: int | None, key: str) -> Split:
    if count is not None and count > len(split):
        raise InputError(f"{key}={count} is more than the {len(split)} images of the split {split.name}")
    return Split(split.name, split.images[:count], split.labels[:count])


def shrink(split: Split, image_size: int) -> Split:
    """Average blocks of pixels to ``image_size`` a side, in integers rounded half up, the same on every machine."""
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
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
