"""Images of drawn shapes with their boxes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repro.data.detection import DetectionSplit, Objects

CLASSES = ("disc", "frame", "cross")
SIZES = ((96, 128), (128, 96), (96, 96), (96, 112))
"""Heights and widths, by turns."""
MOST_TRIES = 100


@dataclass(frozen=True)
class DrawnSplit(DetectionSplit):
    """Drawn images (H, W, 3) uint8 in the memory of the process, in place of files."""

    images: tuple[np.ndarray, ...] = ()


def draw_split(name: str, count: int) -> DrawnSplit:
    """Draw ``count`` images, always the same for a name."""
    drawn = [draw_image(name, number) for number in range(count)]
    images, objects = tuple(image for image, _ in drawn), tuple(known for _, known in drawn)
    sizes = np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2)
    ids = tuple(str(number) for number in range(count))
    files = tuple(f"{name}/{number}" for number in range(count))
    return DrawnSplit(name, Path(), files, ids, sizes, objects, CLASSES, (), images)


def draw_image(name: str, number: int) -> tuple[np.ndarray, Objects]:
    """Draw an image of up to three shapes that do not overlap, on noise."""
    seed = hashlib.sha256(f"shapes/{name}/{number}".encode()).digest()[:8]
    generator = np.random.default_rng(int.from_bytes(seed, "big"))
    height, width = SIZES[number % len(SIZES)]
    image = generator.integers(96, 160, (height, width, 3))
    boxes: list[list[int]] = []
    labels: list[int] = []
    wanted = int(generator.integers(1, 4))
    for _ in range(MOST_TRIES):
        if len(boxes) == wanted:
            break
        side = int(generator.integers(min(height, width) // 4, min(height, width) // 2))
        x0, y0 = int(generator.integers(0, width - side + 1)), int(generator.integers(0, height - side + 1))
        if any(x0 < b[2] and b[0] < x0 + side and y0 < b[3] and b[1] < y0 + side for b in boxes):
            continue
        label = int(generator.integers(len(CLASSES)))
        colour = generator.integers(0, 64, 3) + 192 * generator.integers(0, 2, 3)
        image[y0 : y0 + side, x0 : x0 + side][shape_of(label, side)] = colour
        boxes.append([x0, y0, x0 + side, y0 + side])
        labels.append(label)
    none = np.zeros(len(labels), bool)
    return image.astype(np.uint8), Objects(np.array(boxes, np.float64), np.array(labels, np.int64), none, none)


def shape_of(label: int, side: int) -> np.ndarray:
    """Return True (side, side) for the pixels of a shape."""
    down, right = np.abs((np.mgrid[:side, :side] + 0.5) / side - 0.5)
    far, near = np.maximum(down, right), np.minimum(down, right)
    shapes: tuple[np.ndarray, ...] = (down**2 + right**2 < 0.25, far > 0.3, near < 0.15)
    return shapes[label]


def digest_of(split: DrawnSplit) -> str:
    """Return the SHA-256 of all pixels and boxes."""
    found = hashlib.sha256()
    for image, known in zip(split.images, split.objects, strict=True):
        for values in (image, known.boxes, known.labels):
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()
