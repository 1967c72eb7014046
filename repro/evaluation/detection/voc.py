"""Average precision by the rules of PASCAL VOC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repro.data.detection import Detections, DetectionSplit
from repro.evaluation.detection.tables import Rows, areas_of, detection_rows, object_rows

OVERLAP = 0.5  # VOCevaldet.m accepts a match at exactly this overlap (ovmax>=VOCopts.minoverlap); many ports do not

Metric = Literal["voc07", "voc12"]


@dataclass(frozen=True)
class Scores:
    """Average precisions (C,) of the ``classes``, from 0 to 1; NaN for a class without any object to find."""

    classes: tuple[str, ...]
    precisions: np.ndarray

    @property
    def mean(self) -> float:
        """Mean average precision over the classes that have objects; NaN if none has."""
        known = self.precisions[~np.isnan(self.precisions)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def absent(self) -> tuple[str, ...]:
        return tuple(self.classes[i] for i in np.flatnonzero(np.isnan(self.precisions)))

    def note(self) -> str | None:
        """Return a sentence about classes that the mean leaves out; None if it has all."""
        if not self.absent:
            return None
        return (
            f"the mean is over {len(self.classes) - len(self.absent)} of {len(self.classes)} classes: these images "
            f"have no object to find of {', '.join(self.absent)}"
        )


def evaluate(split: DetectionSplit, detections: Sequence[Detections], metric: Metric) -> Scores:
    """Score the detections of all images of ``split``, in its order.

    The rules are those of VOCevaldet.m. Detections of a class are sorted by score, ties by image id, then by their
    order in the image. Each is compared with the object of highest overlap in its image, the first of several. With an
    overlap of 0.5 or more it is right if it is the first with this object, otherwise wrong. An object marked as
    difficult need not be found, and detections of it are neither right nor wrong.

    Args:
        metric: ``voc07`` is the mean of the precisions at 11 recalls (devkit of 2007), ``voc12`` the area below the
            precision curve (2010 and later).
    """
    objects, found = object_rows(split), detection_rows(split, detections)
    precision_of = eleven_points if metric == "voc07" else all_points
    precisions = np.full(len(split.classes), np.nan)
    for label in range(len(split.classes)):
        truth = np.flatnonzero(objects.labels == label)
        to_find = int((~objects.difficult[truth]).sum())
        if to_find:
            right, wrong = verdicts(objects, truth, found, np.flatnonzero(found.labels == label))
            precisions[label] = precision_of(right.cumsum(), wrong.cumsum(), to_find)
    return Scores(split.classes, precisions)


def verdicts(objects: Rows, truth: np.ndarray, found: Rows, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections of a class are right and which are wrong, both (n,) bool, sorted by score.

    Args:
        truth: The rows of the objects of the class.
        chosen: The rows of the detections of the class.
    """
    # Rows are sorted by image and by their order in it, so a stable sort breaks ties by these.
    chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")]
    overlap, match = best_matches(found.boxes[chosen], found.image[chosen], objects.boxes[truth], objects.image[truth])
    matched = overlap >= OVERLAP
    ignored = np.zeros(len(chosen), bool)
    ignored[matched] = objects.difficult[truth][match[matched]]
    right = np.zeros(len(chosen), bool)
    candidates = np.flatnonzero(matched & ~ignored)
    right[candidates[np.unique(match[candidates], return_index=True)[1]]] = True
    return right, ~right & ~ignored


def best_matches(
    boxes: np.ndarray, images: np.ndarray, truth: np.ndarray, truth_images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest overlap of each box with an object of its image, and the first object that has it.

    Only pairs of the same image are computed, all at once. ``truth_images`` is sorted. A box whose image has no object
    has the overlap 0 and the object -1.
    """
    best, match = np.zeros(len(boxes)), np.full(len(boxes), -1)
    box, other = pairs(images, truth_images)
    if not len(box):
        return best, match
    some, starts = np.unique(box, return_index=True)
    overlaps = paired_overlaps(boxes[box], truth[other])
    best[some] = np.maximum.reduceat(overlaps, starts)
    is_best = np.where(overlaps == best[box], other, len(truth))
    match[some] = np.minimum.reduceat(is_best, starts)
    return best, match


def pairs(images: np.ndarray, truth_images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of all pairs of a box and an object of one image, sorted; ``truth_images`` is sorted."""
    first = np.searchsorted(truth_images, images, "left")
    count = np.searchsorted(truth_images, images, "right") - first
    box = np.repeat(np.arange(len(images)), count)
    position = np.arange(len(box)) - np.repeat(count.cumsum() - count, count)
    return box, first[box] + position


def paired_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return intersection over union of the i-th box with the i-th other box, 0 for two empty boxes."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    shared = np.prod((high - low).clip(0), axis=1)
    union = areas_of(boxes) + areas_of(others) - shared
    overlaps: np.ndarray = np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)
    return overlaps


def eleven_points(right: np.ndarray, wrong: np.ndarray, to_find: int) -> float:
    """Return the mean over the recalls 0, 0.1, …, 1 of the highest precision at this recall or more.

    Recalls are compared in whole numbers. Ports that step by 0.1 in floating point miss recalls of exactly 0.3, 0.6 and
    0.7, and find a lower precision there.
    """
    precision = right / np.maximum(right + wrong, 1)
    reached = [10 * right >= tenths * to_find for tenths in range(11)]
    return float(np.mean([precision[there].max(initial=0.0) for there in reached]))


def all_points(right: np.ndarray, wrong: np.ndarray, to_find: int) -> float:
    """Return the area below the curve of the highest precision at a recall or more."""
    recall = np.concatenate([[0.0], right / to_find])
    precision = right / np.maximum(right + wrong, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * highest).sum())
