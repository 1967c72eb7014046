"""Images and boxes of PASCAL VOC, from VOCdevkit folders."""

import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from repro.data.detection import DetectionSplit, Objects
from repro.data.detection.problems import Problems, box_fault, image_sizes, shown
from repro.data.imagenet.folders import images_in, stem
from repro.errors import InputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of VOC 2007 to 2012, in the devkit's order."""

FOLDERS = (".", "VOCdevkit", "voc", "VOC")
"""Folders below ``paths.data`` that may contain ``VOC2007`` and ``VOC2012``."""

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read(
    root: Path,
    lists: Sequence[str],
    *,
    name: str,
    classes: Sequence[str] = CLASSES,
    skip_boxes: bool = False,
    cache: Path | None = None,
) -> DetectionSplit:
    """Read the images of one or several lists, such as ``2007_trainval`` and ``2012_trainval``, and check all of them.

    A list ``2007_trainval`` is ``VOC2007/ImageSets/Main/trainval.txt``. Pixels of VOC count from 1 and a box includes
    its last ones, so that only xmin and ymin are lowered by 1.

    Args:
        root: The folder ``paths.data``, which is or contains ``VOCdevkit``.
        skip_boxes: Leave out boxes that are empty or outside of their image.
        cache: A folder for the list of all faults if it is long.

    Raises:
        InputError: A list is missing or empty, or images or annotations are missing or faulty; all are listed.
    """
    if len(set(lists)) < len(lists):
        raise InputError(f"the lists {', '.join(lists)} of {name} name one of them twice")
    named = [(year_folder(listed), listed.partition("_")[2]) for listed in lists]
    devkit = locate(root, [year for year, _ in named])
    problems = Problems()
    wanted = [pair for year, part in named for pair in read_list(devkit, year, part, problems)]
    files, ids, objects, stated = [], [], [], []
    for (year, image), count in Counter(wanted).items():
        if count > 1:
            problems.add(devkit / year / "ImageSets" / "Main", f"{image} is in {count} of the lists {', '.join(lists)}")
    images = {year: image_files(devkit, year, problems) for year in dict.fromkeys(year for year, _ in named)}
    for year, image in wanted:
        path = devkit / year / "Annotations" / f"{image}.xml"
        found = read_annotation(path, classes, problems)
        if image not in images[year]:
            problems.add(devkit / year / "JPEGImages" / f"{image}.jpg", "the image does not exist")
        elif found is not None:
            files.append(images[year][image])
            ids.append(image)
            objects.append(found[0])
            stated.append((path, found[1]))
    sizes = checked_sizes(devkit, files, stated, problems)
    kept = [
        check_boxes(path, found, (0, 0) if isinstance(size, str) else size, problems)
        for (path, _), found, size in zip(stated, objects, sizes, strict=True)
    ]
    problems.report(str(devkit), skip_boxes=skip_boxes, cache=cache)
    known = np.array(sizes, np.int64).reshape(-1, 2)
    return DetectionSplit(name, devkit, tuple(files), tuple(ids), known, tuple(kept), tuple(classes))


def checked_sizes(
    root: Path, files: Sequence[str], stated: Sequence[tuple[Path, tuple[int, int] | None]], problems: Problems
) -> list[tuple[int, int] | str]:
    """Return height and width of each image, or why it cannot be read; compare them with those in its annotation."""
    sizes = image_sizes([root / file for file in files])
    for file, size, (path, size_there) in zip(files, sizes, stated, strict=True):
        if isinstance(size, str):
            problems.add(root / file, size)
        elif size_there is not None and size != size_there:
            problems.add(path, f"states {size_there[1]}x{size_there[0]} pixels, the image has {size[1]}x{size[0]}")
    return sizes


def year_folder(listed: str) -> str:
    """Return the folder of the year of a list: ``VOC2007`` of ``2007_trainval``."""
    year, _, part = listed.partition("_")
    if not (year.isdecimal() and len(year) == 4 and part) or "/" in part:
        raise InputError(f"{listed!r} is not a list of VOC images: name a year and a list, as in 2007_trainval")
    return f"VOC{year}"


