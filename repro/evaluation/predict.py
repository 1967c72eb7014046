"""Logits of a net on images."""

from __future__ import annotations

from torch import Tensor, nn

from repro.data.augment import PixelStats, normalize
from repro.models.forward import forward


def predict(model: nn.Module, pixels: Tensor, stats: PixelStats, precision: str) -> Tensor:
    """Normalize uint8 pixels (N, 3, H, W) with ``stats`` and run a net on them, as ``forward`` does."""
    return forward(model, normalize(pixels, stats), precision)
