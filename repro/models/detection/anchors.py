"""Anchors: the reference boxes of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STRIDE = 16
"""Pixels of the image for each position of the body's map."""
RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths."""
VOC_SCALES = (8, 16, 32)
"""Anchors of 128², 256² and 512² pixels, in units of the stride; COCO also has those of 64² ([32], section 4.2)."""


def cell_anchors(scales: Sequence[float] = VOC_SCALES, ratios: Sequence[float] = RATIOS) -> Tensor:
    """Return the anchors (A, 4) of the first position in float64, by ratio and then by scale.

    As in MSRA's release, sides are rounded at scale 1, and anchors lie around the middle of the position's cell of
    16x16 pixels (D51). Its table says -83, -39, 100, 56 of the first of ``VOC_SCALES``, counting pixels from 1.
    """
    anchors = []
    for ratio in ratios:
        width = round((STRIDE * STRIDE / ratio) ** 0.5)
        height = round(width * ratio)
        anchors += [[-width * scale, -height * scale, width * scale, height * scale] for scale in scales]
    return torch.tensor(anchors, dtype=torch.float64) / 2 + STRIDE / 2


def grid_anchors(cell: Tensor, height: int, width: int) -> Tensor:
    """Return the anchors (height * width * A, 4) of a map, row by row, those of a position together."""
    y = torch.arange(height, device=cell.device, dtype=cell.dtype) * STRIDE
    x = torch.arange(width, device=cell.device, dtype=cell.dtype) * STRIDE
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1)
    return (shifts[:, :, None] + cell).reshape(-1, 4)
