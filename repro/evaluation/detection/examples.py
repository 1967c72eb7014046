"""Pictures of findings in test images, right and wrong ones."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from repro.data.detection import Detections, DetectionSplit, Objects
from repro.data.detection.scaled import photo_of
from repro.evaluation.detection.drawing import above, drawn
from repro.evaluation.detection.voc import OVERLAP, paired_overlaps

COLUMNS, WRONG, PICTURES = 3, 3, 6
"""Test images in a row, those with the surest false positives, and all."""
SIDES = (360, 270)
"""Width and height of the place of an image."""
LEAST_SCORE = 0.5


def examples(split: DetectionSplit, found: Sequence[Detections]) -> bytes:
    """Return a JPEG of some test images: those with the surest false positives, then the first ones.

    White boxes are the objects that are there; a false positive has "not" before its class.
    """
    names = (*split.classes, *(f"not {name}" for name in split.classes))
    sheet = Image.new("RGB", (COLUMNS * SIDES[0], -(-PICTURES // COLUMNS) * SIDES[1]))
    for place, position in enumerate(chosen(split, found)):
        shown = above(found[position], LEAST_SCORE)
        labels = shown.labels + len(split.classes) * false_positives(split.objects[position], shown)
        picture = drawn(
            photo_of(split, position), Detections(shown.boxes, labels, shown.scores), names, split.objects[position]
        )
        picture.thumbnail(SIDES)
        sheet.paste(picture, (place % COLUMNS * SIDES[0], place // COLUMNS * SIDES[1]))
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=85)
    return content.getvalue()


def chosen(split: DetectionSplit, found: Sequence[Detections]) -> list[int]:
    """Return the positions of the images that are shown."""
    surest = []
    for position, (known, one) in enumerate(zip(split.objects, found, strict=True)):
        sure = above(one, LEAST_SCORE)
        scores = sure.scores[false_positives(known, sure)]
        surest += [(-float(scores.max()), position)] if len(scores) else []
    wrong = [position for _, position in sorted(surest)[:WRONG]]
    others = [position for position in range(min(PICTURES, len(split))) if position not in wrong]
    return [*wrong, *others][:PICTURES]


def false_positives(known: Objects, found: Detections) -> np.ndarray:
    """Return which detections in an image are wrong (n,) bool, by VOC's rules; one of a difficult object is not."""
    wrong, taken = np.ones(len(found), bool), set()
    for number in np.argsort(-found.scores, kind="stable").tolist():
        same = np.flatnonzero(known.labels == found.labels[number])
        overlaps = paired_overlaps(np.repeat(found.boxes[number : number + 1], len(same), 0), known.boxes[same])
        if len(same) and overlaps.max() >= OVERLAP:
            match = int(same[overlaps.argmax()])
            wrong[number] = match in taken and not (known.difficult[match] or known.crowd[match])
            taken.add(match)
    return wrong
