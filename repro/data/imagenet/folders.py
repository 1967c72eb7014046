"""Image files, classes and labels of ImageNet folders.

Training images are in ``train/<class>/*.JPEG`` (or ``train/<class>/images/*.JPEG``); validation images are in ``val``
likewise, or flat (``val/*.JPEG`` or ``val/images/*.JPEG``) with a file of labels. A label is the position of the class
folder among the sorted names.
"""

import contextlib
import csv
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from repro.config.run import DataConfig
from repro.data import PhotoSplit
from repro.errors import InputError
from repro.runtime.provenance import write_atomically

WHOLE = {
    "imagenet": (1000, 1_281_167, 50_000),
    "tiny_imagenet": (200, 100_000, 10_000),
    "shapes_photos": (3, 300, 100),
}
"""Numbers of classes, training and validation images of the whole sets."""

FOLDERS = {
    "imagenet": (".", "imagenet", "ILSVRC/Data/CLS-LOC"),
    "tiny_imagenet": (".", "tiny-imagenet-200", "tiny_imagenet"),
    "shapes_photos": (".",),
}
"""Folders below ``paths.data`` that may contain ``train`` and ``val``."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
LABEL_FILES = ("labels.txt", "val_labels.txt", "val_annotations.txt", "LOC_val_solution.csv")
NUMBERED = "ILSVRC2012_validation_ground_truth.txt"
SHOWN = 20  # names in a message; other names are only counted

Found = list[tuple[str, int, int]]
"""Paths below the root of a set, with ``/``; sizes in bytes and modification times in nanoseconds."""


def find(data: DataConfig, root: Path, *, only_val: bool = False) -> tuple[PhotoSplit, PhotoSplit]:
    """List the training and validation images below ``root`` (``paths.data``), and check all but their content.

    Args:
        only_val: List no training images; ``train`` need not exist.

    Raises:
        InputError: A folder is missing or empty, classes or labels do not agree, or the set is not complete and
            ``data.partial`` is False.
    """
    try:
        folder = locate(data.name, root, ("val",) if only_val else ("train", "val"))
        if only_val:
            train = listing(folder, "train", [], [], class_names(folder, root))
        else:
            train = list_classes(folder, "train")
        val = list_val(folder, root, train.classes)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    classes, num_train, num_val = WHOLE[data.name]
    there = sizes(len(train.classes), None if only_val else len(train), len(val))
    whole = sizes(classes, None if only_val else num_train, num_val)
    if there != whole and not data.partial:
        raise InputError(
            f"{folder} is not the whole of {data.name}: it has {there}, not {whole}; data.partial=true allows a part"
        )
    return train, val


def sizes(classes: int, train: int | None, val: int) -> str:
    training = "" if train is None else f"{train:,} training and "
    return f"{classes:,} classes, {training}{val:,} validation images"


def locate(name: str, root: Path, splits: Sequence[str]) -> Path:
    """Return the folder that contains ``splits``: ``root`` itself, or one of the usual names in it."""
    for below in FOLDERS[name]:
        if all((root / below / split).is_dir() for split in splits):
            return root / below
    raise InputError(
        f"{root} has no folder {' and '.join(splits)}, nor does a folder {' or '.join(FOLDERS[name][1:])} in it: "
        f"set paths.data to your copy of {name}, unpacked as train/<class>/*.JPEG and val/"
    )


def class_names(folder: Path, root: Path) -> list[str]:
    """Return the classes by label, from ``train`` or otherwise from ``val``."""
    if (folder / "train").is_dir():
        return sorted(folder_names(folder / "train"), key=composed)
    inside = folder_names(folder / "val") - {"images"}
    return sorted(inside or set(read_labels(folder, root)[1].values()), key=composed)


def list_classes(root: Path, split: str) -> PhotoSplit:
    """List a split with one folder per class."""
    classes = sorted(folder_names(root / split), key=composed)
    if not classes:
        raise InputError(f"{root / split} has no class folders: unpack it as {split}/<class>/*.JPEG")
    forms = Counter(map(composed, classes))
    if alike := [name for name in classes if forms[composed(name)] > 1]:
        raise InputError(f"{root / split} has class folders of one name in two Unicode forms, join them: {some(alike)}")
    found = []
    for name in classes:
        below = f"{split}/{name}"
        inside = f"{below}/images"  # as in Tiny ImageNet
        found.append(images_in(root, below) or (images_in(root, inside) if (root / inside).is_dir() else []))
    if empty := [str(root / split / name) for name, images in zip(classes, found, strict=True) if not images]:
        raise InputError(f"{plural(len(empty), 'class folder has', 'class folders have')} no images: {some(empty)}")
    labels = [label for label, images in enumerate(found) for _ in images]
    return listing(root, split, [image for images in found for image in images], labels, classes)


def list_val(root: Path, given: Path, classes: Sequence[str]) -> PhotoSplit:
    """List the validation images, in class folders or flat with a file of labels in ``val``, ``root`` or ``given``."""
    inside = {name for name in folder_names(root / "val") if name in classes or not is_image(name)}
    if inside - {"images"}:
        val = list_classes(root, "val")
        check_classes(classes, val.classes, str(root / "val"))
        # Both are sorted alike, so that a label is the same class in any Unicode form of its folder's name.
        return replace(val, classes=tuple(classes))
    below = "val/images" if inside else "val"
    found = images_in(root, below)
    if not found:
        raise InputError(f"{root / below} has no images")
    path, label_names = read_labels(root, given)
    check_classes(classes, sorted(set(label_names.values())), str(path))
    if unlabelled := [file for file, _, _ in found if stem(file) not in label_names]:
        images = plural(len(unlabelled), "image", "images")
        raise InputError(f"{path} has no label for {images}: {some(unlabelled)}")
    number = {composed(name): label for label, name in enumerate(classes)}
    return listing(root, "val", found, [number[label_names[stem(file)]] for file, _, _ in found], classes)


def listing(root: Path, name: str, found: Found, labels: list[int], classes: Sequence[str]) -> PhotoSplit:
    stamps = np.array([image[1:] for image in found], np.int64).reshape(-1, 2)
    files = tuple(file for file, _, _ in found)
    return PhotoSplit(name, root, files, np.array(labels, np.int64), tuple(classes), stamps)


def read_labels(root: Path, given: Path) -> tuple[Path, dict[str, str]]:
    """Return the first file of labels that exists, and its classes by image name without ending."""
    folders = (root / "val", root, given)
    path = next((folder / name for name in LABEL_FILES for folder in folders if (folder / name).is_file()), None)
    if path is None:
        lead = ""
        if any((folder / NUMBERED).is_file() for folder in folders):
            lead = f"{NUMBERED} cannot be used, because it numbers the classes in an unknown order; "
        raise InputError(
            f"{lead}{root / 'val'} has images but no class folders: put val/labels.txt beside them, with lines such as "
            "'ILSVRC2012_val_00000001.JPEG n01751748' (or LOC_val_solution.csv), or sort them into val/<class>/"
        )
    names: dict[str, str] = {}
    for row, line in enumerate(label_lines(path), start=1):
        if not line:
            continue
        words = [word.strip() for word in line.split("\t" if "\t" in line else None)]
        if len(words) < 2:
            raise InputError(f"{path}, line {row}: {line!r} is not the name of an image and of its class")
        name = composed(words[1])
        if names.setdefault(stem(words[0]), name) != name:
            raise InputError(f"{path}, line {row}: {words[0]!r} has two labels")
    return path, names


def label_lines(path: Path) -> list[str]:
    """Read the stripped lines of a file of labels; of a CSV file the first two columns, without the header."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # as in UTF-16
        raise InputError(f"{path} is not in UTF-8: save it as UTF-8")
    # A byte-order mark is at the start, or in the middle if files were concatenated.
    lines = text.replace("\ufeff", "").split("\n")
    if path.suffix == ".csv":
        lines = ["", *(" ".join(cells[:2]) for cells in list(csv.reader(lines))[1:])]
    return [line.strip() for line in lines]


