"""Training crops with the boxes in them, and views of test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.augment import PixelStats
from repro.data.imagenet.decode import Photo, PillowPhoto, UnreadableError, crop, open_photo
from repro.data.imagenet.loader import PhotoFeed
from repro.data.localization import BoxedSplit, LocalizationDataset
from repro.errors import AloneError
from repro.runtime import distributed
from repro.runtime.device import num_workers


@dataclass(frozen=True)
class Crops:
    """This rank's images (B, 3, S, S) of a step, their classes (B,), the boxes (n, 4) in each, and their names."""

    images: Tensor
    classes: Tensor
    boxes: list[Tensor]
    names: list[str]


class DrawnFeed(PhotoFeed):
    """Crops of images in the memory of the process, drawn like those of files."""

    drawn_images: tuple[np.ndarray, ...] = ()

    def load(self, step: int) -> tuple[Tensor, ...]:
        draws = self.draws(step)
        images = [PillowPhoto(Image.fromarray(self.drawn_images[at])) for at in draws.order.tolist()]
        places = zip(*draws.place.tolist(), strict=True)
        choices = zip(images, draws.shorter_side.tolist(), places, draws.flip.tolist(), strict=True)
        crops = [crop(photo, side, self.config.image_size, place, flip) for photo, side, place, flip in choices]
        return torch.stack(crops), self._labels[draws.order], torch.zeros(len(crops), 3)


class LocalizationFeed:
    """Training batches, augmented as in classification (section 3.4); each depends on the seed and the step alone."""

    def __init__(self, config: RunConfig, dataset: LocalizationDataset, stats: PixelStats, like: Tensor) -> None:
        assert config.localization is not None
        self.split, self.stats, self.like = dataset.train, stats, like
        self.least_inside = config.localization.least_inside
        ranks, workers = (distributed.rank(), distributed.size()), num_workers(config.execution, like.device)
        kind = DrawnFeed if self.split.drawn else PhotoFeed
        what = (config.data, config.optim.batch_size, config.seed, like.device)
        self.crops = kind(self.split.photos, dataset.stats, *what, *ranks, workers)
        if isinstance(self.crops, DrawnFeed):
            self.crops.drawn_images = self.split.drawn
        self.crops.stats = stats

    def batch(self, step: int) -> Crops:
        """Return this rank's part of the batch of ``step``."""
        images, classes = self.crops.batch(step)
        draws, size = self.crops.draws(step), self.crops.config.image_size
        boxes = []
        choices = (draws.order, draws.shorter_side, *draws.place, draws.flip)
        for at, side, down, right, flip in zip(*(values.tolist() for values in choices), strict=True):
            height, width = resized(self.split.sizes[at], side)
            scale = np.tile([width, height] / self.split.sizes[at][::-1], 2)
            top, left = int(down * (height - size + 1)), int(right * (width - size + 1))
            moved = self.split.boxes[at] * scale - (left, top, left, top)
            boxes.append(torch.from_numpy(in_crop(moved, size, flip, self.least_inside)).to(self.like))
        names = [self.split.photos.files[at] for at in draws.order.tolist()]
        return Crops(images.to(self.like.dtype), classes, boxes, names)

    def close(self) -> None:
        self.crops.close()


def resized(size: np.ndarray, shorter_side: int) -> tuple[int, int]:
    """Return height and width of an image of ``size`` at a shorter side, as ``decode.resized_size``."""
    height, width = map(int, size)
    return shorter_side * height // min(height, width), shorter_side * width // min(height, width)


def in_crop(boxes: np.ndarray, size: int, flip: bool, least_inside: float) -> np.ndarray:
    """Cut boxes (n, 4) to a crop of ``size`` pixels, and keep those with ``least_inside`` of their area in it (D86)."""
    cut: np.ndarray = boxes.clip(0, size)
    areas, inside = ((own[:, 2:] - own[:, :2]).prod(1) for own in (boxes, cut))
    cut = cut[(inside > 0) & (inside >= least_inside * areas)]
    if flip:
        cut[:, 0], cut[:, 2] = size - cut[:, 2], size - cut[:, 0]
    return cut


def photo_of(split: BoxedSplit, position: int, decoder: str) -> Photo:
    """Return an image, decoded.

    Raises:
        AloneError: The file can no longer be read.
    """
    if split.drawn:
        return PillowPhoto(Image.fromarray(split.drawn[position]))
    try:
        return open_photo(split.photos.path(position), decoder)
    except UnreadableError as error:
        raise AloneError(f"the image {error.path} can no longer be read ({error})") from error


def centre(photo: Photo, shorter_side: int, size: int) -> tuple[Tensor, tuple[int, int]]:
    """Return the centre crop of the resized image, uint8 (3, size, size), and its left and upper edges there."""
    height, width = resized(np.array([photo.height, photo.width]), shorter_side)
    return crop(photo, shorter_side, size), (round((width - size) / 2), round((height - size) / 2))
