"""Average precision by the rules of ImageNet's detection task."""

from collections.abc import Sequence

import numpy as np

from repro.data.detection import Detections, DetectionSplit
from repro.evaluation.detection.tables import Rows, detection_rows, object_rows
from repro.evaluation.detection.voc import OVERLAP, Scores, all_points, paired_overlaps, pairs

TOLERANCE = 10
"""Pixels that a box of a small object may be larger in each direction."""


def evaluate(split: DetectionSplit, detections: Sequence[Detections]) -> Scores:
    """Score the detections of all images of ``split``, in its order.

    The rules are those of eval_detection.m in the devkit of 2014 (D99). Unlike VOC's, small objects need less overlap
    than 0.5, and a detection is right if any object that is not found yet has enough of it; it finds the one with the
    most.
    """
    objects, found = object_rows(split), detection_rows(split, detections)
    precisions = np.full(len(split.classes), np.nan)
    for label in range(len(split.classes)):
        truth, chosen = np.flatnonzero(objects.labels == label), np.flatnonzero(found.labels == label)
        if len(truth):
            right = matched(objects, truth, found, chosen[np.argsort(-found.scores[chosen], kind="stable")])
            precisions[label] = all_points(right.cumsum(), (~right).cumsum(), len(truth))
    return Scores(split.classes, precisions)


def matched(objects: Rows, truth: np.ndarray, found: Rows, chosen: np.ndarray) -> np.ndarray:
    """Return which detections of a class, sorted by score, find an object (n,) bool."""
    boxes, wanted = found.boxes[chosen], objects.boxes[truth]
    box, other = pairs(found.image[chosen], objects.image[truth])
    overlaps = paired_overlaps(boxes[box], wanted[other])
    enough = np.flatnonzero((overlaps >= least_overlaps(wanted)[other]) & (overlaps > 0))
    # By score, then by overlap, the largest first, then by the order of the objects.
    enough = enough[np.lexsort((other[enough], -overlaps[enough], box[enough]))]
    right, taken = np.zeros(len(chosen), bool), np.zeros(len(truth), bool)
    for one, its in zip(box[enough].tolist(), other[enough].tolist(), strict=True):
        if not right[one] and not taken[its]:
            right[one] = taken[its] = True
    return right


def least_overlaps(boxes: np.ndarray) -> np.ndarray:
    """Return the overlap that each of ``boxes`` (n, 4) needs: of a box ``TOLERANCE`` pixels larger, at most 0.5."""
    sides = boxes[:, 2:] - boxes[:, :2]
    least: np.ndarray = np.minimum(OVERLAP, sides.prod(1) / (sides + TOLERANCE).prod(1))
    return least
