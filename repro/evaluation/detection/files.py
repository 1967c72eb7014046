"""Detections in the files of the servers of VOC and COCO."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repro.data.detection import Detections, DetectionSplit
from repro.data.imagenet.folders import listed, plural
from repro.errors import InputError
from repro.evaluation.detection.tables import in_order
from repro.runtime.files import make_folder, write_asked_for

Found = tuple[int, float, list[float]]  # label, score and corners of one detection


def voc_file(folder: Path, class_name: str, part: str) -> Path:
    """Return the file of a class for the competition "comp4": detection with any training data."""
    return folder / f"comp4_det_{part}_{class_name}.txt"


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


def read_voc(folder: Path, split: DetectionSplit, part: str = "test") -> list[Detections]:
    """Read the files of all classes; raise an InputError that lists all invalid lines."""
    faults: list[str] = []
    found: defaultdict[str, list[Found]] = defaultdict(list)
    known = set(split.ids)
    for label, name in enumerate(split.classes):
        path = voc_file(folder, name, part)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            faults.append(f"{path} cannot be read ({error})")
            continue
        for row, line in enumerate(text.splitlines(), start=1):
            words = line.split()
            values = numbers(words[1:])
            if not words:
                continue
            if values is None or len(values) != 5:
                faults.append(f"{path}, line {row}: {line!r} is not an image, a score and four corners")
            elif words[0] not in known:
                faults.append(f"{path}, line {row}: {split.name} has no image {words[0]!r}")
            else:
                score, x0, y0, x1, y1 = values
                found[words[0]].append((label, score, [x0 - 1, y0 - 1, x1, y1]))
    return collected(split, found, faults)


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


def read_coco(path: Path, split: DetectionSplit) -> list[Detections]:
    """Read COCO's results; raise an InputError that lists all invalid entries."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} is not a list of COCO's results")
    names = dict(zip(image_numbers(split), split.ids, strict=True))
    labels = {number: label for label, number in enumerate(category_numbers(split))}
    faults: list[str] = []
    found: defaultdict[str, list[Found]] = defaultdict(list)
    for position, entry in enumerate(entries, start=1):
        image, category, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        values = numbers([entry.get("score"), *box]) if isinstance(box, list) and len(box) == 4 else None
        if not isinstance(image, int) or image not in names:
            faults.append(f"{path}, entry {position}: {split.name} has no image {image!r}")
        elif not isinstance(category, int) or category not in labels:
            faults.append(f"{path}, entry {position}: {split.name} has no category {category!r}")
        elif values is None:
            faults.append(f"{path}, entry {position}: it has no score, or no bbox of four numbers")
        else:
            score, x, y, width, height = values
            found[names[image]].append((labels[category], score, [x, y, x + width, y + height]))
    return collected(split, found, faults)


def image_numbers(split: DetectionSplit) -> list[int]:
    """Return the ids of the images as numbers, as COCO's files have them."""
    if odd := [name for name in split.ids if not name.isdecimal()]:
        raise InputError(f"{split.name} has the image {odd[0]!r}: COCO's results name images by whole numbers")
    return [int(name) for name in split.ids]


def category_numbers(split: DetectionSplit) -> tuple[int, ...]:
    """Return the numbers of the classes in COCO's files; without any they are 1, 2, …"""
    return split.categories or tuple(range(1, len(split.classes) + 1))


def numbers(values: Sequence[Any]) -> list[float] | None:
    """Return finite numbers, None if a value is none."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return found if all(map(math.isfinite, found)) else None


def collected(split: DetectionSplit, found: Mapping[str, list[Found]], faults: Sequence[str]) -> list[Detections]:
    """Return the detections of all images of the split, in its order; raise an InputError for ``faults``."""
    if faults:
        count = plural(len(faults), "fault", "faults")
        raise InputError(f"the detections of {split.name} have {count}:\n  {listed(faults, None, '')}")
    return list(by_image(split, found))


def by_image(split: DetectionSplit, found: Mapping[str, list[Found]]) -> Iterator[Detections]:
    for name in split.ids:
        own = found.get(name, [])
        yield Detections(
            np.array([box for _, _, box in own], np.float64).reshape(-1, 4),
            np.array([label for label, _, _ in own], np.int64),
            np.array([score for _, score, _ in own], np.float64),
        )
