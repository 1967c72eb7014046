"""Trained nets in evaluation form, with their batch norms folded into convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from repro.config.families import FAMILIES
from repro.config.model import ModelConfig
from repro.models.blocks import BasicBlock, BlockNet, Bottleneck, PaddedIdentity, ResidualBlock
from repro.models.conversion.forms import Affine, Block, Conv, ResidualForm, Shortcut, padded_identity
from repro.models.preact import OrderedBlock, OrderedNet
from repro.models.resnet import CifarResNet, ImageNetResNet


def obstacle(config: ModelConfig) -> str:
    """Return why a net has no form of convolutions, ReLUs and additions; empty if it has one."""
    if FAMILIES[config.name].is_dense:
        return "its layers read the joined maps of all layers before them, and nothing is added"
    if config.name == "highway" or config.gate != "none":
        return "its gates multiply two maps, which no convolution and no ReLU does"
    if config.activation != "relu":
        return f"its activation is {config.activation}, not ReLU"
    if config.is_own:
        return f"model={config.name} is your own, and the conversion does not know its blocks"
    return ""


def fold(model: BlockNet) -> ResidualForm:
    """Fold all batch norms of a net, in float64, with their running statistics.

    A batch norm after a convolution is a factor and a summand of its output channels. One that follows an addition
    (pre-activation) is kept as the ``entry`` of the next block.
    """
    if not isinstance(model, CifarResNet | ImageNetResNet | OrderedNet):
        raise TypeError(f"{type(model).__name__} has no form of convolutions, ReLUs and additions")
    factors = [*model.survival] or [1.0] * sum(1 for _ in model.blocks())
    blocks = []
    for block, factor in zip(model.blocks(), factors, strict=True):
        assert isinstance(block, ResidualBlock)
        blocks.append(folded_block(block, factor))
    return ResidualForm(
        folded(model.conv1, model.bn1),
        model.pool_padding if isinstance(model, ImageNetResNet) else None,
        tuple(blocks),
        last_affine(getattr(model, "last", nn.Identity()), model.fc.in_features),
        model.fc.weight.detach().double(),
        model.fc.bias.detach().double(),
    )


def folded_block(block: ResidualBlock, survival: float) -> Block:
    """Fold the batch norms of a block and the constant factors of its addition.

    Args:
        survival: The factor of the residual function in evaluation (stochastic depth).
    """
    order = block.order if isinstance(block, OrderedBlock) else "original"
    layers = layers_of(block)
    convs = [folded(conv, norm) for conv, norm in layers]
    residual_scale = shortcut_scale = 1.0
    if block.join is not None:
        residual_scale, shortcut_scale = block.join.residual_scale, block.join.shortcut_scale
    stride = max(conv.stride for conv in convs)
    shortcut, bias = folded_shortcut(block.shortcut, layers[0][0].in_channels, len(convs[-1].weight), stride)
    is_residual = shortcut is not None
    relu = order in ("original", "bn_after_addition")
    if order == "relu_before_addition" and is_residual:
        # The ReLU makes the addition a layer of its own, which reads the residual function with identity kernels.
        eye = torch.eye(len(convs[-1].weight), dtype=torch.float64)
        convs.append(Conv(eye[:, :, None, None], torch.zeros(len(eye), dtype=torch.float64)))
    elif order == "relu_before_addition":
        relu = True
    convs[-1] = scaled(convs[-1], torch.tensor(residual_scale * survival, dtype=torch.float64))
    if shortcut is not None:
        shortcut = Shortcut(shortcut_scale * shortcut.weight, shortcut.pools)
        convs[-1] = Conv(convs[-1].weight, convs[-1].bias + shortcut_scale * bias, convs[-1].stride)
    if isinstance(block, OrderedBlock) and order == "bn_after_addition":
        after = affine(block.bns[-1])
        convs[-1] = scaled(convs[-1], after.scale, after.shift)
        if shortcut is not None:
            shortcut = Shortcut(after.scale[:, None] * shortcut.weight, shortcut.pools)
    entry = entry_of(block, layers[0][0].in_channels) if isinstance(block, OrderedBlock) else None
    splits_after = isinstance(block, OrderedBlock) and block.splits_after_activation and entry is not None
    return Block(tuple(convs), shortcut, relu, entry, splits_after)


def layers_of(block: ResidualBlock) -> list[tuple[nn.Conv2d, nn.Module | None]]:
    """Return the convolutions of a block, each with the batch norm between it and the next ReLU or addition."""
    match block:
        case BasicBlock():
            return [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        case Bottleneck():
            return [(block.conv1, block.bn1), (block.conv2, block.bn2), (block.conv3, block.bn3)]
        case OrderedBlock():
            norms: list[nn.Module | None] = list(block.bns)
            if block.order == "full":
                norms = [*norms[1:], None]
            elif block.order == "bn_after_addition":
                norms = [*norms[:-1], None]
            convs = [conv for conv in block.convs if isinstance(conv, nn.Conv2d)]
            return list(zip(convs, norms, strict=True))
    raise TypeError(f"{type(block).__name__} is not a known block")


def entry_of(block: OrderedBlock, channels: int) -> Affine | None:
    """Return the activation before the first convolution of a pre-activation block."""
    if block.is_first or block.order not in ("relu_only", "full"):
        return None
    return affine(block.bns[0]) if block.order == "full" else identity(channels)


def last_affine(last: nn.Module, channels: int) -> Affine | None:
    """Return the activation after the last block (``repro.models.preact.last_activation``)."""
    match last:
        case nn.Sequential():
            norm, _ = last
            return affine(norm)
        case nn.ReLU():
            return identity(channels)
    return None


def folded_shortcut(
    shortcut: nn.Module | None, in_channels: int, out_channels: int, stride: int
) -> tuple[Shortcut | None, Tensor]:
    """Return a shortcut as a matrix, and its bias (out,)."""
    none = torch.zeros(out_channels, dtype=torch.float64)
    match shortcut:
        case nn.Identity():
            return Shortcut(padded_identity(out_channels, in_channels, 0)), none
        case PaddedIdentity():
            pools = shortcut.subsample == "avg_pool" and stride > 1
            return Shortcut(padded_identity(out_channels, in_channels, shortcut.before), pools), none
        case nn.Conv2d():
            return Shortcut(shortcut.weight.detach().double()[:, :, 0, 0]), none
        case nn.Sequential():
            projection, norm = shortcut
            assert isinstance(projection, nn.Conv2d)
            conv = folded(projection, norm)
            return Shortcut(conv.weight[:, :, 0, 0]), conv.bias
    return None, none


def folded(conv: nn.Conv2d, norm: nn.Module | None) -> Conv:
    """Return a convolution in float64 with the batch norm that follows it, or with a bias of zeros."""
    weight = conv.weight.detach().double()
    plain = Conv(weight, weight.new_zeros(len(weight)), conv.stride[0])
    if norm is None:
        return plain
    after = affine(norm)
    return scaled(plain, after.scale, after.shift)


def scaled(conv: Conv, scale: Tensor, shift: Tensor | float = 0.0) -> Conv:
    """Return a convolution followed by a factor and a summand of its outputs."""
    scale = scale.expand(len(conv.weight))
    return Conv(conv.weight * scale[:, None, None, None], conv.bias * scale + shift, conv.stride)


def affine(norm: nn.Module) -> Affine:
    """Return a batch norm with its running statistics as a factor and a summand of each channel."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return Affine(scale, norm.bias.detach().double() - norm.running_mean.double() * scale)


def identity(channels: int) -> Affine:
    return Affine(torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))


def has_shortcuts(blocks: Sequence[Block]) -> bool:
    return any(block.shortcut is not None for block in blocks)
