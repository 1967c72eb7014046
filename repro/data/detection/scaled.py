"""Scaled images with their objects, as detectors read them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from repro.data.augment import PixelStats
from repro.data.detection import DetectionSplit
from repro.data.detection.shapes import DrawnSplit
from repro.data.imagenet.decode import Photo, PillowPhoto, UnreadableError, open_photo
from repro.errors import AloneError
from repro.models.detection.images import ScaledImage, Targets, targets


def photo_of(split: DetectionSplit, position: int) -> PillowPhoto:
    """Return an image, decoded.

    Raises:
        AloneError: The file can no longer be read.
    """
    if isinstance(split, DrawnSplit):
        from PIL import Image

        return PillowPhoto(Image.fromarray(split.images[position]))
    path = split.root / split.files[position]
    try:
        photo = open_photo(path, "pillow")
    except UnreadableError as error:
        raise AloneError(f"the image {path} can no longer be read ({error})") from error
    assert isinstance(photo, PillowPhoto)
    return photo


def scale_of(height: int, width: int, shorter_side: int, longest_side: int) -> float:
    """Return the factor to ``shorter_side``, or a smaller one where the longer side would exceed its limit ([32])."""
    return min(shorter_side / min(height, width), longest_side / max(height, width))


def scaled_image(
    split: DetectionSplit,
    position: int,
    sides: tuple[int, int],
    stats: PixelStats,
    like: Tensor,
    flip: bool = False,
) -> ScaledImage:
    """Read an image of ``split`` and scale it as ``scaled_photo`` does."""
    return scaled_photo(photo_of(split, position), sides, stats, like, flip)


def scaled_photo(
    photo: Photo, sides: tuple[int, int], stats: PixelStats, like: Tensor, flip: bool = False
) -> ScaledImage:
    """Scale an image by ``scale_of`` and normalize it.

    Args:
        sides: The shorter side, and the limit of the longer one.
        like: A tensor of the wanted type and device.
        flip: Whether the image is flipped horizontally.
    """
    pixels, scale = resized_photo(photo, sides)
    return normalized((pixels.flip(-1) if flip else pixels).to(like.device), scale, stats, like)


def resized_photo(photo: Photo, sides: tuple[int, int]) -> tuple[Tensor, float]:
    """Scale an image by ``scale_of``; return its pixels (3, H, W) as uint8, and the factor."""
    scale = scale_of(photo.height, photo.width, *sides)
    return photo.resized(max(1, round(photo.height * scale)), max(1, round(photo.width * scale))), scale


def normalized(pixels: Tensor, scale: float, stats: PixelStats, like: Tensor) -> ScaledImage:
    """Normalize uint8 pixels (3, H, W) of an image ``scale`` times as large as the original."""
    return ScaledImage((pixels.to(like.dtype) / 255 - stats.mean.to(like)) / stats.std.to(like), scale)


def scaled_objects(split: DetectionSplit, position: int, scale: float, like: Tensor, flip: bool = False) -> Targets:
    """Return what is to be learned of the objects of an image that is scaled and, with ``flip``, flipped."""
    known, width = split.objects[position], float(split.sizes[position][1])
    boxes = flipped(known.boxes, width) if flip else known.boxes
    return targets(boxes, known.labels, known.difficult, known.crowd, scale, like)


def flipped(boxes: np.ndarray, width: float) -> np.ndarray:
    """Return boxes (n, 4) as they lie in the image of ``width``, flipped horizontally."""
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return mirrored


def channel_stats(split: DetectionSplit, positions: range, std: str) -> PixelStats:
    """Compute the mean of each channel over whole images, and the deviation with ``std=per_channel``."""
    sums, squares, count = np.zeros(3), np.zeros(3), 0
    for position in positions:
        photo = photo_of(split, position)
        pixels = photo.resized(photo.height, photo.width).numpy().reshape(3, -1) / 255
        sums, squares, count = sums + pixels.sum(1), squares + (pixels**2).sum(1), count + pixels.shape[1]
    mean = sums / count
    deviation = np.sqrt(squares / count - mean**2) if std == "per_channel" else np.ones(3)
    mean_values, std_values = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, deviation))
    return PixelStats(mean_values, std_values)


def square_crops(images: list[ScaledImage]) -> Tensor:
    """Cut the largest common square (N, 3, S, S) from the corners of images, to compute batch-norm statistics on."""
    side = min(min(image.size) for image in images)
    return torch.stack([image.pixels[:, :side, :side] for image in images])
