"""The region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.models.detection.anchors import RATIOS, VOC_SCALES, cell_anchors, grid_anchors
from repro.models.detection.boxes import (
    UNNORMALIZED,
    BoxCoding,
    clip,
    is_inside,
    is_large,
    overlaps,
    share_inside,
    suppress,
)
from repro.models.detection.images import Targets
from repro.models.detection.sampling import ImageDraw, sampled

CROWD_SHARE = 0.7
"""A box with this share of its area in a crowd is not background (D57)."""


@dataclass(frozen=True)
class RPNSettings:
    """Settings of a region proposal network, by default those of [32] and of MSRA's release."""

    scales: tuple[float, ...] = VOC_SCALES
    hidden: int | None = None
    """Filters of the 3x3 layer; None is as many as the body's map has (D54)."""
    coding: BoxCoding = UNNORMALIZED
    positive: float = 0.7
    """Least overlap of a positive anchor with an object."""
    negative: float = 0.3
    """Overlap below which an anchor is negative."""
    batch: int = 256
    """Anchors of an image in the loss, at most half of them positive."""
    box_norm: Literal["locations", "batch"] = "locations"
    """Divisor of the loss of boxes: a tenth of the map's positions, or ``batch`` (D56)."""
    suppression: float = 0.7
    """Overlap above which the lower-scored proposal is dropped."""
    least_side: float = 16.0
    """Least side of a proposal, in pixels of the original image."""


class Limits(NamedTuple):
    """Numbers of proposals of an image before and after suppression; None is all."""

    before: int | None
    after: int


TRAINING = Limits(None, 2000)
TESTING = Limits(6000, 300)


class Proposals(NamedTuple):
    """Boxes (n, 4) and scores (n,), the highest first."""

    boxes: Tensor
    scores: Tensor


class RPN(nn.Module):
    """A 3x3 convolution, then two-way softmax scores and class-agnostic boxes of the anchors of each position."""

    cell: Tensor

    def __init__(self, channels: int, settings: RPNSettings, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("cell", cell_anchors(settings.scales).float(), persistent=False)
        num_anchors = len(settings.scales) * len(RATIOS)
        hidden = settings.hidden or channels
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.scores = nn.Conv2d(hidden, 2 * num_anchors, 1)
        self.codes = nn.Conv2d(hidden, 4 * num_anchors, 1)
        for layer in (self.conv, self.scores, self.codes):
            nn.init.normal_(layer.weight, std=0.01, generator=generator)  # [32], section 3.1
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (N, A, 2), background first, and codes (N, A, 4) of all A anchors of maps (N, C, h, w)."""
        x = F.relu(self.conv(features))
        # In the precision of anchors, since autocast computes in a lower one.
        scores, codes = (layer(x).permute(0, 2, 3, 1).to(self.cell.dtype) for layer in (self.scores, self.codes))
        return scores.reshape(len(x), -1, 2), codes.reshape(len(x), -1, 4)

    def anchors(self, features: Tensor) -> Tensor:
        """Return the anchors (A, 4) of maps (N, C, h, w)."""
        return grid_anchors(self.cell, *features.shape[-2:])

    def losses(
        self, features: Tensor, size: tuple[int, int], objects: Targets, draw: ImageDraw
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses of scores and of boxes on the map (1, C, h, w) of an image of ``size`` (height, width).

        They are divided by fixed numbers, whatever anchors there are, so that images add up in any division among
        ranks.
        """
        settings = self.settings
        scores, codes = (output[0] for output in self(features))
        anchors = self.anchors(features)
        labels, nearest = anchor_labels(anchors, size, objects, settings)
        used = sampled(labels, draw, "anchors", settings.batch, settings.batch // 2)
        score_loss = F.cross_entropy(scores[used], labels[used], reduction="sum") / settings.batch
        positive = used & (labels > 0)
        wanted = settings.coding.encode(objects.boxes[nearest[positive]], anchors[positive])
        box_loss = F.smooth_l1_loss(codes[positive], wanted, reduction="sum")
        locations = features.shape[-2] * features.shape[-1]
        return score_loss, box_loss / (settings.batch if settings.box_norm == "batch" else locations / 10)

    @torch.no_grad()
    def proposals(
        self, features: Tensor, size: tuple[int, int], scale: float = 1.0, limits: Limits = TESTING
    ) -> Proposals:
        """Propose boxes on the map (1, C, h, w) of an image of ``size``, ``scale`` times as large as the original."""
        scores, codes = (output[0] for output in self(features))
        boxes = clip(self.settings.coding.decode(codes, self.anchors(features)), size)
        return proposed(boxes, scores.softmax(-1)[:, 1], scale, self.settings, limits)


def proposed(boxes: Tensor, scores: Tensor, scale: float, settings: RPNSettings, limits: Limits) -> Proposals:
    """Select proposals among ``boxes`` (A, 4), clipped to their image, with ``scores`` (A,)."""
    kept = is_large(boxes, settings.least_side * scale)
    boxes, scores = boxes[kept], scores[kept]
    # The sort is stable, unlike torch.topk: equal scores have one order on all devices.
    order = scores.argsort(descending=True, stable=True)[: limits.before]
    boxes, scores = boxes[order], scores[order]
    chosen = suppress(boxes, scores, settings.suppression)[: limits.after]
    return Proposals(boxes[chosen], scores[chosen])


def anchor_labels(
    anchors: Tensor, size: tuple[int, int], objects: Targets, settings: RPNSettings
) -> tuple[Tensor, Tensor]:
    """Return labels (A,), 1 of an object, 0 background and -1 neither, and positions (A,) of the nearest objects.

    An anchor is positive from ``settings.positive`` on and where no anchor has a larger overlap with one of the
    objects. Anchors that leave the image are ignored ([32], section 3.3).
    """
    inside = is_inside(anchors, size)
    labels = torch.where(inside & (share_inside(anchors, objects.crowds) < CROWD_SHARE), 0, -1)
    nearest = torch.zeros_like(labels)
    if len(objects.boxes):
        found = torch.where(inside[:, None], overlaps(anchors, objects.boxes), 0.0)
        largest, nearest = found.max(1)
        best = found.amax(0)
        # No anchor may overlap with a small object or one at the edge: then none is its best.
        is_best = ((found == best) & (best > 0)).any(1)
        labels = torch.where(largest >= settings.negative, -1, labels)
        labels = torch.where(is_best | (inside & (largest >= settings.positive)), 1, labels)
    return labels, nearest


def anchor_codes(
    rpn: RPN, shapes: Sequence[tuple[int, int]], sizes: Sequence[tuple[int, int]], objects: Sequence[Targets]
) -> Tensor:
    """Return the codes (n, 4), not normalized, of all positive anchors of images, to measure the coding (D55).

    ``shapes`` are heights and widths of the maps, ``sizes`` those of the images.
    """
    codes = []
    for (height, width), size, known in zip(shapes, sizes, objects, strict=True):
        anchors = grid_anchors(rpn.cell.to(known.boxes), height, width)
        labels, nearest = anchor_labels(anchors, size, known, rpn.settings)
        positive = labels > 0
        codes.append(UNNORMALIZED.encode(known.boxes[nearest[positive]], anchors[positive]))
    return torch.cat(codes)
