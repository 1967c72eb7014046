"""Small folders in the layouts of VOC and COCO, and made objects and detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repro.data.detection import Detections, DetectionSplit, Objects
from tests.photos import picture

WIDTH, HEIGHT = 60, 40  # of every planted image


def element(name: str, box: Sequence[object], difficult: int | None = 0, inside: str = "") -> str:
    """Return an object of VOC's XML; ``box`` is xmin, ymin, xmax, ymax, counted from 1."""
    corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{mark}{inside}<bndbox>{corners}</bndbox></object>"


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, HEIGHT, WIDTH).save(path, "JPEG")


def make_voc(
    root: Path, images: dict[str, list[str]], *, year: str = "2007", part: str = "trainval", width: int = WIDTH
) -> Path:
    """Write images with the objects of ``images``, and their list; ``width`` is stated in the annotations."""
    folder = root / f"VOC{year}"
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for seed, (name, objects) in enumerate(images.items()):
        write_image(folder / "JPEGImages" / f"{name}.jpg", seed)
        size = f"<size><width>{width}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in images))
    return root


def annotation(number: int, image: int, category: int, bbox: Sequence[float], **changes: Any) -> dict[str, Any]:
    """Return an annotation of COCO's JSON; ``bbox`` is x, y, width, height."""
    area = bbox[2] * bbox[3]
    own = {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), "area": area, "iscrowd": 0}
    return {**own, **changes}


def coco_image(number: int, name: str | None = None) -> dict[str, Any]:
    return {"id": number, "file_name": name or f"{number:012d}.jpg", "width": WIDTH, "height": HEIGHT}


def make_coco(
    root: Path,
    images: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    *,
    split: str = "train2014",
    categories: Sequence[tuple[int, str]] = ((1, "person"), (13, "stop sign"), (90, "toothbrush")),
) -> Path:
    """Write the images and the JSON of a split."""
    for seed, image in enumerate(images):
        write_image(root / split / image["file_name"], seed)
    named = [{"id": number, "name": name} for number, name in categories]
    content = {"images": images, "annotations": annotations, "categories": named}
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def objects(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int] | None = None,
    difficult: Sequence[bool] | None = None,
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> Objects:
    """Return objects, by default of class 0, neither difficult nor a crowd."""
    none = [False] * len(boxes)
    return Objects(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array([0] * len(boxes) if labels is None else labels, np.int64),
        np.array(difficult or none, bool),
        np.array(crowd or none, bool),
        None if areas is None else np.array(areas, np.float64),
    )


def found(boxes: Sequence[Sequence[float]], scores: Sequence[float], labels: Sequence[int] | None = None) -> Detections:
    """Return detections, by default of class 0."""
    given = [0] * len(boxes) if labels is None else labels
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    return Detections(corners, np.array(given, np.int64), np.array(scores, np.float64))


def made(
    every: Sequence[Objects], *, classes: Sequence[str] = ("cat", "dog"), ids: Sequence[str] | None = None, **more: Any
) -> DetectionSplit:
    """Return a split of images without files."""
    names = tuple(ids or [f"{i:06d}" for i in range(1, len(every) + 1)])
    sizes = np.full((len(every), 2), 500)
    return DetectionSplit("made", Path(), names, names, sizes, tuple(every), tuple(classes), **more)


def random_set(seed: int, images: int = 30, classes: int = 3) -> tuple[DetectionSplit, list[Detections]]:
    """Return objects with difficult ones and crowds, and detections near to them and elsewhere, with ties of scores."""
    random = np.random.default_rng(seed)
    every, detections = [], []
    for _ in range(images):
        count, wrong = int(random.integers(0, 5)), int(random.integers(0, 8))
        low = random.integers(0, 300, (count, 2))
        boxes = np.concatenate([low, low + random.integers(4, 150, (count, 2))], 1)
        labels = random.integers(0, classes, count)
        marks = random.random((2, count)) < 0.2
        every.append(objects(boxes.tolist(), labels.tolist(), marks[0].tolist(), marks[1].tolist()))
        near = np.repeat(boxes, 2, axis=0) + random.integers(-9, 10, (2 * count, 4))
        low = random.integers(0, 300, (wrong, 2))
        far = np.concatenate([low, low + random.integers(4, 150, (wrong, 2))], 1)
        given = np.concatenate([np.repeat(labels, 2), random.integers(0, classes, wrong)])
        scores = random.integers(1, 20, len(given)) / 20
        detections.append(found(np.concatenate([near, far]).tolist(), scores.tolist(), given.tolist()))
    return made(every, classes=[f"class{i}" for i in range(classes)]), detections
