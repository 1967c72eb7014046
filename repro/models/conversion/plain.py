"""Residual nets rewritten without additions.

A block of one layer adds its shortcut to its kernel. A longer block carries its input beside the features, in extra
channels with identity kernels, and its last layer adds them. The ReLU of every layer leaves carried values unchanged
if they are never negative; other values are carried as two channels, their positive and negative parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from repro.errors import InputError
from repro.models.conversion.fold import has_shortcuts
from repro.models.conversion.forms import Affine, Block, Conv, Cut, PlainForm, ResidualForm

STEM_HOLDS = ("positive",)
"""The first layer holds its output, which its ReLU makes positive."""


@dataclass(frozen=True)
class Reading:
    """The way from the channels (n) of a plain layer to the map (C) of the residual net, as matrices (C, n).

    ``entered`` gives the map that the next convolution reads, ``value`` the one that the next shortcut reads.
    """

    entered: Tensor
    value: Tensor


def reading_of(holds: tuple[str, ...], channels: int, activates: bool) -> Reading:
    """Return how the groups of channels in ``holds`` are read (``Cut``)."""
    eye, none = torch.eye(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)

    def matrix(**factors: int) -> Tensor:
        return torch.cat([factors[group] * eye if group in factors else none for group in holds], 1)

    value = matrix(positive=1, negative=-1) if "positive" in holds else matrix(activated=1)
    if not activates:
        return Reading(value, value)
    return Reading(matrix(activated=1) if "activated" in holds else matrix(positive=1), value)


def to_plain(net: ResidualForm, image_size: int) -> PlainForm:
    """Rewrite a net without additions; a plain net becomes the chain of its layers.

    Args:
        image_size: The sides of the images; a shortcut that averages pixels needs maps of even size.

    Raises:
        InputError: A shortcut averages the pixels of a map of odd size.
    """
    channels = len(net.stem.weight)
    layers, cut, size = [net.stem], [], halved(image_size, net.stem.stride)
    if net.pool_padding is not None:
        # Without padding the last row of an odd map begins no window.
        size = halved(size, 2) if net.pool_padding else size // 2
    reading = reading_of(STEM_HOLDS, channels, activates=False)
    for number, block in enumerate(net.blocks):
        if block.shortcut is not None and block.shortcut.pools and size % 2:
            raise InputError(
                f"the shortcut of block {number + 1} averages squares of a map of {size}x{size} pixels "
                "(model.shortcut_subsample=avg_pool), which a convolution does only if the size is even"
            )
        after = net.blocks[number + 1] if number + 1 < len(net.blocks) else None
        more, holds, activates = plain_layers(block, reading, *wanted(after, net.last))
        layers += more
        channels, size = len(block.convs[-1].weight), halved(size, block.stride)
        reading = reading_of(holds, channels, activates)
        cut.append(cut_of(block, holds, activates))
    kept = tuple(cut) if has_shortcuts(net.blocks) else ()
    return PlainForm(tuple(layers), net.pool_padding, net.fc_weight @ reading.entered, net.fc_bias, kept)


def halved(size: int, stride: int) -> int:
    """Return the side of a map after a layer of this stride."""
    return -(-size // stride)


def wanted(after: Block | None, last: Affine | None) -> tuple[Affine | None, bool]:
    """Return what is read after a block: an activation, if there is one, and whether also the map itself is read."""
    if after is None:
        return last, last is None
    return after.entry, after.entry is None or (after.shortcut is not None and not after.splits_after)


def plain_layers(
    block: Block, reading: Reading, entry: Affine | None, value: bool
) -> tuple[list[Conv], tuple[str, ...], bool]:
    """Rewrite a block as plain layers; return also the groups of channels of the last one (``Cut``).

    Args:
        reading: How the channels before the block are read.
        entry: The activation after the block, if one follows.
        value: Whether the output of the block is read besides the activation.
    """
    *inner, last = block.convs
    entered, added = reading.entered, reading.value
    if block.shortcut is None:
        added = added[:0]
        matrix = added.new_zeros(len(last.weight), 0)
        pools = False
    else:
        matrix, pools = block.shortcut.weight, block.shortcut.pools
    if inner and bool((added < 0).any()):
        matrix, added = torch.cat([matrix, -matrix], 1), torch.cat([added, -added])
    layers = []
    for conv in inner:
        weight = widened(conv, pools)
        carried = placed(added, weight.shape[-1], conv.stride, pools)
        weight = torch.cat([through(weight, entered), carried])
        layers.append(Conv(weight, torch.cat([conv.bias, conv.bias.new_zeros(len(added))]), conv.stride))
        eye = torch.eye(len(weight), dtype=weight.dtype)
        entered, added = eye[: len(conv.weight)], eye[len(conv.weight) :]
    weight = widened(last, pools)
    shortcut = placed(matrix @ added, weight.shape[-1], last.stride, pools)
    total = Conv(through(weight, entered) + shortcut, last.bias, last.stride)
    if block.relu:
        return [*layers, total], ("positive",), False
    groups = groups_of(total, entry, value)
    rows = [Conv(weight, bias) for weight, bias in groups.values()]
    stacked = Conv(torch.cat([row.weight for row in rows]), torch.cat([row.bias for row in rows]), last.stride)
    return [*layers, stacked], tuple(groups), entry is not None


def groups_of(total: Conv, entry: Affine | None, value: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the weights and biases of the groups of channels that hold a sum without a ReLU."""
    groups = {}
    if entry is not None and not (value and entry.is_identity):
        groups["activated"] = (total.weight * entry.scale[:, None, None, None], total.bias * entry.scale + entry.shift)
    if value:
        groups["positive"] = total.weight, total.bias
        if bool((total.weight < 0).any() or (total.bias < 0).any()):
            groups["negative"] = -total.weight, -total.bias
    return groups


def widened(conv: Conv, pools: bool) -> Tensor:
    """Return the kernel of a convolution, with a border of zeros if it has one pixel and must average several."""
    is_too_small = pools and conv.stride > 1 and conv.weight.shape[-1] == 1
    return F.pad(conv.weight, (1, 1, 1, 1)) if is_too_small else conv.weight


def placed(matrix: Tensor, size: int, stride: int, pools: bool) -> Tensor:
    """Return the kernel (out, in, size, size) that applies a matrix to each pixel, or to means of squares of pixels."""
    kernel = matrix.new_zeros(*matrix.shape, size, size)
    side, centre = stride if pools else 1, size // 2
    kernel[:, :, centre : centre + side, centre : centre + side] = matrix[:, :, None, None] / side**2
    return kernel


def through(weight: Tensor, matrix: Tensor) -> Tensor:
    """Return the kernel (out, n, k, k) that reads its input (C) from channels (n) with a matrix (C, n)."""
    return torch.einsum("ocij,cn->onij", weight, matrix)


def cut_of(block: Block, holds: tuple[str, ...], activates: bool) -> Cut:
    shortcut = block.shortcut
    return Cut(
        kernels=tuple(conv.weight.shape[-1] for conv in block.convs),
        features=tuple(len(conv.weight) for conv in block.convs),
        relu=block.relu,
        has_shortcut=shortcut is not None,
        pools=shortcut is not None and shortcut.pools,
        splits_after=block.splits_after,
        zeros_before=None if shortcut is None else shortcut.zeros_before,
        holds=holds,
        activates=activates,
    )
