"""The per-class region proposal network for localization (appendix C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG

from repro.models.detection.anchors import RATIOS, cell_anchors, grid_anchors
from repro.models.detection.body import Body, cut
from repro.models.detection.boxes import UNNORMALIZED, clip, overlaps
from repro.models.detection.sampling import ImageDraw, sampled
from repro.models.resnet import ImageNetResNet

VOTE_OVERLAP = 0.5
"""As in the box voting of appendix B (D59)."""


@dataclass(frozen=True)
class LocalizerSettings:
    """Settings of a localizer; anchors as in [32], a quarter to the whole of a crop of 224 pixels (D84)."""

    scales: tuple[float, ...] = (4, 8, 14)
    width: int | None = None
    """Filters of the 3x3 layer; None is as many as the body's map has (D81)."""
    positive: float = 0.7
    negative: float = 0.3
    samples: int = 8
    """Anchors of an image in the loss, at most half of them positive (appendix C)."""
    vote: bool = True
    """Whether boxes that overlap the likeliest by a half are averaged with it (D88)."""


class Located(NamedTuple):
    """The likeliest box (N, k, 4) of each of k classes in N images, in their pixels, and its logit (N, k)."""

    boxes: Tensor
    scores: Tensor


class Localizer(nn.Module):
    """A body, a 3x3 layer, and sibling 1x1 layers with a logistic score and a box of each class for every anchor.

    Only outputs of classes that are asked for are computed: the rows of their weights are gathered for each image. So a
    thousand classes cost no more than one.
    """

    cell: Tensor

    def __init__(
        self,
        net: ImageNetResNet | VGG,
        num_classes: int,
        settings: LocalizerSettings,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.num_classes = settings, num_classes
        self.body: Body = cut(net)[0]
        self.register_buffer("cell", cell_anchors(settings.scales).float(), persistent=False)
        self.num_anchors = len(settings.scales) * len(RATIOS)
        width = settings.width or self.body.channels
        self.conv = nn.Conv2d(self.body.channels, width, 3, padding=1)
        # 1x1 convolutions are linear layers of each position.
        self.scores = nn.Linear(width, num_classes * self.num_anchors)
        self.codes = nn.Linear(width, num_classes * self.num_anchors * 4)
        for layer in (self.conv, self.scores, self.codes):
            nn.init.normal_(layer.weight, std=0.01, generator=generator)  # [32], section 3.1
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the logits (N, k, A), codes (N, k, A, 4) and the anchors (A, 4) of images (N, 3, H, W).

        Args:
            classes: k classes (N, k) of each image.
        """
        features = F.relu(self.conv(self.body(images)))
        anchors = grid_anchors(self.cell, *features.shape[-2:])
        x = features.flatten(2)
        # In the precision of anchors, since autocast computes in a lower one.
        scores = self._of(self.scores, 1, classes, x).to(anchors.dtype)[..., 0]
        return scores, self._of(self.codes, 4, classes, x).to(anchors.dtype), anchors

    def _of(self, layer: nn.Linear, values: int, classes: Tensor, x: Tensor) -> Tensor:
        """Compute the outputs (N, k, A, values) of a sibling layer on x (N, C, P), for ``classes`` alone."""
        (count, each), rows = classes.shape, self.num_anchors * values
        # An indexed read of a class that several images have would add up its gradients in any order, on a CPU too.
        chosen = classes.flatten()
        weight = layer.weight.view(self.num_classes, rows, -1).index_select(0, chosen).view(count, each * rows, -1)
        bias = layer.bias.view(self.num_classes, rows).index_select(0, chosen).view(count, each * rows)
        outputs = torch.baddbmm(bias[..., None], weight, x).view(count, each, self.num_anchors, values, -1)
        # Anchors of a position are together, row by row.
        return outputs.permute(0, 1, 4, 2, 3).reshape(count, each, -1, values)

    def losses(
        self, images: Tensor, classes: Tensor, boxes: Sequence[Tensor], draws: Sequence[ImageDraw]
    ) -> dict[str, Tensor]:
        """Compute the losses of scores and of boxes, sums over images; only outputs of their own classes learn (D83).

        Args:
            classes: The class (N,) of each image.
            boxes: The boxes (n, 4) of each image's class; an image without any has no loss.
        """
        scores, codes, anchors = self(images, classes[:, None])
        each = []
        for own_scores, own_codes, known, draw in zip(scores[:, 0], codes[:, 0], boxes, draws, strict=True):
            labels, nearest = anchor_labels(anchors, known, self.settings)
            samples = self.settings.samples
            used = sampled(labels, draw, "anchors", samples, samples // 2)
            wanted = labels[used].to(own_scores)
            score_loss = F.binary_cross_entropy_with_logits(own_scores[used], wanted, reduction="sum")
            positive = used & (labels > 0)
            targets = UNNORMALIZED.encode(known[nearest[positive]], anchors[positive])
            box_loss = F.smooth_l1_loss(own_codes[positive], targets, reduction="sum")
            each.append((score_loss / samples, box_loss / samples))
        of_scores, of_boxes = zip(*each, strict=True)
        return {"scores": torch.stack(of_scores).sum(), "boxes": torch.stack(of_boxes).sum()}

    def candidates(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (N, k, A) and boxes (N, k, A, 4) of ``classes`` (N, k) in images of one size."""
        scores, codes, anchors = self(images, classes)
        return scores, clip(UNNORMALIZED.decode(codes, anchors), (images.shape[-2], images.shape[-1]))


def likeliest(scores: Tensor, boxes: Tensor, *, vote: bool) -> Located:
    """Return the box of the highest of scores (N, k, A), or the mean of ``boxes`` (N, k, A, 4) near it (D88)."""
    best, anchor = scores.max(-1)
    found = boxes.gather(2, anchor[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    if vote:
        each = zip(found.flatten(0, 1), boxes.flatten(0, 1), scores.flatten(0, 1).sigmoid(), strict=True)
        found = torch.stack([voted(*one) for one in each]).view_as(found)
    return Located(found, best)


def voted(best: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (4,) of those of ``boxes`` (A, 4) that overlap ``best`` (4,) by a half, by ``weights`` (A,)."""
    near = overlaps(best[None], boxes)[0] >= VOTE_OVERLAP
    if not near.any():  # the best box is empty, at the edge of the image
        return best
    return (boxes[near] * weights[near, None]).sum(0) / weights[near].sum()


def anchor_labels(anchors: Tensor, boxes: Tensor, settings: LocalizerSettings) -> tuple[Tensor, Tensor]:
    """Return labels (A,), 1 of the object, 0 not and -1 neither, and positions (A,) of the nearest ``boxes`` (n, 4).

    Anchors that leave the image count too (D84). Without boxes all labels are -1 (D86).
    """
    labels = torch.full((len(anchors),), -1, device=anchors.device)
    if not len(boxes):
        return labels, torch.zeros_like(labels)
    found = overlaps(anchors, boxes)
    largest, nearest = found.max(1)
    is_best = ((found == found.amax(0)) & (found > 0)).any(1)
    labels = torch.where(largest < settings.negative, 0, labels)
    return torch.where(is_best | (largest >= settings.positive), 1, labels), nearest
