"""Images and boxes of COCO, from its JSON files."""

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from repro.data.detection import DetectionSplit, Objects
from repro.data.detection.problems import Problems, box_fault, image_sizes, shown
from repro.errors import InputError

FOLDERS = (".", "coco", "COCO")
"""Folders below ``paths.data`` that may contain ``annotations`` and the images of the splits."""

SLACK = 1.0
"""Pixels by which a box may leave its image: COCO's boxes enclose polygons that were drawn in fractions of pixels."""

Entry = dict[str, Any]


def read(
    root: Path, splits: Sequence[str], *, name: str, skip_boxes: bool = False, cache: Path | None = None
) -> DetectionSplit:
    """Read the images of one or several splits, such as ``train2014``, and check all of them.

    Annotations are in ``annotations/instances_<split>.json``, images in a folder ``<split>``. Labels are positions in
    the categories, sorted by their numbers, which have gaps.

    Args:
        root: The folder ``paths.data``, which is or contains ``coco``.
        skip_boxes: Leave out boxes that are empty or outside of their image.
        cache: A folder for the list of all faults if it is long.

    Raises:
        InputError: A file is missing or is not COCO's, or images or annotations are missing or faulty; all are listed.
    """
    if len(set(splits)) < len(splits):
        raise InputError(f"the splits {', '.join(splits)} of {name} name one of them twice")
    folder = locate(root, splits)
    problems = Problems()
    tables = {split: read_tables(folder, split) for split in splits}
    names, numbers = categories(folder, tables, problems)
    files: list[str] = []
    ids: list[str] = []
    sizes: list[tuple[int, int]] = []
    objects: list[Objects] = []
    for split, entries in tables.items():
        path = annotations(folder, split)
        known = read_images(path, split, entries["images"], problems)
        owned = by_image(path, known, entries["annotations"], numbers, problems)
        headers = image_sizes([folder / file for file, _ in known.values()])
        for (image, (file, stated)), header in zip(known.items(), headers, strict=True):
            if isinstance(header, str):
                problems.add(folder / file, header)
            elif header != stated:
                there = f"{path.name} states {stated[1]}x{stated[0]} pixels"
                problems.add(folder / file, f"{there}, the image has {header[1]}x{header[0]}")
            files.append(file)
            ids.append(str(image))
            sizes.append(stated)
            objects.append(objects_of(path, owned[image], stated, numbers, problems))
    repeat(problems, folder, ids, "image", "in more than one split")
    problems.report(str(folder), skip_boxes=skip_boxes, cache=cache)
    known_sizes = np.array(sizes, np.int64).reshape(-1, 2)
    return DetectionSplit(name, folder, tuple(files), tuple(ids), known_sizes, tuple(objects), names, numbers)


def leak(train: DetectionSplit, evaluated: DetectionSplit) -> str | None:
    """Return a sentence about images that are in both sets, as val2014's are in train2017; None without any.

    The ids of COCO's images are the same in 2014 and 2017.
    """
    shared = set(train.ids) & set(evaluated.ids)
    if not shared:
        return None
    return (
        f"{len(shared):,} of the {len(evaluated):,} images of {evaluated.name} are also in {train.name}: its results "
        "say nothing about new images (COCO's training set of 2017 contains most of the validation set of 2014)"
    )


def annotations(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def locate(root: Path, splits: Sequence[str]) -> Path:
    """Return the folder that contains the annotations of all ``splits``."""
    for below in FOLDERS:
        if all(annotations(root / below, split).is_file() for split in splits):
            return root / below
    wanted = " and ".join(f"annotations/instances_{split}.json" for split in splits)
    raise InputError(
        f"{root} has no {wanted}, nor does a folder coco in it: set paths.data to your copy of COCO, with annotations "
        "and one folder of images for every split"
    )


def read_tables(folder: Path, split: str) -> dict[str, list[Entry]]:
    """Read the lists of images, annotations and categories."""
    path = annotations(folder, split)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    tables = {}
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "id" in entry for entry in entries):
            raise InputError(f"{path} is not a file of COCO's instances: it has no list {name!r} of objects with ids")
        tables[name] = entries
    if not tables["images"]:
        raise InputError(f"{path} has no images")
    return tables


def repeat(problems: Problems, path: Path, found: Iterable[Hashable], what: str, where: str = "twice") -> None:
    """Report what is there more than once."""
    for value, count in Counter(found).items():
        if count > 1:
            problems.add(path, f"has the {what} {value} {where}")


