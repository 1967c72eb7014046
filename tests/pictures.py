"""Folders of small images: noise around the colour of the class, in several shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ((40, 56), (64, 48), (40, 56), (52, 52))
"""Heights and widths."""


def draw(path: Path, label: int, number: int, shape: tuple[int, int] | None = None) -> None:
    """Draw a JPEG, always the same for a label and number."""
    height, width = shape or SHAPES[number % len(SHAPES)]
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 120, (height, width, 3))
    pixels[..., label % 3] += 40 * (1 + label // 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG", quality=90)


def folder(root: Path, num_classes: int = 3, train: int = 4, val: int = 3) -> Path:
    """Write ``train`` and ``val`` images of each class."""
    for label in range(num_classes):
        for number in range(train):
            draw(root / "train" / f"n{label:08}" / f"{number}.JPEG", label, number)
        for number in range(val):
            draw(root / "val" / f"n{label:08}" / f"{number}.JPEG", label, 1000 + number)
    return root
