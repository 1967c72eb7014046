"""SVHN, the cropped digits, from its official files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from repro.config.arguments import fetch_advice
from repro.data.cifar.arrays import Arrays, Official
from repro.data.cifar.sources import OfficialArchive, SourceFailedError, unwritable
from repro.errors import InputError
from repro.runtime.lock import one_at_a_time

SPLITS = {"train": ("train", "extra"), "test": ("test",)}
"""The files of each split: the papers train on all 604,388 images outside the test set (deviation D49)."""


def official() -> Mapping[str, tuple[str, Official]]:
    """Return the name, address and md5 of each file."""
    from torchvision.datasets import SVHN  # here only: it takes seconds

    return {part: (file, Official(url, md5, {})) for part, (url, file, md5) in SVHN.split_list.items()}


def advice(root: Path) -> str:
    return fetch_advice("svhn", root)


def stored(root: Path) -> dict[str, Path]:
    """Return the files in the data folder ``root`` or in its folder svhn, by part; without those that are missing."""
    places = (root / "svhn", root)
    found = {part: next((p / file for p in places if (p / file).is_file()), None) for part, file in _files().items()}
    return {part: path for part, path in found.items() if path is not None}


def _files() -> dict[str, str]:
    return {part: file for part, (file, _) in official().items()}


def open_arrays(root: Path) -> Arrays:
    """Read the images (N, 32, 32, 3) and labels (N,) of both splits, once in a process.

    Raises:
        InputError: A file is missing, or it is damaged; the message says how to get one.
    """
    there = stored(root)
    missing = [file for part, file in _files().items() if part not in there]
    if len(missing) == len(_files()):
        raise InputError(f"there is no SVHN in the data folder {root}: {advice(root)} puts it there (1.7 GB)")
    if missing:
        raise InputError(f"{missing[0]} is missing in the data folder {root}: {advice(root)} fetches it")
    return _read(tuple(there.items()), root)


@functools.cache
def _read(files: tuple[tuple[str, Path], ...], root: Path) -> Arrays:
    there = dict(files)
    arrays: Arrays = {}
    for split, parts in SPLITS.items():
        sizes = [_checked(part, there[part], root) for part in parts]
        images = np.empty((sum(sizes), 32, 32, 3), np.uint8)
        labels, start = [], 0
        for part, size in zip(parts, sizes, strict=True):
            pixels, digits = _decoded(there[part])
            images[start : start + size] = pixels.transpose(3, 0, 1, 2)
            labels.append(digits)
            start += size
        arrays |= {f"{split}_images": images, f"{split}_labels": np.concatenate(labels)}
    return arrays


def _checked(part: str, path: Path, root: Path) -> int:
    """Return the number of images in a file whose md5 is the official one."""
    from scipy.io import whosmat

    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {remedy(root)}") from None
    if digest != _official(part).md5:
        raise InputError(f"{path} is not the official file, the md5 differs: {remedy(root)}")
    return int(next(shape[-1] for name, shape, _ in whosmat(path) if name == "X"))


def _decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (32, 32, 3, N) and the digits (N,) of a file, where 10 stands for 0."""
    from scipy.io import loadmat

    values = loadmat(path)
    return values["X"], (values["y"].reshape(-1) % 10).astype(np.uint8)


def _official(part: str) -> Official:
    return official()[part][1]


def remedy(root: Path) -> str:
    return f"delete it, and {advice(root)} fetches it anew"


def fetch_svhn(root: Path, sources: Mapping[str, OfficialArchive] | None = None) -> Arrays:
    """Make sure that ``root`` holds SVHN, and return its arrays.

    Files that are there are left alone, whatever they are. What was downloaded in part stays, to resume from.

    Raises:
        InputError: A file cannot be fetched, the folder cannot be written, or a file is damaged.
    """
    folder = root / "svhn"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / ".fetch.lock", f"fetching into {folder}"):
            for part in sorted(official().keys() - stored(root).keys()):
                file, known = _files()[part], functools.partial(_official, part)
                source = (sources or {}).get(part) or OfficialArchive(known=known, file=file)
                downloads = folder / "download"
                downloads.mkdir(exist_ok=True)
                source.get(downloads).replace(folder / file)
                downloads.rmdir()
    except SourceFailedError as error:
        names = ", ".join(_files().values())
        raise InputError(f"SVHN could not be fetched: {error}. Put its files ({names}) into {folder}") from error
    except OSError as error:
        raise unwritable(root, error) from error
    return open_arrays(root)
