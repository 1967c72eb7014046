"""Boxes of ImageNet's and Tiny ImageNet's images, from their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from repro.data import PhotoSplit
from repro.data.detection.problems import Problems, box_fault, shown
from repro.data.detection.voc import number, read_annotation
from repro.data.imagenet.folders import stem
from repro.data.localization import BoxedSplit
from repro.errors import InputError

log = logging.getLogger(__name__)

ANNOTATIONS = ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC", "imagenet/Annotations/CLS-LOC", "Annotations")
"""Folders below ``paths.data`` that may contain the boxes of ImageNet's ``train`` and ``val``."""

Written = tuple[Path, list[list[float]]]
"""A file, and the boxes of an image as it writes them: xmin, ymin, xmax, ymax, from 0, with the last pixels (D80)."""


def with_boxes(
    name: str, splits: Sequence[PhotoSplit], root: Path, cache: Path | None
) -> tuple[BoxedSplit, BoxedSplit]:
    """Add the boxes of the images' classes to the training and validation images, whose sizes are known.

    Boxes that are empty or outside of their image are listed, left out and counted (D80), and so are images without
    another box.

    Args:
        name: ``imagenet`` or ``tiny_imagenet``.
        root: The folder ``paths.data``.
        cache: The folder for long lists of faults.

    Raises:
        InputError: A file of boxes is missing or faulty; all faults are listed.
    """
    problems = Problems()
    read = reader(name, splits[0].root, root, problems)
    train, val = (checked(split, read(split), problems) for split in splits)
    problems.leave_out(str(splits[0].root), cache)
    problems.report(str(splits[0].root), cache=cache)
    for split in (train, val):
        if not len(split):
            raise InputError(f"no image of {split.photos.root / split.photos.name} has a valid box")
    return train, val


def reader(name: str, folder: Path, root: Path, problems: Problems) -> Callable[[PhotoSplit], list[Written | None]]:
    """Return a function that reads the boxes of a split's images; None of an image without any."""
    if name == "tiny_imagenet":
        return lambda split: read_tiny(split, problems)
    found = [place for below in ANNOTATIONS if (place := root / below).is_dir()]
    if not found:
        raise InputError(
            f"{root} has no boxes of {name}: put its annotations into {root / ANNOTATIONS[0]}, as train/<class>/*.xml "
            f"and val/*.xml (images are in {folder})"
        )
    return lambda split: read_annotations(found[0], split, problems)


def read_tiny(split: PhotoSplit, problems: Problems) -> list[Written | None]:
    """Read ``train/<class>/<class>_boxes.txt``, or ``val/val_annotations.txt``."""
    if split.name == "train":
        files = {split.root / "train" / name / f"{name}_boxes.txt": 1 for name in split.classes}
    else:
        files = {split.root / "val" / "val_annotations.txt": 2}
    written: dict[str, Written] = {}
    for path, first in files.items():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            problems.add(path, f"cannot be read ({error})")
            continue
        for row, line in enumerate(lines, start=1):
            words = line.split("\t" if "\t" in line else None)
            corners = [value for word in words[first : first + 4] if (value := number(word)) is not None]
            if len(corners) != 4:
                problems.add(path, f"line {row} ({line.strip()!r}) is not the name of an image and its box")
            elif words[0] in written:
                problems.add(path, f"line {row} has the box of {words[0]} again")
            else:
                written[words[0]] = path, [corners]
    return [written.get(file.rpartition("/")[2]) for file in split.files]


def read_annotations(folder: Path, split: PhotoSplit, problems: Problems) -> list[Written | None]:
    """Read ``<split>/<class>/<image>.xml`` or ``<split>/<image>.xml`` below ``folder``, those of the images' classes.

    Half of ImageNet's training images have no boxes; all validation images have.
    """
    found: list[Written | None] = []
    for file, label in zip(split.files, split.labels.tolist(), strict=True):
        name = f"{stem(file)}.xml"
        inside = folder / split.name / split.classes[label] / name
        path = inside if inside.is_file() else folder / split.name / name
        if split.name == "train" and not path.is_file():
            found.append(None)
            continue
        known = read_annotation(path, split.classes, problems)
        found.append(None if known is None else (path, known[0].boxes[known[0].labels == label].tolist()))
    return found


def checked(split: PhotoSplit, written: Sequence[Written | None], problems: Problems) -> BoxedSplit:
    """Keep the valid boxes, and the images that have one."""
    assert split.sizes is not None
    boxes: list[np.ndarray] = []
    for own, (height, width) in zip(written, split.sizes.tolist(), strict=True):
        path, corners = own or (split.root, [])
        # A last pixel may be the one beyond the edge, as where pixels were counted from 1.
        faults = [box_fault(box, 0, width, height) for box in corners]
        for box, fault in zip(corners, faults, strict=True):
            if fault is not None:
                problems.add_box(path, f"box {shown(box)} {fault}")
        valid = np.array([b for b, fault in zip(corners, faults, strict=True) if fault is None]).reshape(-1, 4)
        boxes.append(np.minimum(valid + np.array([0, 0, 1, 1]), (width, height, width, height)))
    kept = [position for position, own in enumerate(boxes) if len(own)]
    whole = BoxedSplit(split, tuple(boxes), len(boxes) - len(kept))
    return replace(whole.at(kept), left_out=whole.left_out)