def check_classes(train: Sequence[str], val: Sequence[str], where: str) -> None:
    """Refuse validation classes that differ from the training classes in more than the Unicode form."""
    known, found = set(map(composed, train)), set(map(composed, val))
    if known == found:
        return
    parts = [f"lacks {some(sorted(known - found))}"] if known - found else []
    parts += [f"has {some(sorted(found - known))}, unknown to train"] if found - known else []
    raise InputError(f"the classes of {where} are not those of the training folder: it {' and '.join(parts)}")


def folder_names(folder: Path) -> set[str]:
    """List the folders in ``folder``, without hidden ones; raise an InputError for a broken link."""
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                names.add(entry.name)
            elif entry.is_symlink() and not Path(entry).exists() and not is_image(entry.name):
                # A broken link with an image's name is reported with the unreadable images.
                raise InputError(f"{printable(entry.path)} is a broken link: repair or remove it")
    return names


def images_in(root: Path, below: str) -> Found:
    """List the images in a folder, without hidden files.

    Folders and broken links with an image's name are listed too; the scan finds them unreadable.
    """
    found = []
    with os.scandir(root / below) as entries:
        for entry in entries:
            if is_image(entry.name) and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except OSError:
                    status = entry.stat(follow_symlinks=False)
                found.append((f"{below}/{entry.name}", status.st_size, status.st_mtime_ns))
    return sorted(found)


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def composed(name: str) -> str:
    """Return ``name`` in Unicode's composed form: file systems store ``ü`` as one character or as two."""
    return unicodedata.normalize("NFC", name)


