"""Pooling of regions of a feature map to one size."""

from __future__ import annotations

from typing import Any

import torch
import torchvision  # registers torch.ops.torchvision
from torch import Tensor

from repro.models.detection.anchors import STRIDE


class _RoIPool(torch.autograd.Function):
    """torchvision's RoI pooling with a backward pass that adds in a fixed order.

    torchvision's own adds with atomic operations on CUDA, so that its sums depend on the order of threads.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, size: int) -> Tensor:
        pooled: Tensor
        pooled, argmax = torch.ops.torchvision.roi_pool(features, rois, 1 / STRIDE, size, size)
        ctx.save_for_backward(argmax, rois)
        ctx.shape = features.shape
        return pooled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        argmax, rois = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        planes = rois[:, :1].long() * channels + torch.arange(channels, device=argmax.device)
        positions = planes[:, :, None, None] * (height * width) + argmax.long()
        # A bin outside the map has no largest value, and its argmax is -1.
        positions, values = positions.flatten(), torch.where(argmax >= 0, grads[0], 0).flatten()
        positions = torch.where(argmax.flatten() >= 0, positions, 0)
        total = values.new_zeros(images * channels * height * width)
        if total.is_cuda:
            # It sorts by position first and is deterministic, while index_add_ is only with torch's flag.
            total.index_put_((positions,), values, accumulate=True)
        else:
            total.index_add_(0, positions, values)
        return total.view(ctx.shape), None, None


def pool_regions(features: Tensor, boxes: Tensor, size: int, method: str = "pool") -> Tensor:
    """Pool ``boxes`` (K, 4), in pixels of the image, from its map (1, C, h, w) to (K, C, size, size).

    ``pool`` is RoI pooling, as in the paper; ``align`` is RoI align, with bins of exact places.
    """
    # In the precision of boxes: autocast computes maps in one that cannot hold coordinates.
    features = features.to(boxes.dtype)
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    if method == "align":
        aligned: Tensor = torchvision.ops.roi_align(features, rois, size, 1 / STRIDE, sampling_ratio=2, aligned=True)
        return aligned
    # RoI pooling is defined on the first and last pixels of a box: a box of 16 pixels from 0 on ends with pixel 15.
    rois[:, 3:] -= 1
    pooled: Tensor = _RoIPool.apply(features, rois, size)
    return pooled
