"""Images and boxes of ImageNet's detection task (DET)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.data.detection import DetectionSplit, Objects
from repro.data.detection.problems import Problems, box_fault, shown
from repro.data.detection.voc import checked_sizes, read_annotation
from repro.errors import InputError

FOLDERS = (".", "ILSVRC", "imagenet_det", "imagenet")
"""Folders below ``paths.data`` that may contain ``Annotations/DET``, ``Data/DET`` and ``ImageSets/DET``."""
BY_CLASS = "ILSVRC2013_train"
"""The folder of training annotations with a folder for each of the 200 classes."""
CLASSES = 200
PARTS = ("train", "val")
"""Folders of images and annotations; the name of a list begins with that of its folder."""


def read(
    root: Path,
    lists: Sequence[str],
    *,
    name: str,
    classes: Sequence[str],
    skip_boxes: bool = False,
    cache: Path | None = None,
) -> DetectionSplit:
    """Read the images of one or several lists, such as ``train`` and ``val1``, and check all of them.

    A list ``val1`` is ``ImageSets/DET/val1.txt``, a line for an image (D95). Pixels count from 0 and a box includes its
    last ones (D97).

    Args:
        classes: WordNet ids.
        skip_boxes: Leave out boxes that are empty or outside of their image.
        cache: A folder for the list of all faults if it is long.

    Raises:
        InputError: A list is missing or empty, or images or annotations are missing or faulty; all are listed.
    """
    folder, problems = locate(root), Problems()
    files: list[str] = []
    ids: list[str] = []
    objects: list[Objects] = []
    stated: list[tuple[Path, tuple[int, int] | None]] = []
    if len(set(lists)) < len(lists):
        raise InputError(f"the lists {', '.join(lists)} of {name} name one of them twice")
    parts = {listed: part_of(listed) for listed in lists}
    wanted = [(part, image) for listed, part in parts.items() for image in read_list(folder, listed, problems)]
    if len(set(wanted)) < len(wanted):
        problems.add(folder / "ImageSets" / "DET", f"an image is in more than one of the lists {', '.join(lists)}")
    for part, image in wanted:
        path = folder / "Annotations" / "DET" / part / f"{image}.xml"
        found = read_annotation(path, classes, problems)
        if found is not None:
            files.append(f"Data/DET/{part}/{image}.JPEG")
            ids.append(image)
            objects.append(found[0])
            stated.append((path, found[1]))
    sizes = checked_sizes(folder, files, stated, problems)
    kept = [
        checked_boxes(path, found, (0, 0) if isinstance(size, str) else size, problems)
        for (path, _), found, size in zip(stated, objects, sizes, strict=True)
    ]
    problems.report(str(folder), skip_boxes=skip_boxes, cache=cache)
    known = np.array(sizes, np.int64).reshape(-1, 2)
    return DetectionSplit(name, folder, tuple(files), tuple(ids), known, tuple(kept), tuple(classes))


def locate(root: Path) -> Path:
    """Return the folder that contains ``Annotations/DET``."""
    for below in FOLDERS:
        if (root / below / "Annotations" / "DET").is_dir():
            return root / below
    raise InputError(
        f"{root} has no folder Annotations/DET, nor does a folder ILSVRC in it: set paths.data to your copy of "
        "ImageNet's detection images, with Annotations/DET, Data/DET and ImageSets/DET"
    )


def classes_in(root: Path) -> tuple[str, ...]:
    """Return the WordNet ids of the 200 classes, which name folders of training annotations."""
    folder = locate(root) / "Annotations" / "DET" / "train" / BY_CLASS
    found = sorted(path.name for path in folder.glob("n*") if path.is_dir())
    if len(found) != CLASSES:
        raise InputError(
            f"{folder} has {len(found)} folders of classes instead of {CLASSES}: name the WordNet ids of your classes, "
            "as in data.classes=[n02084071,n02121808]"
        )
    return tuple(found)


def part_of(listed: str) -> str:
    """Return the folder of the images of a list: ``val`` of ``val1``."""
    part = next((part for part in PARTS if listed.startswith(part)), "")
    if not part or "/" in listed:
        raise InputError(f"{listed!r} is not a list of images for detection: its name begins with {' or '.join(PARTS)}")
    return part


def read_list(folder: Path, listed: str, problems: Problems) -> list[str]:
    """Return the images of a list; of ``train`` without a file those that are positive for a class (D96)."""
    lists = folder / "ImageSets" / "DET"
    paths = [lists / f"{listed}.txt"]
    if listed == "train" and not paths[0].is_file():
        paths = sorted(lists.glob("train_*.txt")) or paths
    images: dict[str, None] = {}
    for path in paths:
        try:
            lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, ValueError) as error:
            remedy = "; ImageNet has no such list: take R-CNN's halves of val" if listed in ("val1", "val2") else ""
            problems.add(path, f"the list cannot be read ({error}){remedy}")
            continue
        # The second word of a list of one class is 1, -1 or 0: images with and without the class, and with parts of it.
        one_class = path.stem != listed
        images |= {words[0]: None for words in lines if words and not (one_class and words[1:] != ["1"])}
    if not images and paths[0].is_file():
        problems.add(paths[0], "lists no image")
    return list(images)


def checked_boxes(path: Path, found: Objects, size: tuple[int, int], problems: Problems) -> Objects:
    """Return the objects with valid boxes, which include their last pixels; without a known ``size`` check nothing."""
    height, width = size
    # A last pixel may be the one beyond the edge, as where pixels were counted from 1.
    faults = [box_fault(box, 0, width, height) if height else None for box in found.boxes.tolist()]
    for position, (fault, box) in enumerate(zip(faults, found.boxes, strict=True), start=1):
        if fault is not None:
            problems.add_box(path, f"box {position} {shown(box)} {fault}")
    kept = np.array([fault is None for fault in faults], bool)
    boxes = np.minimum(found.boxes[kept] + (0, 0, 1, 1), (width, height, width, height))
    return Objects(boxes, found.labels[kept], found.difficult[kept], found.crowd[kept])
