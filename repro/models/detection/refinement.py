"""Detections of an image from its regions; box refinement and voting (appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from repro.models.detection.boxes import is_large, overlaps, suppress
from repro.models.detection.head import Regions


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of detections, by default those of MSRA's release."""

    suppression: float = 0.3
    """Overlap above which the lower-scored box of a class is dropped."""
    per_class: int = 100
    """Boxes of a class in an image before suppression."""
    refine: bool = False
    """Whether regions are classified again at their regressed boxes, and boxes vote."""
    vote: float = 0.5
    """Least overlap of a box that votes (D59)."""


class Found(NamedTuple):
    """Detections of an image by class, the highest score first: boxes (n, 4), labels (n,) from 0 on, scores (n,)."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def refined_boxes(regions: Regions) -> Tensor:
    """Return the regressed box (K, 4) of each region's most probable class (D59)."""
    labels = regions.scores[:, 1:].argmax(1) + 1
    return regions.boxes[torch.arange(len(labels), device=labels.device), labels]


def detections(regions: Sequence[Regions], settings: DetectionSettings) -> Found:
    """Suppress and vote among the union of ``regions``, class by class."""
    scores = torch.cat([region.scores for region in regions])
    boxes = torch.cat([region.boxes for region in regions])
    found: list[Found] = []
    # Suppression of all classes in one call would move their boxes apart, which rounds coordinates.
    for label in range(1, scores.shape[1]):
        kept = is_large(boxes[:, label], 0)
        own_boxes, own_scores = boxes[kept, label], scores[kept, label]
        order = own_scores.argsort(descending=True, stable=True)[: settings.per_class]
        own_boxes, own_scores = own_boxes[order], own_scores[order]
        chosen = suppress(own_boxes, own_scores, settings.suppression)
        final = own_boxes[chosen]
        if settings.refine:
            final = voted(final, own_boxes, own_scores, settings.vote)
        found.append(Found(final, torch.full_like(chosen, label - 1), own_scores[chosen]))
    return Found(*(torch.cat(values) for values in zip(*found, strict=True)))


def voted(kept: Tensor, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return for each of ``kept`` (n, 4) the mean of the ``boxes`` (m, 4) that overlap it, weighted by ``scores``."""
    weights = torch.where(overlaps(kept, boxes) >= threshold, scores, 0.0)
    return weights @ boxes / weights.sum(1, keepdim=True)


def limited_over_set(found: Sequence[Found], num_classes: int, average: int = 40) -> list[Found]:
    """Keep the best boxes of each class over all images of a set, ``average`` an image, as in MSRA's release."""
    least = []
    for label in range(num_classes):
        scores = torch.cat([image.scores[image.labels == label] for image in found])
        limit = average * len(found)
        least.append(scores.sort(descending=True).values[limit - 1].item() if len(scores) > limit else -1.0)
    limited = []
    for image in found:
        kept = image.scores >= image.scores.new_tensor(least)[image.labels]
        limited.append(Found(image.boxes[kept], image.labels[kept], image.scores[kept]))
    return limited
