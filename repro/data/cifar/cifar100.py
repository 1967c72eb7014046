"""CIFAR-100 from its official archive, packed or unpacked."""

from __future__ import annotations

import functools
import hashlib
import pickle
import warnings
from pathlib import Path

import numpy as np

from repro.config.arguments import fetch_advice
from repro.data.cifar.arrays import Arrays, Official, read_members
from repro.data.cifar.sources import OfficialArchive, SourceFailedError, unwritable
from repro.errors import InputError
from repro.runtime.lock import one_at_a_time

ARCHIVE = "cifar-100-python.tar.gz"
BATCHES_DIR = "cifar-100-python"


def official() -> Official:
    from torchvision.datasets import CIFAR100  # a slow import, seconds

    return Official(CIFAR100.url, CIFAR100.tgz_md5, dict(CIFAR100.train_list + CIFAR100.test_list))


def advice(root: Path) -> str:
    return fetch_advice("cifar100", root)


def stored(root: Path) -> Path | None:
    """Return the copy in the data folder ``root`` or its folder cifar100, preferably unpacked; None without one."""
    places = (root / "cifar100", root)
    return next((p / name for name in (BATCHES_DIR, ARCHIVE) for p in places if (p / name).exists()), None)


def open_arrays(root: Path) -> Arrays:
    """Read the images and the fine labels of the stored copy, once per process.

    Raises:
        InputError: The copy is missing or damaged.
    """
    copy = stored(root)
    if copy is None:
        raise InputError(f"there is no CIFAR-100 in the data folder {root}: {advice(root)} downloads it")
    return _read(copy, root)


@functools.cache
def _read(copy: Path, root: Path) -> Arrays:
    arrays: Arrays = {}
    try:
        contents = None if copy.is_dir() else read_members(copy, BATCHES_DIR)
        for name, md5 in official().batches.items():
            content = (copy / name).read_bytes() if contents is None else contents[name]
            # Check the very bytes that are unpickled.
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                raise InputError(f"{copy}: its {name} is not the official one, the md5 differs: {remedy(copy, root)}")
            arrays |= _decoded(name, content)
    except (OSError, EOFError, KeyError) as error:
        raise InputError(f"{copy} cannot be read ({error}): {remedy(copy, root)}") from None
    return arrays


def _decoded(name: str, content: bytes) -> Arrays:
    with warnings.catch_warnings():
        # Python 2 pickled the batch with a form of dtype about which NumPy 2.4.0 to 2.4.4 warn.
        warnings.simplefilter("ignore")
        batch = pickle.loads(content, encoding="latin1")
    images = np.ascontiguousarray(batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return {f"{name}_images": images, f"{name}_labels": np.array(batch["fine_labels"], np.uint8)}


def remedy(copy: Path, root: Path) -> str:
    return f"delete it, and {advice(root)} downloads it again"


def fetch_cifar100(root: Path, source: OfficialArchive | None = None) -> Arrays:
    """Fetch CIFAR-100 into ``root`` unless it has a copy, and return its arrays.

    An existing copy is never changed. A partial download stays, and the next call resumes it.

    Raises:
        InputError: The archive cannot be fetched, the folder cannot be written, or the copy is damaged.
    """
    folder = root / "cifar100"
    source = source or OfficialArchive(known=official, file=ARCHIVE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / ".fetch.lock", f"fetching into {folder}"):
            if stored(root) is None:
                downloads = folder / "download"
                downloads.mkdir(exist_ok=True)
                source.get(downloads).replace(folder / ARCHIVE)
                downloads.rmdir()
    except SourceFailedError as error:
        raise InputError(
            f"CIFAR-100 could not be fetched: {error}. "
            f"Put a copy ({ARCHIVE} or its unpacked {BATCHES_DIR}) into {folder}"
        ) from error
    except OSError as error:
        raise unwritable(root, error) from error
    return open_arrays(root)
