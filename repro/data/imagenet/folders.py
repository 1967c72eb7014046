"""Photographs in folders: which files there are, their classes, and whether it is the whole set. Nothing is decoded.

``train/<class>/*.JPEG`` (or ``train/<class>/images/*.JPEG``), and ``val`` likewise or flat (``val/*.JPEG`` or
``val/images/*.JPEG``) with a file of labels. Labels count the sorted names of the class folders.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from repro.config.run import DataConfig
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


def find_val(data: DataConfig, root: Path) -> Listing:
    """List the validation images below ``root`` without a look at training images, all checked but for their content.

    Classes count the sorted names of the folders in ``train`` where there is one, else of those in ``val``, or of the
    file of labels.

    Raises:
        InputError: There is no folder ``val``, its labels do not agree, or it is not the whole set and
            ``data.partial`` does not allow that.
    """
    folder = next((root / below for below in FOLDERS[data.name] if (root / below / "val").is_dir()), None)
    if folder is None:
        raise InputError(f"{root} holds no folder val: set paths.data to your copy of {data.name}")
    try:
        val = list_val(folder, root, class_names(folder, root))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    there, (num_classes, _, num_images) = (len(val.classes), len(val)), WHOLE[data.name]
    if there != (num_classes, num_images) and not data.partial:
        raise InputError(
            f"{folder / 'val'} is not the whole of {data.name}: it has {there[1]:,} images of {there[0]:,} classes, "
            f"not {num_images:,} of {num_classes:,}; data.partial=true tests on what is there"
        )
    return val


def class_names(folder: Path, root: Path) -> list[str]:
    if (folder / "train").is_dir():
        return sorted(folder_names(folder / "train"), key=composed)
    inside = folder_names(folder / "val") - {"images"}
    return sorted(inside or set(read_labels(folder, root)[1].values()), key=composed)


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
    classes = sorted(folder_names(root / split), key=composed)
    if not classes:
        raise InputError(f"{root / split} holds no class folders: unpack it as {split}/<class>/*.JPEG")
    forms = Counter(map(composed, classes))
    if alike := [name for name in classes if forms[composed(name)] > 1]:
        raise InputError(f"{root / split} has class folders of one name in two Unicode forms, join them: {some(alike)}")
    found = [images_of_class(root, f"{split}/{name}") for name in classes]
    empty = [str(root / split / name) for name, images in zip(classes, found, strict=True) if not images]
    if empty:
        raise InputError(f"{plural(len(empty), 'class folder has', 'class folders have')} no images: {some(empty)}")
    labels = [label for label, images in enumerate(found) for _ in images]
    return listing(root, split, [image for images in found for image in images], labels, classes)


def list_val(root: Path, given: Path, classes: Sequence[str]) -> Listing:
    """The validation images, in class folders or flat with a file of labels in ``val``, ``root`` or ``given``."""
    inside = {name for name in folder_names(root / "val") if name in classes or not is_image(name)}
    number = {composed(name): label for label, name in enumerate(classes)}
    if inside - {"images"}:
        val = list_classes(root, "val")
        check_classes(classes, val.classes, str(root / "val"))
        # Sorted alike, so that a label is the same class, in whichever Unicode form its folder is written.
        return replace(val, classes=tuple(classes))
    below = "val/images" if inside else "val"
    found = images_in(root, below)
    if not found:
        raise InputError(f"{root / below} holds no images")
    path, wnids = read_labels(root, given)
    check_classes(classes, sorted(set(wnids.values())), str(path))
    stems = [stem(name) for name, _ in found]
    unlabelled = [name for name, key in zip((name for name, _ in found), stems, strict=True) if key not in wnids]
    if unlabelled:
        # Bytes that are not UTF-8 are kept as they are, since names of files can be such bytes too.
        encoding = "" if all(map(is_text, wnids)) else ", and is not in UTF-8: save it as UTF-8"
        images = plural(len(unlabelled), "image", "images")
        raise InputError(f"{path} has no label for {images}{encoding}: {some(unlabelled)}")
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
    for row, line in enumerate(label_lines(path), start=1):
        if not line:
            continue
        words = [word.strip() for word in line.split("\t" if "\t" in line else None)]
        if len(words) < 2:
            raise InputError(f"{path}, line {row}: {line!r} is not the name of an image and of its class")
        if wnids.setdefault(stem(words[0]), wnid := composed(words[1])) != wnid:
            raise InputError(f"{path}, line {row}: {words[0]!r} has two labels")
    return path, wnids


MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: its mark begins with the one of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte-order marks and the encodings that they stand for."""


