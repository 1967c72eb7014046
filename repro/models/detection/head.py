"""The region head: classes and boxes of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.models.detection.body import Top
from repro.models.detection.boxes import FIXED, UNNORMALIZED, BoxCoding, clip, overlaps, share_inside
from repro.models.detection.images import Targets
from repro.models.detection.roi_pool import pool_regions
from repro.models.detection.rpn import CROWD_SHARE
from repro.models.detection.sampling import ImageDraw, sampled


@dataclass(frozen=True)
class HeadSettings:
    """Settings of a region head, by default those of Fast R-CNN and of MSRA's release."""

    coding: BoxCoding = FIXED
    """Normalization of the codes (D55)."""
    pooling: Literal["pool", "align"] = "pool"
    foreground: float = 0.5
    """Least overlap with an object of a region that learns its class."""
    background: float = 0.1
    """Least overlap of a region that learns background; 0 for COCO in [32], section 4.2."""
    batch: int = 64
    """Regions of an image in the loss, at most a quarter of them of objects."""
    context: bool = False
    """Whether the feature of the whole image stands beside each region's (appendix B)."""


class RegionTargets(NamedTuple):
    """Regions in the loss of an image: boxes (K, 4), classes (K,) and the boxes of their objects (K, 4)."""

    boxes: Tensor
    labels: Tensor
    wanted: Tensor


class Regions(NamedTuple):
    """Probabilities (K, 1 + classes), background first, and a box for each class (K, 1 + classes, 4) of regions."""

    scores: Tensor
    boxes: Tensor


class RegionHead(nn.Module):
    """The classifier's top on pooled regions, and two sibling layers for classes and for a box of each class."""

    def __init__(
        self, top: Top, num_classes: int, settings: HeadSettings, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.top, self.settings, self.num_classes = top, settings, num_classes
        channels = top.channels * (2 if settings.context else 1)
        self.scores = nn.Linear(channels, num_classes + 1)
        self.codes = nn.Linear(channels, 4 * (num_classes + 1))
        # Fast R-CNN, section 2.3. The wider layers of a net with context are new as well (D61).
        for layer, std in ((self.scores, 0.01), (self.codes, 0.001)):
            nn.init.normal_(layer.weight, std=std, generator=generator)
            nn.init.zeros_(layer.bias)

    def features(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        boxes: Sequence[Tensor],
        draws: Sequence[ImageDraw] = (),
    ) -> Tensor:
        """Compute the features (K, D) of the ``boxes`` of images of ``sizes`` with ``maps`` (1, C, h, w).

        With context, the whole image is one more region, which goes through the same top.
        """
        if self.settings.context:
            whole = [b.new_tensor([[0, 0, width, height]]) for b, (height, width) in zip(boxes, sizes, strict=True)]
            boxes = [torch.cat([b, w]) for b, w in zip(boxes, whole, strict=True)]
        pooled = [
            pool_regions(features, b, self.top.size, self.settings.pooling)
            for features, b in zip(maps, boxes, strict=True)
        ]
        counts = [len(b) for b in boxes]
        x: Tensor = self.top(torch.cat(pooled), list(zip(draws, counts, strict=True)) if draws else ())
        if self.settings.context:
            pieces = x.split(counts)
            x = torch.cat([torch.cat([y[:-1], y[-1:].expand(len(y) - 1, -1)], 1) for y in pieces])
        return x

    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (K, 1 + classes) and codes (K, 1 + classes, 4) of regions' features (K, D)."""
        precise = self.scores.weight.dtype  # autocast computes in a lower one
        codes = self.codes(features).view(len(features), self.num_classes + 1, 4)
        return self.scores(features).to(precise), codes.to(precise)

    def losses(
        self,
        maps: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        regions: Sequence[RegionTargets],
        draws: Sequence[ImageDraw],
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses of classes and of boxes, summed over images and divided by ``settings.batch`` (D56)."""
        features = self.features(maps, sizes, [region.boxes for region in regions], draws)
        scores, codes = self.predict(features)
        boxes, labels, wanted = (torch.cat(values) for values in zip(*regions, strict=True))
        score_loss = F.cross_entropy(scores, labels, reduction="sum")
        positive = labels > 0
        own = codes[positive, labels[positive]]
        box_loss = F.smooth_l1_loss(
            own, self.settings.coding.encode(wanted[positive], boxes[positive]), reduction="sum"
        )
        return score_loss / self.settings.batch, box_loss / self.settings.batch

    def regions(self, features: Tensor, boxes: Tensor, size: tuple[int, int]) -> Regions:
        """Compute what is in ``boxes`` (K, 4) with ``features`` (K, D), in an image of ``size`` (height, width)."""
        scores, codes = self.predict(features)
        return Regions(scores.softmax(-1), clip(self.settings.coding.decode(codes, boxes[:, None]), size))


def region_targets(proposals: Tensor, objects: Targets, settings: HeadSettings, draw: ImageDraw) -> RegionTargets:
    """Draw the regions of an image for a training step, among its proposals (n, 4) and the boxes of its objects."""
    boxes = torch.cat([proposals, objects.boxes])
    labels, nearest = region_labels(boxes, objects, settings)
    used = sampled(labels, draw, "regions", settings.batch, settings.batch // 4)
    # Without objects, all regions are background, whose wanted boxes are not read.
    wanted = objects.boxes[nearest[used]] if len(objects.boxes) else boxes[used]
    return RegionTargets(boxes[used], labels[used], wanted)


def region_labels(boxes: Tensor, objects: Targets, settings: HeadSettings) -> tuple[Tensor, Tensor]:
    """Return classes (n,), 0 for background and -1 for neither, and positions (n,) of the nearest objects."""
    largest = boxes.new_zeros(len(boxes))
    nearest = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    if len(objects.boxes):
        largest, nearest = overlaps(boxes, objects.boxes).max(1)
    is_background = (largest >= settings.background) & (share_inside(boxes, objects.crowds) < CROWD_SHARE)
    labels = torch.where(is_background, 0, -1)
    if len(objects.boxes):
        labels = torch.where(largest >= settings.foreground, objects.labels[nearest], labels)
    return labels, nearest


def region_codes(proposals: Sequence[Tensor], objects: Sequence[Targets], settings: HeadSettings) -> Tensor:
    """Return the codes (n, 4), not normalized, of all proposals of objects, to measure the coding (D55)."""
    codes = []
    for boxes, known in zip(proposals, objects, strict=True):
        labels, nearest = region_labels(boxes, known, settings)
        codes.append(UNNORMALIZED.encode(known.boxes[nearest[labels > 0]], boxes[labels > 0]))
    return torch.cat(codes)
