"""Data sets of images with boxes, and their pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from repro.config.science import DataConfig
from repro.data.detection import DetectionSplit
from repro.data.detection.shapes import DrawnSplit, digest_of, draw_split
from repro.errors import InputError

DRAWN_TRAIN, DRAWN_TEST = 1000, 200


@dataclass(frozen=True)
class DetectionDataset:
    """Images with boxes for training and for the test; ``digests`` are the SHA-256 of each split's list."""

    name: str
    train: DetectionSplit
    eval: DetectionSplit
    digests: dict[str, str]

    @property
    def num_classes(self) -> int:
        """Classes of objects, without background."""
        return len(self.train.classes)


def load_detection(data: DataConfig, root: Path, cache: Path | None = None) -> DetectionDataset:
    """Load a data set of images with boxes.

    Args:
        root: The folder ``paths.data``, which is never written.
        cache: The folder for long lists of faults.

    Raises:
        InputError: Data is missing or faulty, or there are too few images.
    """
    train: DetectionSplit
    test: DetectionSplit
    if data.name == "shapes":
        train = draw_split("train", data.train_images or DRAWN_TRAIN)
        test = draw_split("test", data.test_images or DRAWN_TEST)
    elif data.name == "voc":
        from repro.data.detection import voc

        classes = data.classes or voc.CLASSES
        read = partial(voc.read, root, classes=classes, skip_boxes=data.skip_boxes, cache=cache)
        train, test = read(data.lists, name="train"), read(data.test_lists, name="test")
    elif data.name == "imagenet_det":
        from repro.data.detection import imagenet

        classes = data.classes or imagenet.classes_in(root)
        read = partial(imagenet.read, root, classes=classes, skip_boxes=data.skip_boxes, cache=cache)
        train, test = read(data.lists, name="train"), read(data.test_lists, name="test")
    else:
        from repro.data.detection import coco

        train = coco.read(root, data.lists, name="train", skip_boxes=data.skip_boxes, cache=cache)
        test = coco.read(root, data.test_lists, name="test", skip_boxes=data.skip_boxes, cache=cache)
        if leaked := coco.leak(train, test):
            raise InputError(leaked)
    train, test = (
        first(train, data.train_images, "data.train_images"),
        first(test, data.test_images, "data.test_images"),
    )
    return DetectionDataset(data.name, train, test, {split.name: listed(split) for split in (train, test)})


def first(split: DetectionSplit, count: int | None, key: str) -> DetectionSplit:
    """Return the first ``count`` images of a split, or all for None."""
    if count is not None and count > len(split):
        raise InputError(
            f"{key}={count} is more than the {len(split)} images of the split {split.name}: set {key}=null for all"
        )
    if count is None or count == len(split):
        return split
    parts = {"files": split.files, "ids": split.ids, "objects": split.objects}
    taken = {name: values[:count] for name, values in parts.items()}
    return replace(split, sizes=split.sizes[:count], **taken)  # type: ignore[arg-type]


def listed(split: DetectionSplit) -> str:
    """Return the SHA-256 of a split's images and boxes; of image files only their names and sizes."""
    if isinstance(split, DrawnSplit):
        return digest_of(split)
    digest = hashlib.sha256()
    for file, size, known in zip(split.files, split.sizes.tolist(), split.objects, strict=True):
        digest.update(f"{file}\t{size}\n".encode("utf-8", "surrogateescape"))
        for values in (known.boxes, known.labels, known.difficult, known.crowd):
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
