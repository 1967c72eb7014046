"""Proposals of a finished localizer, for the net that scores and moves them (D92)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.localization import BoxedSplit
from repro.data.localization.feed import photo_of, resized
from repro.engine.localization.candidates import candidates_of, in_own_pixels
from repro.engine.localization.prepared import Member
from repro.models.detection.boxes import is_large, suppress

LEAST_SIDE = 1.0
"""Pixels of the shorter side of a proposal: a smaller one shows nothing."""
TOGETHER = 16
"""Most images of one size that are seen together."""


def proposed(
    proposers: Sequence[Member],
    config: RunConfig,
    split: BoxedSplit,
    positions: Sequence[int],
    classes: np.ndarray,
    sides: Sequence[int],
) -> Iterator[list[np.ndarray]]:
    """Yield for each image at ``positions`` the proposals (n, 4) of each of its ``classes`` (N, k), likeliest first.

    Args:
        sides: Shorter sides at which an image is seen.
    """
    for place, same in itertools.groupby(range(len(positions)), key=lambda i: tuple(split.sizes[positions[i]])):
        size, group = np.array(place), list(same)
        for first in range(0, len(group), TOGETHER):
            part = group[first : first + TOGETHER]
            photos = [photo_of(split, positions[i], config.data.decoder) for i in part]
            wanted = torch.from_numpy(classes[part])
            scores, boxes = [], []
            for side in sides:
                pixels = torch.stack([photo.resized(*resized(size, side)) for photo in photos])
                found = candidates_of(proposers, config, pixels, wanted)
                scores.append(found[0])
                boxes.append(in_own_pixels(found[1], np.tile(size, (len(part), 1)), side))
            yield from likely(torch.cat(scores, 2), torch.cat(boxes, 2), config)


def likely(scores: Tensor, boxes: Tensor, config: RunConfig) -> Iterator[list[np.ndarray]]:
    """Yield the likeliest of ``boxes`` (N, k, A, 4) of each image, without those that overlap a likelier one."""
    own = config.localization
    assert own is not None
    for image_scores, image_boxes in zip(scores, boxes, strict=True):
        found = []
        for class_scores, class_boxes in zip(image_scores, image_boxes, strict=True):
            large = is_large(class_boxes, LEAST_SIDE)
            class_boxes, class_scores = class_boxes[large], class_scores[large]
            kept = suppress(class_boxes, class_scores, own.suppress)[: own.proposals]
            found.append(class_boxes[kept].float().cpu().numpy())
        yield found
