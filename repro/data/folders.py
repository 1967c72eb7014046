"""Photographs in folders: which files there are, their classes, and whether it is the whole set. Nothing is decoded.

``train/<class>/*.JPEG`` (or ``train/<class>/images/*.JPEG``), and ``val`` likewise or flat (``val/*.JPEG`` or
``val/images/*.JPEG``) with a file of labels. Labels count the sorted names of the class folders.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repro.config import DataConfig
from repro.data import PhotoSplit
from repro.errors import InputError

WHOLE = {"imagenet": (1000, 1_281_167, 50_000), "tiny_imagenet": (200, 100_000, 10_000)}
"""Classes, training and validation images of the whole sets."""

FOLDERS = {
    "imagenet": (".", "imagenet", "ILSVRC/Data/CLS-LOC"),
    "tiny_imagenet": (".", "tiny-imagenet-200", "tiny_imagenet"),
}
"""Where ``train`` and ``val`` are looked for below ``paths.data``."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
LABEL_FILES = ("labels.txt", "val_labels.txt", "val_annotations.txt", "LOC_val_solution.csv")
NUMBERED = "ILSVRC2012_validation_ground_truth.txt"

SHOWN = 20
"""Names in a message; the others are counted."""

Found = list[tuple[str, os.stat_result]]
"""Paths below the root of a set, with ``/``, and what the file system says of them."""


@dataclass(frozen=True)
class Listing:
    """The image files of a split, sorted by path, with their sizes in bytes and times of change in nanoseconds."""

    name: str
    root: Path
    files: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    num_bytes: np.ndarray
    changed: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def digest(self, *, with_times: bool = False) -> str:
        """SHA-256 of paths, sizes and labels, one file a line; of the times of change too, for a cache."""
        columns: list[Iterable[object]] = [self.files, self.num_bytes.tolist(), self.labels.tolist()]
        columns += [self.changed.tolist()] * with_times
        digest = hashlib.sha256()
        for row in zip(*columns, strict=True):
            digest.update(("\t".join(map(str, row)) + "\n").encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def find(data: DataConfig, root: Path) -> tuple[Listing, Listing]:
    """The training and validation images below ``root`` (``paths.data``), all checked but for their content.

    Raises:
        InputError: A folder is missing or empty, classes or labels do not agree, or it is not the whole set and
            ``data.partial`` does not allow that.
    """
    try:
        folder = locate(data.name, root)
        train = list_classes(folder, "train")
        val = list_val(folder, root, train.classes)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    there, whole = (len(train.classes), len(train), len(val)), WHOLE[data.name]
    if there != whole and not data.partial:
        raise InputError(
            f"{folder} is not the whole of {data.name}: it has {counted(*there)}, not {counted(*whole)}; "
            "data.partial=true trains on what is there"
        )
    return train, val


def counted(classes: int, train: int, val: int) -> str:
    return f"{classes:,} classes, {train:,} training and {val:,} validation images"


def locate(name: str, root: Path) -> Path:
    """The folder that holds ``train`` and ``val``: ``root`` itself, or one of the usual names in it."""
    for below in FOLDERS[name]:
        if all((root / below / split).is_dir() for split in ("train", "val")):
            return root / below
    raise InputError(
        f"{root} holds no folders train and val, nor does a folder {' or '.join(FOLDERS[name][1:])} in it: "
        f"set paths.data to your copy of {name}, unpacked as train/<class>/*.JPEG and val/"
    )


def list_classes(root: Path, split: str) -> Listing:
    """A split whose images lie in one folder for each class.

    Raises:
        InputError: There are no class folders, or some without an image.
    """
    classes = sorted(folder_names(root / split))
    if not classes:
        raise InputError(f"{root / split} holds no class folders: unpack it as {split}/<class>/*.JPEG")
    found = [images_of_class(root, f"{split}/{name}") for name in classes]
    empty = [str(root / split / name) for name, images in zip(classes, found, strict=True) if not images]
    if empty:
        raise InputError(f"{plural(len(empty), 'class folder has', 'class folders have')} no images: {some(empty)}")
    labels = [label for label, images in enumerate(found) for _ in images]
    return listing(root, split, [image for images in found for image in images], labels, classes)


def list_val(root: Path, given: Path, classes: Sequence[str]) -> Listing:
    """The validation images, in class folders or flat with a file of labels in ``val``, ``root`` or ``given``."""
    inside = folder_names(root / "val")
    if inside - {"images"}:
        val = list_classes(root, "val")
        check_classes(classes, val.classes, str(root / "val"))
        return val
    below = "val/images" if inside else "val"
    found = images_in(root, below)
    if not found:
        raise InputError(f"{root / below} holds no images")
    path, wnids = read_labels(root, given)
    check_classes(classes, sorted(set(wnids.values())), str(path))
    stems = [stem(name) for name, _ in found]
    unlabelled = [name for name, key in zip((name for name, _ in found), stems, strict=True) if key not in wnids]
    if unlabelled:
        raise InputError(f"{path} has no label for {plural(len(unlabelled), 'image', 'images')}: {some(unlabelled)}")
    number = {name: label for label, name in enumerate(classes)}
    return listing(root, "val", found, [number[wnids[key]] for key in stems], classes)


def read_labels(root: Path, given: Path) -> tuple[Path, dict[str, str]]:
    """The first file of labels that is there: image name without its ending to class name.

    Raises:
        InputError: There is none, or a line of it is not an image's name and a class's.
    """
    folders = (root / "val", root, given)
    path = next((p for name in LABEL_FILES for folder in folders if (p := folder / name).is_file()), None)
    if path is None:
        lead = ""
        if any((folder / NUMBERED).is_file() for folder in folders):
            lead = f"{NUMBERED} numbers the classes in an order that it does not tell, so it cannot be used; "
        raise InputError(
            f"{lead}{root / 'val'} has images but no class folders: put val/labels.txt beside them, with lines such as "
            "'ILSVRC2012_val_00000001.JPEG n01751748' (or LOC_val_solution.csv), or sort them into val/<class>/"
        )
    wnids: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    if path.suffix == ".csv":
        lines = ["", *(line.replace(",", " ", 1) for line in lines[1:])]  # its first line names the columns
    for row, line in enumerate(lines, start=1):
        words = line.split("\t" if "\t" in line else None)
        if not words:
            continue
        if len(words) < 2:
            raise InputError(f"{path}, line {row}: {line.strip()!r} is not the name of an image and of its class")
        if wnids.setdefault(stem(words[0]), words[1]) != words[1]:
            raise InputError(f"{path}, line {row}: {words[0]} has two labels")
    return path, wnids


def check_classes(train: Sequence[str], val: Sequence[str], where: str) -> None:
    missing, unknown = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    parts = [f"lacks {some(missing)}"] * bool(missing) + [f"has {some(unknown)}, unknown to train"] * bool(unknown)
    if parts:
        raise InputError(f"the classes of {where} are not those of the training folder: it {' and '.join(parts)}")


# --- the file system ----------------------------------------------------------------------------------------------


def folder_names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}


