"""Data sets of images with boxes of their class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from repro.config.science import DataConfig
from repro.data import PhotoSplit, PhotoStats, load_photos
from repro.data.detection.problems import image_sizes
from repro.data.imagenet import folders
from repro.data.localization import BoxedSplit, LocalizationDataset
from repro.errors import InputError

DRAWN_TRAIN, DRAWN_TEST = 1000, 200
Boxed = tuple[BoxedSplit, BoxedSplit]


def load_localization(
    data: DataConfig, root: Path, cache: Path | None = None, workers: int | None = None
) -> LocalizationDataset:
    """Load images with boxes for training and for the test, after one scan of all images.

    ``data.train_images`` and ``data.test_images`` limit the number of images, evenly over all classes.

    Args:
        root: The folder ``paths.data``, which is never written.
        cache: The folder that keeps the scan and long lists of faults.
        workers: The number of processes that scan; None is one per processor.

    Raises:
        InputError: Data is missing or faulty, or there are too few images.
    """
    if data.name == "shapes":
        train, test = draw(data)
        return dataset_of(data, train, test, stats_of_drawn(train, data.image_size))
    # All images count in the statistics of pixels, with boxes or without.
    whole = load_photos(replace(data, train_images=None, test_images=None), root, cache=cache, workers=workers)
    assert isinstance(whole.train, PhotoSplit) and isinstance(whole.eval, PhotoSplit)
    assert whole.photo_stats is not None
    train, test = boxed(data, (whole.train, whole.eval), root, cache)
    return replace(dataset_of(data, train, test, whole.photo_stats), skipped=whole.skipped)


def load_boxes(data: DataConfig, root: Path, cache: Path | None = None) -> Boxed:
    """Load the boxes of a data set's training and test images without decoding the images."""
    if data.name == "shapes":
        return draw(data)
    splits = []
    for split in folders.find(data, root):
        sizes = image_sizes([split.root / file for file in split.files])
        faults = [f"{file}: {size}" for file, size in zip(split.files, sizes, strict=True) if isinstance(size, str)]
        if faults:
            text = folders.listed(faults, cache, "unreadable")
            raise InputError(f"{split.root} has images that cannot be read; replace them:\n  {text}")
        splits.append(replace(split, sizes=np.array(sizes, np.int32).reshape(-1, 2)))
    return boxed(data, (splits[0], splits[1]), root, cache)


def boxed(data: DataConfig, splits: tuple[PhotoSplit, PhotoSplit], root: Path, cache: Path | None) -> Boxed:
    """Read the boxes of images of known sizes, and take the wanted number of images."""
    from repro.data.localization.boxes import with_boxes

    train, test = with_boxes(data.name, splits, root, cache)
    return taken(train, data.train_images, "data.train_images"), taken(test, data.test_images, "data.test_images")


def taken(split: BoxedSplit, count: int | None, key: str) -> BoxedSplit:
    """Take ``count`` images evenly from all classes, or all for None."""
    if count is None:
        return split
    if count > len(split):
        raise InputError(f"{key}={count} is more than the {len(split):,} images with boxes of {split.photos.name}")
    return split.at(folders.evenly(split.photos.labels, count))


def dataset_of(data: DataConfig, train: BoxedSplit, test: BoxedSplit, stats: PhotoStats) -> LocalizationDataset:
    return LocalizationDataset(data.name, train, test, {s.photos.name: s.digest() for s in (train, test)}, stats)


def draw(data: DataConfig) -> Boxed:
    """Draw images of shapes; an image's class is that of its first shape."""
    from repro.data.detection.shapes import draw_split

    found = []
    for name, count in (("train", data.train_images or DRAWN_TRAIN), ("val", data.test_images or DRAWN_TEST)):
        split = draw_split(name, count)
        labels = np.array([known.labels[0] for known in split.objects], np.int64)
        stamps = np.zeros((count, 2), np.int64)
        photos = PhotoSplit(name, split.root, split.files, labels, split.classes, stamps, split.sizes)
        boxes = tuple(known.boxes[known.labels == known.labels[0]] for known in split.objects)
        found.append(BoxedSplit(photos, boxes, drawn=split.images))
    return found[0], found[1]


def stats_of_drawn(split: BoxedSplit, size: int) -> PhotoStats:
    """Compute the mean of each channel over drawn images, as a mean image of one colour; without colour noise."""
    pixels = np.concatenate([image.reshape(-1, 3) for image in split.drawn]) / 255
    mean, covariance = pixels.mean(0), np.cov(pixels.T, bias=True)
    return PhotoStats(np.tile(mean[:, None, None], (1, size, size)), mean, covariance, np.zeros(3), np.eye(3))