def label_lines(path: Path) -> list[str]:
    """Read the lines of a file of labels, stripped; of a CSV file its first two columns, without their names.

    Raises:
        InputError: Its encoding is not clear.
    """
    content = path.read_bytes()
    encoding = next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), None)
    unclear = InputError(f"{path} is neither UTF-8 nor text with a byte-order mark: save it as UTF-8")
    if encoding is None and b"\0" in content:
        raise unclear
    try:
        text = content.decode(encoding or "utf-8", "strict" if encoding else "surrogateescape")
    except UnicodeDecodeError:
        raise unclear from None
    # A mark stands at the start, and in the middle where files were put together.
    lines = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if path.suffix == ".csv":
        lines = ["", *(" ".join(cells[:2]) for cells in list(csv.reader(lines))[1:])]
    return [line.strip() for line in lines]


def check_classes(train: Sequence[str], val: Sequence[str], where: str) -> None:
    """
    Raises:
        InputError: ``val`` lacks a class of ``train`` or has another one, whatever Unicode form names are in.
    """
    train_forms, val_forms = set(map(composed, train)), set(map(composed, val))
    missing = sorted(name for name in train if composed(name) not in val_forms)
    unknown = sorted(name for name in val if composed(name) not in train_forms)
    parts = [f"lacks {some(missing)}"] * bool(missing) + [f"has {some(unknown)}, unknown to train"] * bool(unknown)
    if parts:
        raise InputError(f"the classes of {where} are not those of the training folder: it {' and '.join(parts)}")


def composed(name: str) -> str:
    """Return ``name`` in Unicode's composed form: file systems keep ``ü`` as one character or as two."""
    return unicodedata.normalize("NFC", name)


# --- the file system ----------------------------------------------------------------------------------------------


def folder_names(folder: Path) -> set[str]:
    """List the folders in ``folder``, without hidden ones.

    Raises:
        InputError: One may be missing: a link leads nowhere.
    """
    names = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if stat.S_ISDIR(entry.stat().st_mode):
                    names.add(entry.name)
            except OSError as error:
                if not is_image(entry.name):  # those are reported with the images that cannot be read
                    raise InputError(
                        f"{printable(entry.path)} is a link that leads nowhere ({error.strerror}): mend or remove it"
                    ) from None
    return names


def images_in(root: Path, below: str) -> Found:
    """List the images in one folder, sorted by name. Hidden files are no images, whatever their ending.

    What only has an image's name (a folder, a link that leads nowhere) is listed too: the pass over all images finds
    that it cannot be read, and nothing is left out without a word.
    """
    found = []
    with os.scandir(root / below) as entries:
        for entry in entries:
            if is_image(entry.name) and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except OSError:
                    status = entry.stat(follow_symlinks=False)
                found.append((f"{below}/{entry.name}", status))
    return sorted(found, key=lambda image: image[0])


def is_image(name: str) -> bool:
    """Tell by its ending whether a file is meant to be an image."""
    return name.lower().endswith(SUFFIXES)


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
    """The name of an image without its ending, which lists of labels have or not, in one Unicode form."""
    name = composed(path.rpartition("/")[2])
    return name.rpartition(".")[0] if is_image(name) else name


def some(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are; what cannot be seen in them is shown as escapes."""
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_text(name: str) -> bool:
    """Tell whether a name has no bytes that are not UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


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
