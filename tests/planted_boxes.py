"""Small folders of images with boxes, in the layouts of Tiny ImageNet and of ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from repro.data import PhotoSplit
from repro.data.localization import BoxedSplit
from tests.photos import CLASSES, make_imagenet, make_tiny
from tests.planted_detection import element


def make_tiny_boxes(
    folder: Path,
    train: int = 4,
    val: int = 2,
    changed: Mapping[str, str] = {},
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """Write Tiny ImageNet with a box of 20x20 pixels in each image; ``changed`` are other corners by image."""
    make_tiny(folder, train, val, classes)
    for name in classes:
        lines = [line_of(f"{name}_{i}", changed.get(f"{name}_{i}", "4 8 23 27")) for i in range(train)]
        (folder / "train" / name / f"{name}_boxes.txt").write_text("".join(lines))
    path = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t")[:2] for line in path.read_text().splitlines()]
    images = [(file.removesuffix(".JPEG"), wnid) for file, wnid in rows]
    lines = [line_of(image, f"{wnid} {changed.get(image, '0 0 39 39')}") for image, wnid in images]
    path.write_text("".join(lines))
    return folder


def line_of(image: str, words: str) -> str:
    return "\t".join([f"{image}.JPEG", *words.split()]) + "\n"


def make_imagenet_boxes(folder: Path, boxes: Mapping[str, Sequence[tuple[str, Sequence[int]]]]) -> Path:
    """Write ImageNet, and annotations of the images in ``boxes``: classes and corners by path without ending."""
    make_imagenet(folder, train=2, val=1)
    for name, objects in boxes.items():
        path = folder / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = "".join(element(wnid, corners) for wnid, corners in objects)
        path.write_text(f"<annotation>{parts}</annotation>")
    return folder


def made_split(boxes: Sequence[Sequence[Sequence[float]]], sizes: Sequence[tuple[int, int]]) -> BoxedSplit:
    """Return images of one class with ``boxes``, without files."""
    count = len(boxes)
    names = tuple(f"train/{i}" for i in range(count))
    labels, stamps = np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
    photos = PhotoSplit("train", Path(), names, labels, ("n0",), stamps, np.array(sizes))
    return BoxedSplit(photos, tuple(np.array(own, np.float64).reshape(-1, 4) for own in boxes))
