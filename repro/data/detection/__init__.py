"""Images with boxes of objects, and the boxes that a detector finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    ``boxes`` (n, 4) float64 are corners x0, y0, x1, y1 in pixels, from 0 at the left and upper edges of the image to
    its width and height: a box of PASCAL VOC, whose pixels count from 1 and which includes its last ones, is (xmin - 1,
    ymin - 1, xmax, ymax). Areas and overlaps of such boxes need no "+ 1". ``labels`` (n,) int64 are positions in the
    classes of the split, without background. ``difficult`` (n,) bool is VOC's and ``crowd`` (n,) bool COCO's mark.
    ``areas`` (n,) float64 are those of COCO's outlines, by which it calls objects small, medium or large; None if they
    are the boxes' own.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DetectionSplit:
    """Images of a detection set: ``files`` below ``root``, with ``sizes`` (N, 2), heights and widths, and ``objects``.

    ``ids`` name the images in the files of the set's evaluation: "000005" of VOC, "42" of COCO. ``categories`` are the
    numbers of the ``classes`` in COCO's files, with gaps; empty for VOC.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    ids: tuple[str, ...]
    sizes: np.ndarray
    objects: tuple[Objects, ...]
    classes: tuple[str, ...]
    categories: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Detections:
    """The findings of a detector in one image: ``boxes`` (n, 4) and ``labels`` (n,) as of ``Objects``, and
    ``scores`` (n,) float64."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)
