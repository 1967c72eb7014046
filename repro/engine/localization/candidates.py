"""Candidate boxes of localizers, in the pixels of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.augment import normalize
from repro.data.localization.feed import resized
from repro.engine.localization.prepared import Member
from repro.models.detection.localizer import Localizer
from repro.runtime.device import autocast


def candidates_of(
    ensemble: Sequence[Member], config: RunConfig, pixels: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the scores (n, k, A) and boxes (n, k, A, 4) of ``classes`` (n, k) in uint8 images (n, 3, H, W).

    An ensemble of region proposal networks has the mean of their scores and of their boxes, anchor by anchor (D90).
    """
    like = next(ensemble[0].model.parameters())
    pixels, classes = pixels.to(like.device), classes.to(like.device)
    found = []
    with torch.no_grad(), autocast(like.device, config.optim.precision):
        for one in ensemble:
            assert isinstance(one.model, Localizer)
            found.append(one.model.candidates(normalize(pixels, one.stats).to(like.dtype), classes))
    scores, boxes = (torch.stack(each).mean(0) for each in zip(*found, strict=True))
    return scores, boxes


def in_own_pixels(boxes: Tensor, sizes: np.ndarray, shorter_side: int) -> Tensor:
    """Return boxes (n, …, 4) of resized images in the pixels of images of ``sizes`` (n, 2), cut to them."""
    there = np.array([resized(size, shorter_side) for size in sizes])
    shape = (len(sizes), *(1,) * (boxes.dim() - 2), 4)
    own, seen = (torch.from_numpy(np.tile(s[:, ::-1], 2)).to(boxes).view(shape) for s in (sizes, there))
    return torch.minimum((boxes * own / seen).clamp(min=0), own)