def stem(path: str) -> str:
    """Return the name of an image without its ending, which some lists of labels omit, in Unicode's composed form."""
    name = composed(path.rpartition("/")[2])
    return name.rpartition(".")[0] if is_image(name) else name


def some(names: Sequence[str]) -> str:
    """Return the first names, quoted and escaped, and the number of the others."""
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def listed(lines: Sequence[str], cache: Path | None, name: str) -> str:
    """Return the first lines and the number of the others, which are all in a file of ``cache`` if it is given."""
    text = "\n  ".join(lines[:SHOWN])
    if len(lines) <= SHOWN:
        return text
    text += f"\n  and {len(lines) - SHOWN:,} more"
    if cache is None:
        return text
    whole = "\n".join(lines) + "\n"
    path = cache / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.txt"
    with contextlib.suppress(OSError):  # otherwise writing says why it fails
        cache.mkdir(parents=True, exist_ok=True)
    write_atomically(path, whole)
    return f"{text}; all are listed in {path}"


def printable(name: str) -> str:
    """Escape the bytes of a file's name that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def readable(split: PhotoSplit, sizes: np.ndarray) -> PhotoSplit:
    """Keep the readable images; ``sizes`` (N, 2) are heights and widths, 0 for an unreadable image."""
    return replace(split, sizes=sizes).at(np.flatnonzero(sizes[:, 0]))


def take(split: PhotoSplit, count: int | None, key: str) -> PhotoSplit:
    """Take ``count`` images evenly from all classes, or all for None; raise an InputError about ``key`` if too few."""
    if not len(split):
        raise InputError(f"no image of {split.root / split.name} can be read")
    if count is None:
        return split
    if count > len(split):
        raise InputError(f"{key}={count} is more than the {len(split):,} images of the split {split.name}")
    return split.at(evenly(split.labels, count))


def evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the sorted positions of ``count`` images: the first of every class, then the second of every class, …"""
    by_class = np.argsort(labels, kind="stable")
    sorted_labels = labels[by_class]
    place = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    chosen = np.lexsort((sorted_labels, place))[:count]
    return np.sort(by_class[chosen])
