"""Drawn images as files in ImageNet's layout."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from PIL import Image

from repro.data.detection.shapes import CLASSES, draw_image
from repro.errors import InputError

COUNTS = {"train": 300, "val": 100}


def draw_folder(cache: Path | None) -> Path:
    """Return the folder in ``cache`` with ``train/<class>`` and ``val/<class>``, drawn once, always the same images.

    The class of an image is that of its first shape. Files are uncompressed, so that their sizes depend on no library.

    Raises:
        InputError: There is no work folder for them.
    """
    if cache is None:
        raise InputError("data=shapes_photos is kept in the work folder, which this command does not use")
    folder = cache / "shapes_photos"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="shapes_photos-", dir=cache))
    for split, count in COUNTS.items():
        for number in range(count):
            pixels, known = draw_image(f"photos/{split}", number)
            below = made / split / CLASSES[known.labels[0]]
            below.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(below / f"{number:03}.bmp")
    try:
        made.replace(folder)
    except OSError:  # another process was faster
        shutil.rmtree(made)
    return folder
