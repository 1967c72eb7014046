"""Detections and objects of all images as arrays of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repro.data.detection import Detections, DetectionSplit
from repro.errors import RunError


@dataclass(frozen=True)
class Rows:
    """Detections or objects of all images: ``image`` (n,) is the place of its image in the order of the ids.

    Rows are sorted by image and keep the order within an image. ``difficult`` and ``crowd`` are of objects only and
    ``scores`` of detections only, otherwise empty.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


def in_order(ids: Sequence[str]) -> list[int]:
    """Return the positions of images sorted by id, so that the order in which ranks gather results changes nothing."""
    if all(name.isdecimal() for name in ids):
        return sorted(range(len(ids)), key=lambda i: (int(ids[i]), ids[i]))
    return sorted(range(len(ids)), key=lambda i: ids[i])


def detection_rows(split: DetectionSplit, detections: Sequence[Detections]) -> Rows:
    """Join the detections of all images, in the order of the ids.

    Raises:
        RunError: A box or a score is not a finite number, as of a diverged net.
    """
    if len(detections) != len(split):
        raise ValueError(f"detections of {len(detections)} images, but {split.name} has {len(split)}")
    order = in_order(split.ids)
    found = [detections[i] for i in order]
    boxes = stacked([one.boxes for one in found], (0, 4))
    scores = stacked([one.scores for one in found], (0,))
    labels = stacked([one.labels for one in found], (0,)).astype(np.int64)
    image = np.repeat(np.arange(len(found)), [len(one) for one in found])
    broken = ~(np.isfinite(boxes).all(1) & np.isfinite(scores))
    if broken.any():
        name = split.ids[order[int(image[broken.argmax()])]]
        count = int(broken.sum())
        raise RunError(f"{count:,} detections have a box or score that is not a number, the first in image {name}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(split.classes):
        raise ValueError(f"labels {labels.min()} to {labels.max()} of {len(split.classes)} classes")
    none = np.zeros(0, bool)
    # As COCO's code computes them: negative if two corners are exchanged, which makes it ignore the detection.
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return Rows(image, boxes, labels, scores, none, none, areas)


def object_rows(split: DetectionSplit) -> Rows:
    """Join the objects of all images, in the order of the ids."""
    found = [split.objects[i] for i in in_order(split.ids)]
    boxes = stacked([one.boxes for one in found], (0, 4))
    labels = stacked([one.labels for one in found], (0,)).astype(np.int64)
    image = np.repeat(np.arange(len(found)), [len(one) for one in found])
    difficult = stacked([one.difficult for one in found], (0,)).astype(bool)
    crowd = stacked([one.crowd for one in found], (0,)).astype(bool)
    areas = stacked([areas_of(one.boxes) if one.areas is None else one.areas for one in found], (0,))
    return Rows(image, boxes, labels, np.zeros(0), difficult, crowd, areas)


def stacked(parts: Sequence[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros(empty), *parts]).astype(np.float64)


def areas_of(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes (n, 4); 0 if the corners are exchanged."""
    areas: np.ndarray = np.prod((boxes[:, 2:] - boxes[:, :2]).clip(0), axis=1)
    return areas
