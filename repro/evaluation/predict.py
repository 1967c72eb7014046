"""A net's logits of raw pixels."""

from __future__ import annotations

from torch import Tensor, nn

from repro.data.augment import PixelStats, normalize
from repro.models.forward import forward


def predict(model: nn.Module, pixels: Tensor, stats: PixelStats, precision: str) -> Tensor:
    """Run a net on uint8 pixels (N, 3, H, W), normalized with ``stats``; outputs as ``forward`` returns them."""
    return forward(model, normalize(pixels, stats), precision)
