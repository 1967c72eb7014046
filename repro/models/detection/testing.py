"""Detectors in testing: several scales, refinement and ensembles (appendix B)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from repro.models.detection.detector import Detector
from repro.models.detection.head import RegionHead, Regions
from repro.models.detection.images import ScaledImage
from repro.models.detection.refinement import DetectionSettings, Found, detections, refined_boxes
from repro.models.detection.rpn import TESTING, Limits

CANONICAL_SIDE = 224
"""Side of a region at the scale at which the classifier was trained."""


@torch.no_grad()
def detect(
    members: Sequence[Detector],
    views: Sequence[Sequence[ScaledImage]],
    settings: DetectionSettings | None = None,
    limits: Limits = TESTING,
) -> Found:
    """Return the objects that an ensemble finds in an image, in pixels of the original image.

    Args:
        members: The detectors; a single one is an ensemble of one.
        views: For each member the image at each scale, which differ in the statistics of pixels alone. Proposals come
            from the first scale only.
        settings: How detections are selected. Each member adds its number of boxes before suppression (D72).
        limits: Numbers of proposals of each member.
    """
    settings = settings or DetectionSettings()
    settings = dataclasses.replace(settings, per_class=settings.per_class * len(members))
    nets = [(member, member.maps(own), own) for member, own in zip(members, views, strict=True)]
    proposed = [member.propose(maps[:1], own[:1], limits)[0].boxes for member, maps, own in nets]

    def regions(boxes: Tensor) -> Regions:
        each = []
        for member, maps, own in nets:
            features = merged_features(member.head, maps, own, boxes)
            each.append(member.head.regions(features, boxes, own[0].size))
        return averaged(each)

    found = [regions(torch.cat(proposed))]
    if settings.refine:
        found.append(regions(refined_boxes(found[0])))
    boxes, labels, scores = detections(found, settings)
    return Found(boxes / views[0][0].scale, labels, scores)


def averaged(each: Sequence[Regions]) -> Regions:
    """Average the probabilities and the boxes that the members of an ensemble give to the same regions (D62)."""
    scores, boxes = zip(*each, strict=True)
    return Regions(torch.stack(scores).mean(0), torch.stack(boxes).mean(0))


def merged_features(head: RegionHead, maps: Sequence[Tensor], views: Sequence[ScaledImage], boxes: Tensor) -> Tensor:
    """Compute the features (K, D) of ``boxes`` (K, 4), in pixels of the first view, from two adjacent scales of each.

    The larger one of the two values goes on, after the head's top (D60).
    """
    factors = torch.tensor([view.scale / views[0].scale for view in views], dtype=boxes.dtype)
    order = factors.argsort(stable=True)
    first = adjacent_scales(boxes, factors[order].to(boxes.device))
    merged: Tensor | None = None
    for place, number in enumerate(order.tolist()):
        used = (first == place) | (first + 1 == place)
        if not used.any():
            continue
        scaled = boxes[used] * factors[number].item()
        features = head.features([maps[number]], [views[number].size], [scaled])
        if merged is None:
            merged = features.new_full((len(boxes), features.shape[1]), -torch.inf)
        merged[used] = torch.maximum(merged[used], features)
    return maps[0].new_zeros(0, head.scores.in_features) if merged is None else merged


def adjacent_scales(boxes: Tensor, factors: Tensor) -> Tensor:
    """Return the position (K,) of the first of the two scales for each of ``boxes``, among sorted ``factors``.

    At these two, the box is nearest to 224x224 pixels, by the sum of the distances of the logarithms (D60).
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt().clamp(min=1e-6)
    distances = (sides[:, None] * factors / CANONICAL_SIDE).log2().abs()
    if len(factors) == 1:
        return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return (distances[:, 1:] + distances[:, :-1]).argmin(1)
