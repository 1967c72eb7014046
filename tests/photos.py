"""Small folders of images in the layouts of ImageNet and Tiny ImageNet, and odd files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from repro.config.run import DataConfig
from tests import tiny_cifar10

CLASSES = ("n01440764", "n01443537", "n02105855")


def config(name: str = "imagenet", **changes: object) -> DataConfig:
    """Return a configuration for small crops of a folder with a part of the set."""
    photos = {"pad": 0, "resize": (36, 48), "eval_resize": 40, "colour": "pca", "partial": True}
    return tiny_cifar10.config(name, **{**photos, **changes})


def picture(seed: int, height: int | None = None, width: int | None = None) -> Image.Image:
    """Draw a smooth picture, by default of random size; its colours correlate, as in real images."""
    random = np.random.default_rng(seed)
    height = height or int(random.integers(40, 80))
    width = width or int(random.integers(40, 80))
    grey = random.integers(0, 256, (5, 5, 1))
    coarse = (0.7 * grey + 0.3 * random.integers(0, 256, (5, 5, 3))).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, "JPEG", quality=90)
    return path


def make_train(folder: Path, below: str, classes: tuple[str, ...], count: int) -> None:
    for label, name in enumerate(classes):
        for i in range(count):
            write(folder / "train" / name / below / f"{name}_{i}.JPEG", 1000 * label + i)


def make_imagenet(
    folder: Path, train: int = 6, val: int = 2, flat: bool = False, classes: tuple[str, ...] = CLASSES
) -> Path:
    """Write ``train/<class>/*.JPEG`` and ``val`` likewise, or ``flat`` with ``val/labels.txt``: so many images per
    class."""
    make_train(folder, ".", classes, train)
    lines = []
    for i in range(val * len(classes)):
        # Classes alternate, so that the order of the names is not that of the labels.
        wnid = classes[i % len(classes)]
        name = f"ILSVRC2012_val_{i + 1:08d}.JPEG"
        write(folder / "val" / ("." if flat else wnid) / name, 500_000 + i)
        lines.append(f"{name} {wnid}\n")
    if flat:
        (folder / "val" / "labels.txt").write_text("".join(lines))
    return folder


def make_tiny(folder: Path, train: int = 6, val: int = 2, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write ``train/<class>/images/*.JPEG``, and ``val/images`` with ``val_annotations.txt``."""
    make_train(folder, "images", classes, train)
    lines = []
    for i in range(val * len(classes)):
        write(folder / "val" / "images" / f"val_{i}.JPEG", 500_000 + i)
        lines.append(f"val_{i}.JPEG\t{classes[i % len(classes)]}\t0\t0\t40\t40\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    for name in classes:
        (folder / "train" / name / f"{name}_boxes.txt").write_text("no image\n")
    return folder


def truncate(path: Path) -> Path:
    """Keep only the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
