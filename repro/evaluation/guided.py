"""Guided backpropagation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class GuidedReLU(torch.autograd.Function):
    """A ReLU whose backward pass stops negative gradients too (Springenberg et al. 2015, Striving for Simplicity)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        y: Tensor = ctx.saved_tensors[0]
        return gradient.clamp(min=0) * (y > 0)


@contextlib.contextmanager
def guided() -> Iterator[None]:
    """Make every ReLU of forward passes inside the context a guided one."""
    usual = F.relu

    def relu(input: Tensor, inplace: bool = False) -> Tensor:
        y: Tensor = GuidedReLU.apply(input)
        return y

    F.relu = relu
    try:
        yield
    finally:
        F.relu = usual
