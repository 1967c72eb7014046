"""Random choices of a detector's training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repro.runtime.seeds import seed_of


@dataclass(frozen=True)
class ImageDraw:
    """The inputs of the random choices for one image in a training step.

    They say nothing of ranks, of other images and of earlier steps. So a resumed run draws the same, and so does any
    number of ranks.
    """

    seed: int
    step: int
    image: str
    """The image's id in its data set."""

    def values(self, purpose: str, *shape: int) -> Tensor:
        """Draw float64 values (…) between 0 and 1, on the CPU so that all devices draw the same."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, purpose, self.step, self.image))
        return torch.rand(shape, generator=generator, dtype=torch.float64)


def chosen(candidates: Tensor, values: Tensor, limit: int | Tensor) -> Tensor:
    """Return True (n,) for at most ``limit`` of the True ``candidates`` (n,): those of the smallest ``values`` (n,)."""
    ranks = torch.empty_like(candidates, dtype=torch.int64)
    order = torch.where(candidates, values, 2.0).argsort(stable=True)
    ranks[order] = torch.arange(len(order), device=order.device)
    return candidates & (ranks < limit)


def sampled(labels: Tensor, draw: ImageDraw, purpose: str, size: int, most_positive: int) -> Tensor:
    """Choose at most ``size`` of the ``labels`` (n,), of them at most ``most_positive`` above 0; the rest are 0.

    Return True (n,) for those chosen. Labels of -1 are never chosen.
    """
    values = draw.values(purpose, len(labels)).to(labels.device)
    positive = chosen(labels > 0, values, most_positive)
    return positive | chosen(labels == 0, values, size - positive.sum())


def dropped(features: Tensor, draw: ImageDraw | None, purpose: str, probability: float) -> Tensor:
    """Apply dropout to the features (K, D) of one image's regions; without a draw, return them as they are."""
    if draw is None:
        return features
    kept = (draw.values(purpose, *features.shape) >= probability).to(features.device, features.dtype)
    return features * kept / (1 - probability)