def images_in(root: Path, below: str) -> Found:
    """The images in one folder, sorted by name. Hidden files are no images, whatever their ending."""
    with os.scandir(root / below) as entries:
        found = [
            (f"{below}/{entry.name}", entry.stat())
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
        ]
    return sorted(found, key=lambda image: image[0])


def images_of_class(root: Path, below: str) -> Found:
    """The images of a class folder, or of ``images`` in it, as Tiny ImageNet has them."""
    found = images_in(root, below)
    return found if found or "images" not in folder_names(root / below) else images_in(root, f"{below}/images")


def listing(root: Path, name: str, found: Found, labels: list[int], classes: Sequence[str]) -> Listing:
    return Listing(
        name,
        root,
        tuple(path for path, _ in found),
        np.array(labels, np.int64),
        tuple(classes),
        np.array([status.st_size for _, status in found], np.int64),
        np.array([status.st_mtime_ns for _, status in found], np.int64),
    )


def stem(path: str) -> str:
    """The name of an image without its ending: lists of labels have it or not."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] if name.lower().endswith(SUFFIXES) else name


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are; bytes that are no text are shown as escapes."""
    shown = ", ".join(printable(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


# --- what of it is used -------------------------------------------------------------------------------------------


def readable(listed: Listing, sizes: np.ndarray) -> PhotoSplit:
    """The images that were decoded: ``sizes`` (N, 2) are heights and widths, 0 where an image could not be."""
    kept = np.flatnonzero(sizes[:, 0])
    files = tuple(listed.files[i] for i in kept)
    return PhotoSplit(listed.name, listed.root, files, listed.labels[kept], listed.classes, sizes[kept])


def take(split: PhotoSplit, count: int | None, setting: str) -> PhotoSplit:
    """``count`` images, evenly from all classes, all for None. ``setting`` is the key that the user wrote.

    Raises:
        InputError: More are asked for than there are, or there are none.
    """
    if not len(split):
        raise InputError(f"no image of {split.root / split.name} can be read")
    if count is not None and count > len(split):
        raise InputError(f"{setting}={count} is more than the {len(split):,} images of the split {split.name}")
    if count is None:
        return split
    kept = evenly(split.labels, count)
    files = tuple(split.files[i] for i in kept)
    sizes = None if split.sizes is None else split.sizes[kept]
    return PhotoSplit(split.name, split.root, files, split.labels[kept], split.classes, sizes)


def evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of ``count`` images, rising: the first of every class, then the second of every class, and so on."""
    by_class = np.argsort(labels, kind="stable")
    sorted_labels = labels[by_class]
    place = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    chosen = np.lexsort((sorted_labels, place))[:count]
    return np.sort(by_class[chosen])
