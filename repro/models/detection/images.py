"""Images of a detector and the objects that it learns to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ScaledImage:
    """Pixels (3, H, W) of a normalized image, ``scale`` times as large as the original."""

    pixels: Tensor
    scale: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class Targets:
    """The objects of a scaled image: ``boxes`` (n, 4), ``labels`` (n,) from 1 on, and ``crowds`` (m, 4).

    Crowds are regions of many objects, which teach neither an object nor background.
    """

    boxes: Tensor
    labels: Tensor
    crowds: Tensor


def targets(
    boxes: np.ndarray,
    labels: np.ndarray,
    difficult: np.ndarray,
    crowd: np.ndarray,
    scale: float = 1.0,
    like: Tensor | None = None,
) -> Targets:
    """Return what is to be learned of objects in the original image, with labels from 0 on.

    Difficult objects are left out, as in MSRA's release: what covers them is background. Values get the type and the
    device of ``like``.
    """
    like = torch.empty(0) if like is None else like
    scaled = torch.as_tensor(boxes * scale).reshape(-1, 4).to(like)
    kept = torch.as_tensor(~difficult & ~crowd)
    known = torch.as_tensor(labels)[kept] + 1
    return Targets(scaled[kept.to(like.device)], known.to(like.device), scaled[torch.as_tensor(crowd).to(like.device)])


def by_shape(function: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """Apply ``function`` to images (…) stacked to batches (N, …) of one shape, and return its results (1, …) in order.

    No image is padded, since pixels beyond its edges would change its map by the size of its neighbours.
    """
    shapes: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        shapes.setdefault(image.shape, []).append(number)
    results: dict[int, Tensor] = {}
    for numbers in shapes.values():
        computed = function(torch.stack([images[number] for number in numbers]))
        results |= dict(zip(numbers, computed.split(1), strict=True))
    return [results[number] for number in range(len(images))]
