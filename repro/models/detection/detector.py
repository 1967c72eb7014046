"""Faster R-CNN: a body, a region proposal network and a region head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchvision.models import VGG

from repro.models.detection.body import Body, Fixed, cut
from repro.models.detection.head import HeadSettings, RegionHead, region_targets
from repro.models.detection.images import ScaledImage, Targets, by_shape
from repro.models.detection.rpn import RPN, TRAINING, Limits, Proposals, RPNSettings
from repro.models.detection.sampling import ImageDraw
from repro.models.resnet import ImageNetResNet


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of a detector."""

    rpn: RPNSettings = field(default_factory=RPNSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    size: int = 14
    """Side of pooled regions (D52); always 7 on VGG-16."""
    top_stride: int = 2
    """Stride of conv5_x on regions (D52)."""
    fixed: Fixed = "none"
    """Last group of layers of the body that is not trained (D53)."""


class Detector(nn.Module):
    """A detector on the body of a classification net.

    Losses are sums over images of values that depend on the image alone, so that batches add up however ranks share
    them. Divide by the number of images of all ranks.
    """

    def __init__(
        self,
        net: ImageNetResNet | VGG,
        num_classes: int,
        settings: DetectorSettings,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        body, top = cut(net, settings.size, settings.top_stride)
        self.settings = settings
        self.body: Body = body
        self.rpn = RPN(body.channels, settings.rpn, generator)
        self.head = RegionHead(top, num_classes, settings.head, generator)

    def maps(self, images: Sequence[ScaledImage]) -> list[Tensor]:
        """Compute the body's map (1, C, h, w) of each image."""
        return by_shape(self.body, [image.pixels for image in images])

    def rpn_losses(
        self,
        maps: Sequence[Tensor],
        images: Sequence[ScaledImage],
        objects: Sequence[Targets],
        draws: Sequence[ImageDraw],
    ) -> dict[str, Tensor]:
        """Compute the losses of the region proposal network (steps 1 and 3)."""
        each = [
            self.rpn.losses(features, image.size, known, draw)
            for features, image, known, draw in zip(maps, images, objects, draws, strict=True)
        ]
        scores, boxes = zip(*each, strict=True)
        return {"rpn_scores": torch.stack(scores).sum(), "rpn_boxes": torch.stack(boxes).sum()}

    def head_losses(
        self,
        maps: Sequence[Tensor],
        images: Sequence[ScaledImage],
        proposals: Sequence[Tensor],
        objects: Sequence[Targets],
        draws: Sequence[ImageDraw],
    ) -> dict[str, Tensor]:
        """Compute the losses of the region head on ``proposals`` (n, 4) of each image (steps 2 and 4)."""
        regions = [
            region_targets(boxes, known, self.settings.head, draw)
            for boxes, known, draw in zip(proposals, objects, draws, strict=True)
        ]
        scores, boxes = self.head.losses(maps, [image.size for image in images], regions, draws)
        return {"head_scores": scores, "head_boxes": boxes}

    def losses(
        self,
        images: Sequence[ScaledImage],
        objects: Sequence[Targets],
        draws: Sequence[ImageDraw],
        limits: Limits = TRAINING,
    ) -> dict[str, Tensor]:
        """Compute all losses of joint training, in which proposals count as constants."""
        maps = self.maps(images)
        proposals = [found.boxes for found in self.propose(maps, images, limits)]
        return self.rpn_losses(maps, images, objects, draws) | self.head_losses(maps, images, proposals, objects, draws)

    def propose(self, maps: Sequence[Tensor], images: Sequence[ScaledImage], limits: Limits) -> list[Proposals]:
        """Propose boxes of each image, in its own pixels."""
        return [
            self.rpn.proposals(features, image.size, image.scale, limits)
            for features, image in zip(maps, images, strict=True)
        ]