def categories(
    folder: Path, tables: dict[str, dict[str, list[Entry]]], problems: Problems
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and numbers of the categories, sorted by number; they must be the same in all splits."""
    first: tuple[tuple[str, ...], tuple[int, ...]] | None = None
    for split, entries in tables.items():
        path = annotations(folder, split)
        pairs = [(entry["id"], entry.get("name")) for entry in entries["categories"]]
        if not pairs or not all(whole(number) and isinstance(name, str) for number, name in pairs):
            raise InputError(f"{path} has no categories with whole numbers as ids, and names")
        repeat(problems, path, [number for number, _ in pairs], "category id")
        repeat(problems, path, [name for _, name in pairs], "category")
        found = tuple(str(name) for _, name in sorted(pairs)), tuple(int(number) for number, _ in sorted(pairs))
        first = first or found
        if found != first:
            problems.add(path, "has other categories than the other splits")
    assert first is not None
    return first


def read_images(
    path: Path, split: str, entries: Sequence[Entry], problems: Problems
) -> dict[int, tuple[str, tuple[int, int]]]:
    """Return file, height and width of the images by id, in the order of the ids."""
    repeat(problems, path, [str(entry["id"]) for entry in entries], "image id")
    repeat(problems, path, [str(entry.get("file_name")) for entry in entries], "image file")
    known: dict[int, tuple[str, tuple[int, int]]] = {}
    for entry in entries:
        file, height, width = entry.get("file_name"), entry.get("height"), entry.get("width")
        if whole(entry["id"]) and isinstance(file, str) and whole(height) and whole(width):
            known[entry["id"]] = f"{split}/{file}", (height, width)
        else:
            problems.add(path, f"the image {entry['id']} lacks a whole number as id, file_name, height or width")
    return dict(sorted(known.items()))


def by_image(
    path: Path,
    known: dict[int, tuple[str, tuple[int, int]]],
    entries: Sequence[Entry],
    numbers: Sequence[int],
    problems: Problems,
) -> defaultdict[int, list[Entry]]:
    """Return the valid annotations of every image, in the order of the file."""
    repeat(problems, path, [str(entry["id"]) for entry in entries], "annotation id")
    owned: defaultdict[int, list[Entry]] = defaultdict(list)
    there = set(numbers)
    for entry in entries:
        what, image = f"the annotation {entry['id']}", entry.get("image_id")
        box, area = entry.get("bbox"), entry.get("area")
        if not whole(image) or image not in known:
            problems.add(path, f"{what} has the unknown image_id {image!r}")
        elif not whole(entry.get("category_id")) or entry["category_id"] not in there:
            problems.add(path, f"{what} has the unknown category_id {entry.get('category_id')!r}")
        elif not isinstance(box, list) or len(box) != 4 or not all(map(real, box)):
            problems.add(path, f"{what} has no bbox of four numbers")
        elif area is not None and not real(area):
            problems.add(path, f"{what} has the area {area!r}, not a number")
        elif entry.get("iscrowd", 0) not in (0, 1):
            problems.add(path, f"{what} has iscrowd={entry['iscrowd']!r}, not 0 or 1")
        else:
            owned[image].append(entry)
    return owned


def objects_of(
    path: Path, entries: Sequence[Entry], size: tuple[int, int], numbers: Sequence[int], problems: Problems
) -> Objects:
    """Return the objects of an image with valid boxes; COCO writes x, y, width and height from 0."""
    label = {number: position for position, number in enumerate(numbers)}
    kept, boxes = [], []
    for entry in entries:
        x, y, width, height = entry["bbox"]
        box = (x, y, x + width, y + height)
        fault = box_fault(box, 0, size[1], size[0], SLACK)
        if fault is None:
            kept.append(entry)
            boxes.append(box)
        else:
            problems.add_box(path, f"the annotation {entry['id']} has a bbox {shown(entry['bbox'])} that {fault}")
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    labels = np.array([label[entry["category_id"]] for entry in kept], np.int64)
    crowd = np.array([entry.get("iscrowd", 0) == 1 for entry in kept], bool)
    areas = [entry["bbox"][2] * entry["bbox"][3] if entry.get("area") is None else entry["area"] for entry in kept]
    none = np.zeros(len(kept), bool)
    return Objects(corners, labels, none, crowd, np.array(areas, np.float64))


def whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
