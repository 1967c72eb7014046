"""Batch norm over groups that span ranks.

``nn.SyncBatchNorm`` does not run on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from repro.runtime import distributed

IMAGES_AND_PIXELS = (0, 2, 3)


class _Normalize(torch.autograd.Function):
    """Batch norm with one collective in the forward pass and one in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, num_ranks: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(weight.dtype)
        group = distributed.neighbours(num_ranks)
        parts = distributed.gather(torch.stack(torch.var_mean(wide, IMAGES_AND_PIXELS, correction=0)), group)
        # The parts have the same size, so the variance is the mean variance within them plus the variance of their
        # means. No digits cancel, as they would in the mean of squares minus the square of the mean.
        mean = parts[:, 1].mean(0)
        var = (parts[:, 0] + (parts[:, 1] - mean) ** 2).mean(0)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        ctx.num_ranks = num_ranks
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(wide, mean, var, weight, bias, False, 0.0, eps).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, scale = ctx.saved_tensors
        column = (1, -1, 1, 1)
        dy = dy.to(weight.dtype)
        normal = (x.to(weight.dtype) - mean.view(column)) * scale.view(column)
        # The derivative is that of the sum of all ranks' losses. x changes the statistics of every rank of the group.
        # Weight and bias change only this rank's result: each rank has its own copy until gradients are averaged.
        bias_gradient, weight_gradient = dy.sum(IMAGES_AND_PIXELS), (dy * normal).sum(IMAGES_AND_PIXELS)
        sums = distributed.add_up(torch.stack([bias_gradient, weight_gradient]), distributed.neighbours(ctx.num_ranks))
        count = ctx.num_ranks * x.numel() // x.shape[1]
        shift, tilt = (sums / count).view(2, 1, -1, 1, 1)
        dx = (dy - shift - normal * tilt) * (weight * scale).view(column)
        return dx.to(x.dtype), weight_gradient, bias_gradient, None, None


# A collective cannot be compiled into a block, so the block is split around it.
_normalize: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.compiler.disable(_Normalize.apply)


def normalize_across(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, num_ranks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize by the joint statistics of the batches of ``num_ranks`` consecutive ranks.

    Args:
        x: This rank's part of the group, (N, C, H, W), of the same size on each rank.

    Returns:
        The result, and the mean and the (biased) variance of the group, each (C,), identical on all its ranks.
    """
    return _normalize(x, weight, bias, eps, num_ranks)
