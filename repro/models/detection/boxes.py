"""Coding, clipping, overlaps and non-maximum suppression of boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_area, clip_boxes_to_image
from torchvision.ops import box_iou as overlaps
from torchvision.ops import nms as suppress

__all__ = [
    "FIXED",
    "UNNORMALIZED",
    "BoxCoding",
    "clip",
    "is_inside",
    "is_large",
    "overlaps",
    "share_inside",
    "suppress",
]

LARGEST_LOG_RATIO = math.log(1000 / 16)
"""Limit of the logarithm of a decoded size to the size of its reference, against overflows early in training (D55)."""


@dataclass(frozen=True)
class BoxCoding:
    """Codes of boxes relative to reference boxes: the offset of the centre in units of the reference's size, and the
    logarithm of the ratio of sizes ([32], Eqn. 2), then normalized by ``mean`` and ``std`` (D55)."""

    mean: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def encode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """Return the codes (n, 4) of ``boxes`` (n, 4) relative to ``references`` (n, 4), both of positive sizes."""
        centres, sizes = _centres_and_sizes(boxes)
        reference_centres, reference_sizes = _centres_and_sizes(references)
        offsets = (centres - reference_centres) / reference_sizes
        codes = torch.cat([offsets, torch.log(sizes / reference_sizes)], -1)
        return (codes - codes.new_tensor(self.mean)) / codes.new_tensor(self.std)

    def decode(self, codes: Tensor, references: Tensor) -> Tensor:
        """Return the boxes (…, 4) of ``codes`` (…, 4) relative to ``references``, which broadcast."""
        codes = codes * codes.new_tensor(self.std) + codes.new_tensor(self.mean)
        reference_centres, reference_sizes = _centres_and_sizes(references)
        centres = codes[..., :2] * reference_sizes + reference_centres
        halves = codes[..., 2:].clamp(max=LARGEST_LOG_RATIO).exp() * reference_sizes / 2
        return torch.cat([centres - halves, centres + halves], -1)

    @classmethod
    def measured(cls, codes: Tensor) -> BoxCoding:
        """Return the coding that gives ``codes`` (n, 4), encoded without normalization, mean 0 and deviation 1."""
        deviations = codes.double().std(0, correction=0)
        # A single training box, or boxes that all have one width, leave nothing to normalize.
        std = torch.where(deviations > 1e-6, deviations, 1.0)
        mean_x, mean_y, mean_w, mean_h = codes.double().mean(0).tolist()
        std_x, std_y, std_w, std_h = std.tolist()
        return cls((mean_x, mean_y, mean_w, mean_h), (std_x, std_y, std_w, std_h))


UNNORMALIZED = BoxCoding()
FIXED = BoxCoding(std=(0.1, 0.1, 0.2, 0.2))
"""The constants that later releases use for region heads instead of measured values."""


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sizes / 2, sizes


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``boxes`` (…, 4) cut to an image of ``size`` (height, width)."""
    clipped: Tensor = clip_boxes_to_image(boxes, size)
    return clipped


def is_inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return True (n,) for boxes that lie within an image of ``size`` (height, width)."""
    height, width = size
    return (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)


def is_large(boxes: Tensor, least_side: float) -> Tensor:
    """Return True (n,) for boxes of which neither side is shorter than ``least_side``, nor 0."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides >= least_side) & (sides > 0)).all(1)


def share_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Return the largest share (n,) of the area of each of ``boxes`` (n, 4) that one of ``regions`` (m, 4) covers."""
    if not len(regions):
        return boxes.new_zeros(len(boxes))
    corners = torch.maximum(boxes[:, None, :2], regions[:, :2]), torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    common = (corners[1] - corners[0]).clamp(min=0).prod(-1)
    area: Tensor = box_area(boxes)
    return (common / area.clamp(min=1e-9)[:, None]).amax(1)
