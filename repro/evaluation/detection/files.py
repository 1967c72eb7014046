"""Detections in the files of the servers of VOC and COCO."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro.data.detection import Detections, DetectionSplit
from repro.errors import InputError
from repro.evaluation.detection.tables import in_order
from repro.runtime.files import make_folder, write_asked_for


def voc_file(folder: Path, class_name: str, part: str) -> Path:
    """Return the file of a class for the competition "comp4": detection with any training data."""
    return folder / f"comp4_det_{part}_{class_name.replace('/', '_')}.txt"


def write_voc(folder: Path, split: DetectionSplit, detections: Sequence[Detections], part: str = "test") -> list[Path]:
    """Write one file per class with lines of image, score, xmin, ymin, xmax and ymax, pixels counted from 1.

    Numbers have all their digits: rounding makes ties of scores, and moves overlaps that are close to 0.5. A class
    without detections gets an empty file.

    Args:
        part: The list of images, which is a part of the names of the files.
    """
    lines: list[list[str]] = [[] for _ in split.classes]
    for i in in_order(split.ids):
        one = detections[i]
        for label, score, box in zip(one.labels.tolist(), one.scores.tolist(), one.boxes.tolist(), strict=True):
            corners = (box[0] + 1, box[1] + 1, box[2], box[3])
            lines[label].append(" ".join([split.ids[i], *map(repr, (score, *corners))]))
    paths = [voc_file(folder, name, part) for name in split.classes]
    make_folder(folder, InputError)
    for path, own in zip(paths, lines, strict=True):
        write_asked_for(path, "".join(f"{line}\n" for line in own))
    return paths


def write_coco(path: Path, split: DetectionSplit, detections: Sequence[Detections]) -> Path:
    """Write COCO's results: a JSON list of image_id, category_id, bbox (x, y, width, height) and score."""
    ids, categories = image_numbers(split), category_numbers(split)
    entries: list[dict[str, Any]] = []
    for i in in_order(split.ids):
        one = detections[i]
        for label, score, box in zip(one.labels.tolist(), one.scores.tolist(), one.boxes.tolist(), strict=True):
            x0, y0, x1, y1 = box
            entries.append(
                {
                    "image_id": ids[i],
                    "category_id": categories[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                }
            )
    return write_asked_for(path, json.dumps(entries, allow_nan=False))


def image_numbers(split: DetectionSplit) -> list[int]:
    """Return the ids of the images as numbers, as COCO's files have them."""
    if odd := [name for name in split.ids if not name.isdecimal()]:
        raise InputError(f"{split.name} has the image {odd[0]!r}: COCO's results name images by whole numbers")
    return [int(name) for name in split.ids]


def category_numbers(split: DetectionSplit) -> tuple[int, ...]:
    """Return the numbers of the classes in COCO's files; without any they are 1, 2, …"""
    return split.categories or tuple(range(1, len(split.classes) + 1))