def locate(root: Path, years: Sequence[str]) -> Path:
    """Return the folder that contains the folders of all ``years``."""
    for below in FOLDERS:
        if all((root / below / year).is_dir() for year in years):
            return root / below
    raise InputError(
        f"{root} has no folders {' and '.join(dict.fromkeys(years))}, nor does a folder VOCdevkit in it: set "
        "paths.data to your copy of VOCdevkit, with Annotations, ImageSets/Main and JPEGImages for every year"
    )


def read_list(devkit: Path, year: str, part: str, problems: Problems) -> list[tuple[str, str]]:
    """Return year and id of the images of a list, each once."""
    path = devkit / year / "ImageSets" / "Main" / f"{part}.txt"
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        problems.add(path, f"the list cannot be read ({error})")
        return []
    lines = [words for words in lines if words]
    if any(len(words) > 1 for words in lines):
        problems.add(path, "has more than one word in a line, as a list of one class has: name a list of all classes")
        return []
    if not lines:
        problems.add(path, "lists no image")
    counts = Counter(words[0] for words in lines)
    for image, count in counts.items():
        if count > 1:
            problems.add(path, f"lists {image} {count} times")
    return [(year, image) for image in counts]


def image_files(devkit: Path, year: str, problems: Problems) -> dict[str, str]:
    """Return the paths below the devkit of a year's images, by id."""
    below = f"{year}/JPEGImages"
    files: dict[str, str] = {}
    try:
        found = images_in(devkit, below)
    except OSError as error:
        problems.add(devkit / below, f"cannot be read ({error.strerror})")
        return files
    for file, _, _ in found:
        if stem(file) in files:
            problems.add(devkit / file, f"has the name of another image, {files[stem(file)]}")
        files[stem(file)] = file
    return files


def read_annotation(
    path: Path, classes: Sequence[str], problems: Problems
) -> tuple[Objects, tuple[int, int] | None] | None:
    """Return the objects of an image, with corners as written, and its stated height and width; None if unreadable."""
    try:
        top = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        problems.add(path, "the annotation does not exist")
        return None
    except (OSError, ValueError, ElementTree.ParseError) as error:
        problems.add(path, f"cannot be read as XML ({error})")
        return None
    boxes, labels, difficult = [], [], []
    # Only children of the annotation: parts of persons (heads, hands) have names and boxes too, inside their object.
    for position, element in enumerate(top.findall("object"), start=1):
        label = (element.findtext("name") or "").strip()
        mark = (element.findtext("difficult") or "0").strip()
        box = [number(element.findtext(f"bndbox/{corner}")) for corner in CORNERS]
        if label not in classes:
            problems.add(path, f"object {position} has the unknown class {label!r}")
        elif mark not in ("0", "1"):
            problems.add(path, f"object {position} ({label}) has difficult={mark!r}, not 0 or 1")
        elif None in box:
            problems.add(path, f"object {position} ({label}) has no bndbox with numbers xmin, ymin, xmax and ymax")
        else:
            boxes.append(box)
            labels.append(classes.index(label))
            difficult.append(mark == "1")
    height, width = (number(top.findtext(f"size/{side}")) for side in ("height", "width"))
    size = None if height is None or width is None else (int(height), int(width))
    none = np.zeros(len(labels), bool)
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    return Objects(corners, np.array(labels, np.int64), np.array(difficult, bool), none), size


def number(text: str | None) -> float | None:
    """Return the number that an element contains, None if there is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def check_boxes(path: Path, found: Objects, size: tuple[int, int], problems: Problems) -> Objects:
    """Return the objects with valid boxes, in pixels from 0; without a known ``size`` check nothing."""
    height, width = size
    faults = [box_fault(box, 1, width, height) if height else None for box in found.boxes.tolist()]
    for position, (fault, box) in enumerate(zip(faults, found.boxes, strict=True), start=1):
        if fault is not None:
            problems.add_box(path, f"box {position} {shown(box)} {fault}")
    kept = np.array([fault is None for fault in faults], bool)
    boxes = found.boxes[kept] - (1, 1, 0, 0)
    return Objects(boxes, found.labels[kept], found.difficult[kept], found.crowd[kept])
