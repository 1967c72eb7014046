"""Nets in evaluation form: convolutions with biases instead of batch norms.

A ``ResidualForm`` has the additions of a residual net, a ``PlainForm`` has none: only convolutions with biases, each
followed by a ReLU, a max pooling in ImageNet nets, the mean of the last map and a fully connected layer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Part = TypeVar("Part")


@dataclass(frozen=True)
class Conv:
    """A convolution with ``weight`` (out, in, k, k) and ``bias`` (out,), padded by k // 2 pixels of zeros."""

    weight: Tensor
    bias: Tensor
    stride: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.weight.shape[-1] // 2)

    @property
    def keeps_shape(self) -> bool:
        """True if an identity can be added: the same channels, and every pixel."""
        return self.weight.shape[0] == self.weight.shape[1] and self.stride == 1


@dataclass(frozen=True)
class Affine:
    """A factor and a summand of each channel, (C,): a batch norm that no convolution precedes."""

    scale: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]

    @property
    def is_identity(self) -> bool:
        return bool((self.scale == 1).all() and (self.shift == 0).all())


@dataclass(frozen=True)
class Shortcut:
    """A matrix ``weight`` (out, in) applied to every pixel; its bias is in the last convolution of the block.

    It has the stride of the block: it keeps every pixel of that stride, or the means of squares if it ``pools``.
    """

    weight: Tensor
    pools: bool = False

    @property
    def zeros_before(self) -> int | None:
        """The number of zero channels before those of the input; None if the matrix is not a padded identity."""
        out_channels, in_channels = self.weight.shape
        before = int(self.weight[:, 0].argmax())
        if before > out_channels - in_channels:
            return None
        return before if torch.equal(self.weight, padded_identity(out_channels, in_channels, before)) else None

    def __call__(self, x: Tensor, stride: int) -> Tensor:
        if self.pools:
            x = F.avg_pool2d(x, stride, ceil_mode=True)
        elif stride > 1:
            x = x[:, :, ::stride, ::stride]
        before = self.zeros_before
        if before is None:
            return F.conv2d(x, self.weight[:, :, None, None])
        return F.pad(x, (0, 0, 0, 0, before, len(self.weight) - x.shape[1] - before))


@dataclass(frozen=True)
class Block:
    """Convolutions with ReLUs between them, and a shortcut (None: plain layers).

    Args:
        entry: The activation before the block, with its ReLU; only the convolutions read it, or also the shortcut if
            the block ``splits_after`` it.
        relu: Whether a ReLU follows the addition.
    """

    convs: tuple[Conv, ...]
    shortcut: Shortcut | None
    relu: bool = True
    entry: Affine | None = None
    splits_after: bool = False

    @property
    def stride(self) -> int:
        stride = 1
        for conv in self.convs:
            stride *= conv.stride
        return stride

    def __call__(self, x: Tensor) -> Tensor:
        y = x if self.entry is None else F.relu(self.entry(x))
        source = y if self.splits_after else x
        for number, conv in enumerate(self.convs):
            y = conv(F.relu(y) if number else y)
        if self.shortcut is not None:
            y = y + self.shortcut(source, self.stride)
        return F.relu(y) if self.relu else y


@dataclass(frozen=True)
class ResidualForm:
    """A net with additions. ``pool_padding`` is that of the max pooling after the first layer, if there is one."""

    stem: Conv
    pool_padding: int | None
    blocks: tuple[Block, ...]
    last: Affine | None
    """The activation after the last block, with its ReLU."""
    fc_weight: Tensor
    fc_bias: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        x = pooled(F.relu(self.stem(images)), self.pool_padding)
        for block in self.blocks:
            x = block(x)
        x = x if self.last is None else F.relu(self.last(x))
        return F.linear(x.mean((2, 3)), self.fc_weight, self.fc_bias)


@dataclass(frozen=True)
class Cut:
    """The places of a residual block in its plain layers, from which it can be rebuilt.

    Args:
        kernels: The kernel sizes of the block's convolutions.
        features: Their output channels.
        relu: Whether a ReLU follows the addition.
        has_shortcut: Whether the block adds its input to its output.
        pools: Whether its shortcut averages pixels.
        splits_after: Whether its shortcut reads the activated input.
        zeros_before: ``Shortcut.zeros_before``.
        holds: The groups of channels of the last layer, each as many as the block's outputs: the ``activated`` output,
            and its ``positive`` and ``negative`` parts.
        activates: Whether the layers after the block read its activated output.
    """

    kernels: tuple[int, ...]
    features: tuple[int, ...]
    relu: bool
    has_shortcut: bool
    pools: bool
    splits_after: bool
    zeros_before: int | None
    holds: tuple[str, ...]
    activates: bool


@dataclass(frozen=True)
class PlainForm:
    """A net without additions. ``cut`` is empty if it was trained as a plain net."""

    layers: tuple[Conv, ...]
    pool_padding: int | None
    fc_weight: Tensor
    fc_bias: Tensor
    cut: tuple[Cut, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        x = pooled(F.relu(self.layers[0](images)), self.pool_padding)
        for layer in self.layers[1:]:
            x = F.relu(layer(x))
        return F.linear(x.mean((2, 3)), self.fc_weight, self.fc_bias)


Form = ResidualForm | PlainForm


def pooled(x: Tensor, padding: int | None) -> Tensor:
    """Apply the max pooling of an ImageNet net, which rounds up if it has no padding (deviation D28)."""
    return x if padding is None else F.max_pool2d(x, 3, 2, padding, ceil_mode=not padding)


def padded_identity(out_channels: int, in_channels: int, before: int) -> Tensor:
    """Return the matrix (out, in) of shortcut option A, with ``before`` zero channels before those of the input."""
    matrix = torch.zeros(out_channels, in_channels, dtype=torch.float64)
    matrix[before : before + in_channels] = torch.eye(in_channels)
    return matrix


def in_type(part: Part, dtype: torch.dtype) -> Part:
    """Convert all tensors of a form to another type."""
    converted: Any = part
    if isinstance(part, Tensor):
        converted = part.to(dtype)
    elif isinstance(part, tuple):
        converted = tuple(in_type(each, dtype) for each in part)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        values = {field.name: in_type(getattr(part, field.name), dtype) for field in dataclasses.fields(part)}
        converted = dataclasses.replace(part, **values)
    result: Part = converted
    return result
