"""Pictures with the boxes of objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from repro.data.detection import Detections, Objects
from repro.data.imagenet.decode import Photo

LEAST_SIDE = 320
"""Pictures with a smaller shorter side are enlarged by a whole number, so that words are legible."""
COLOURS = (
    *((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (0, 128, 128), (240, 50, 230)),
    *((128, 0, 0), (128, 128, 0), (0, 0, 128), (170, 110, 40), (210, 245, 60), (70, 240, 240), (255, 225, 25)),
)
"""Colours of classes, from the first again after the last."""
KNOWN = (255, 255, 255)
"""Colour of the boxes of the objects that are there."""


def drawn(photo: Photo, found: Detections, classes: Sequence[str], known: Objects | None = None) -> Image.Image:
    """Draw detections, the highest score on top, with their classes and scores.

    Args:
        photo: The picture.
        classes: The names of the labels.
        known: The objects that are there, drawn below in white.
    """
    factor = max(1, -(-LEAST_SIDE // min(photo.height, photo.width)))
    pixels = photo.resized(photo.height, photo.width).permute(1, 2, 0).contiguous().cpu().numpy()
    image = Image.fromarray(pixels)
    image = image.resize((photo.width * factor, photo.height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    line = max(3, min(image.size) // 200)
    font = label_font(max(13, min(image.size) // 32))
    for box in [] if known is None else known.boxes * factor:
        draw.rectangle(box.tolist(), outline=KNOWN, width=line)
    order = np.argsort(found.scores, kind="stable").tolist()
    for number in order:
        draw.rectangle((found.boxes[number] * factor).tolist(), outline=colour(found.labels[number]), width=line)
    for number in order:
        words = f"{classes[found.labels[number]]} {found.scores[number]:.2f}"
        write_label(draw, words, found.boxes[number, :2] * factor, colour(found.labels[number]), font)
    return image


def colour(label: int) -> tuple[int, int, int]:
    return COLOURS[label % len(COLOURS)]


def write_label(
    draw: ImageDraw.ImageDraw,
    words: str,
    corner: np.ndarray,
    background: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write words above the upper left ``corner`` of a box, or inside where the picture ends."""
    width = round(font.getlength(words)) + 4
    height = sum(font.getmetrics())
    left = max(0, min(round(corner[0]), draw.im.size[0] - width))
    top = round(corner[1]) - height
    top = top if top >= 0 else round(corner[1])
    draw.rectangle((left, top, left + width, top + height), fill=background)
    red, green, blue = background
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    draw.text((left + 2, top), words, fill=(0, 0, 0) if is_light else (255, 255, 255), font=font)


def label_font(size: int) -> ImageFont.FreeTypeFont:
    """Load a font that has the letters of all European languages."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def above(found: Detections, threshold: float) -> Detections:
    """Return the detections with a score of at least ``threshold``, the highest first."""
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= threshold]
    return Detections(found.boxes[order], found.labels[order], found.scores[order])
