"""Plain nets rewritten with additions."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from repro.models.conversion.fold import identity, scaled
from repro.models.conversion.forms import (
    Affine,
    Block,
    Conv,
    Cut,
    PlainForm,
    ResidualForm,
    Shortcut,
    padded_identity,
)
from repro.models.conversion.plain import STEM_HOLDS, placed


def to_residual(net: PlainForm) -> tuple[ResidualForm, list[str]]:
    """Rewrite a plain net with additions: the blocks of its cut, or one for each layer that keeps its shape.

    Returns:
        The net, and a sentence for each layer that stays without an addition.
    """
    if not net.cut:
        return single_layers(net)
    blocks, notes = [], []
    rest = list(net.layers[1:])
    holds: tuple[str, ...] = STEM_HOLDS
    channels, activates = len(net.layers[0].weight), False
    entry: Affine | None = None
    for cut in net.cut:
        layers, rest = rest[: len(cut.kernels)], rest[len(cut.kernels) :]
        block = rebuilt(layers, cut, channels, holds, activates, entry)
        if cut.has_shortcut and block.shortcut is None:
            number = len(net.layers) - len(rest)
            notes.append(stays_plain(number, channels, cut.features[-1], layers[-1].stride))
        channels, holds, activates = cut.features[-1], cut.holds, cut.activates
        block, entry = with_identity(block, entry_after(layers[-1], cut), cut)
        blocks.append(block)
    start = place_of("entered", holds, activates) * channels
    fc_weight = net.fc_weight[:, start : start + channels]
    return ResidualForm(net.layers[0], net.pool_padding, tuple(blocks), entry, fc_weight, net.fc_bias), notes


def single_layers(net: PlainForm) -> tuple[ResidualForm, list[str]]:
    """Give every layer that keeps its shape a shortcut of its own, and subtract the identity from its kernel.

    The first layer reads the pixels and has none.
    """
    blocks, notes = [], []
    for number, layer in enumerate(net.layers[1:], 2):
        if layer.keeps_shape:
            shortcut = Shortcut(padded_identity(len(layer.weight), len(layer.weight), 0))
            blocks.append(Block((without(layer, shortcut),), shortcut))
        else:
            blocks.append(Block((layer,), None))
            out_channels, in_channels = layer.weight.shape[:2]
            notes.append(stays_plain(number, in_channels, out_channels, layer.stride))
    return ResidualForm(net.layers[0], net.pool_padding, tuple(blocks), None, net.fc_weight, net.fc_bias), notes


def stays_plain(number: int, in_channels: int, out_channels: int, stride: int) -> str:
    shapes = f"{in_channels} channels to {out_channels} with stride {stride}"
    return f"layer {number} stays plain: it maps {shapes}, so that no identity exists"


def without(layer: Conv, shortcut: Shortcut) -> Conv:
    """Subtract a shortcut from the kernel of a layer."""
    kernel = placed(shortcut.weight, layer.weight.shape[-1], layer.stride, shortcut.pools)
    return Conv(layer.weight - kernel, layer.bias, layer.stride)


def place_of(what: str, holds: tuple[str, ...], activates: bool) -> int:
    """Return the place in ``holds`` of the group that the next convolution or shortcut reads."""
    if what == "entered" and activates and "activated" in holds:
        return holds.index("activated")
    return holds.index("positive") if "positive" in holds else 0


def rebuilt(
    layers: list[Conv], cut: Cut, channels: int, holds: tuple[str, ...], activates: bool, entry: Affine | None
) -> Block:
    """Rebuild a residual block from its plain layers.

    Args:
        channels: The channels of its input.
        holds: The groups of channels of the plain layer before it, and whether it ``activates`` its input (``Cut``).
        entry: The activation before the block.
    """
    start = place_of("entered", holds, activates) * channels
    convs: list[Conv] = []
    carried: Tensor | None = None
    before = channels
    for number, (layer, kernel, features) in enumerate(zip(layers, cut.kernels, cut.features, strict=True)):
        is_last = number == len(layers) - 1
        first_row = place_of("value", cut.holds, activates=False) * features if is_last else 0
        rows = slice(first_row, first_row + features)
        inputs = slice(start, start + before) if number == 0 else slice(before)
        convs.append(Conv(centre(layer.weight[rows, inputs], kernel), layer.bias[rows], layer.stride))
        if is_last and number > 0:
            carried = layer.weight[rows, before : before + channels]
        elif is_last:
            carried = shown_shortcut(layer.weight[rows], channels, holds, activates)
        before = features
    shortcut = None
    if cut.has_shortcut and carried is not None:
        # The kernel is zero elsewhere, or has the same value in every pixel of a square.
        shortcut = Shortcut(carried.sum((2, 3)), cut.pools)
        if len(layers) == 1 and place_of("value", holds, activates) * channels == start:
            convs = [without(convs[0], shortcut)]
    elif cut.has_shortcut and (zeros := hidden_identity(cut, channels, layers[0].stride)) is not None:
        shortcut = Shortcut(padded_identity(cut.features[-1], channels, zeros), cut.pools)
        # The kernel may have grown to average pixels.
        convs = [without(Conv(layers[0].weight[rows, inputs], convs[0].bias, convs[0].stride), shortcut)]
        convs = [Conv(centre(convs[0].weight, cut.kernels[0]), convs[0].bias, convs[0].stride)]
    return Block(tuple(convs), shortcut, cut.relu, entry, cut.splits_after and shortcut is not None)


def hidden_identity(cut: Cut, channels: int, stride: int) -> int | None:
    """Return the ``zeros_before`` of an identity that the kernel of a single layer can lose; None if there is none.

    It need not be the shortcut of the net from which the plain net was made: another residual function goes with it.
    """
    keeps_shape = channels == cut.features[-1] and stride == 1
    return 0 if cut.zeros_before is None and keeps_shape else cut.zeros_before


def shown_shortcut(weight: Tensor, channels: int, holds: tuple[str, ...], activates: bool) -> Tensor | None:
    """Return the kernel of the shortcut in a block of one layer, if it reads channels that nothing else reads."""
    if "negative" in holds:
        start = holds.index("negative") * channels
        return -weight[:, start : start + channels]
    start = place_of("value", holds, activates) * channels
    if start == place_of("entered", holds, activates) * channels:
        return None
    return weight[:, start : start + channels]


def entry_after(layer: Conv, cut: Cut) -> Affine | None:
    """Return the activation that follows a block, from the rows of its last layer with and without it."""
    if not cut.activates:
        return None
    channels = cut.features[-1]
    if "activated" not in cut.holds or "positive" not in cut.holds:
        return identity(channels)
    activated, value = (cut.holds.index(group) * channels for group in ("activated", "positive"))
    with_it, without_it = (layer.weight[start : start + channels].flatten(1) for start in (activated, value))
    # The largest value of a row gives the most accurate ratio. Where a row is zero the output is constant.
    largest = without_it.abs().argmax(1, keepdim=True)
    divisor = without_it.gather(1, largest)[:, 0]
    is_constant = divisor == 0
    ratio = with_it.gather(1, largest)[:, 0] / torch.where(is_constant, torch.ones_like(divisor), divisor)
    scale = torch.where(is_constant, torch.zeros_like(ratio), ratio)
    shift = layer.bias[activated : activated + channels] - scale * layer.bias[value : value + channels]
    return Affine(scale, shift)


def with_identity(block: Block, entry: Affine | None, cut: Cut) -> tuple[Block, Affine | None]:
    """Move factors from a block to the activation after it, if with them its shortcut is not quite an identity."""
    if block.shortcut is None or cut.zeros_before is None or not cut.activates or "positive" in cut.holds:
        return block, entry
    weight, first = block.shortcut.weight, cut.zeros_before
    scale = torch.ones(len(weight), dtype=weight.dtype)
    scale[first : first + weight.shape[1]] = weight[first : first + weight.shape[1]].diagonal()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    convs = (*block.convs[:-1], scaled(block.convs[-1], 1 / scale))
    shortcut = Shortcut(weight / scale[:, None], block.shortcut.pools)
    return dataclasses.replace(block, convs=convs, shortcut=shortcut), Affine(scale, torch.zeros_like(scale))


def centre(weight: Tensor, size: int) -> Tensor:
    """Return the middle of a kernel, without a border that was added to average pixels."""
    border = (weight.shape[-1] - size) // 2
    return weight[:, :, border : border + size, border : border + size]
