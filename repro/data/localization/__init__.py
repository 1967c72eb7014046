"""Images of one class each, with boxes of its objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from repro.data import PhotoSplit, PhotoStats


@dataclass(frozen=True)
class BoxedSplit:
    """Images of a classification set with at least one valid box, and their ``boxes`` (n, 4) float64.

    Boxes are those of the objects of the image's class: corners x0, y0, x1, y1 in pixels of the image, from 0 at its
    left and upper edges to its width and height, so that areas and overlaps need no "+ 1". ``left_out`` is the number
    of images without a valid box. ``drawn`` are images (H, W, 3) uint8 in the memory of the process, in place of files.
    """

    photos: PhotoSplit
    boxes: tuple[np.ndarray, ...]
    left_out: int = 0
    drawn: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def sizes(self) -> np.ndarray:
        """Heights and widths (N, 2) of the images."""
        assert self.photos.sizes is not None
        return self.photos.sizes

    def at(self, positions: Sequence[int] | np.ndarray) -> BoxedSplit:
        """Return the images at ``positions`` only."""
        chosen = np.asarray(positions, np.int64)
        boxes, drawn = (tuple(own[i] for i in chosen) for own in (self.boxes, self.drawn or self.boxes))
        return replace(self, photos=self.photos.at(chosen), boxes=boxes, drawn=drawn if self.drawn else ())

    def digest(self) -> str:
        """Return the SHA-256 of the list of images, with their boxes; of image files only names and sizes."""
        digest = hashlib.sha256(self.photos.digest().encode())
        for values in (*self.boxes, *self.drawn):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class LocalizationDataset:
    """Images with boxes for training and for the test, and the statistics of the training images' pixels.

    ``digests`` are the SHA-256 of each split's list. ``skipped`` are unreadable images, left out.
    """

    name: str
    train: BoxedSplit
    eval: BoxedSplit
    digests: dict[str, str]
    stats: PhotoStats
    skipped: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.eval.photos.classes)
