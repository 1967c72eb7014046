"""CIFAR-10 as lossless WebP pictures, in parts of similar size.

A picture is a stack of images, 32 pixels wide. The labels are in the last part.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data.cifar import arrays as cifar10

SPLITS = ("train", "test")
IMAGES_IN_PICTURE = 511
"""The most images of 32 rows in the 16,383 rows of a WebP picture."""


def pack(source: Path, parts: Sequence[Path], images_in_picture: int = IMAGES_IN_PICTURE) -> None:
    """Write the four arrays in the folder ``source`` into the folders ``parts``, which are created if needed."""
    pictures = []
    for split in SPLITS:
        images = np.load(source / f"{split}_images.npy", mmap_mode="r")
        for first in range(0, len(images), images_in_picture):
            pictures.append((f"{split}_{first:05d}.webp", images[first : first + images_in_picture]))
    for part in parts:
        part.mkdir(parents=True, exist_ok=True)
    for number, (name, images) in enumerate(pictures):
        part = parts[number * len(parts) // len(pictures)]
        picture = Image.fromarray(np.ascontiguousarray(images).reshape(-1, 32, 3))
        picture.save(part / name, "WEBP", lossless=True, quality=60, method=6)
    for split in SPLITS:
        np.save(parts[-1] / f"{split}_labels.npy", np.load(source / f"{split}_labels.npy"))


def unpack(parts: Sequence[Path], root: Path) -> None:
    """Store the arrays in the data folder ``root`` and check their digests.

    Raises:
        InputError: An array is not that of CIFAR-10.
    """
    found = {}
    for split in SPLITS:
        pictures = sorted((path for part in parts for path in part.glob(f"{split}_*.webp")), key=lambda path: path.name)
        found[f"{split}_images"] = np.concatenate([read(path) for path in pictures])
        found[f"{split}_labels"] = np.load(parts[-1] / f"{split}_labels.npy")
    cifar10.folder(root).mkdir(parents=True, exist_ok=True)
    cifar10.store(root, found)
    cifar10.verify_cifar10(root)


def read(path: Path) -> np.ndarray:
    """Read the images of a picture, as uint8 (N, 32, 32, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)


def main(action: str, *words: str) -> None:
    """Run ``pack ARRAYS PART…`` or ``unpack PART… ROOT``."""
    folders = [Path(word) for word in words]
    if action == "pack":
        pack(folders[0], folders[1:])
    else:
        unpack(folders[:-1], folders[-1])
        print("CIFAR-10 is whole")


if __name__ == "__main__":
    main(*sys.argv[1:])
