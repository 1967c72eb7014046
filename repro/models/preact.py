"""The nets of Identity Mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet, Bottleneck, PaddedIdentity, ResidualBlock, batch_norm, conv, shortcut
from repro.models.chance import Dropout
from repro.models.joins import join

CIFAR_CHANNELS = (16, 32, 64)
"""Filters of the three stages of a CIFAR net's 3x3 layers."""


class Layer(NamedTuple):
    """A convolution of a block."""

    kernel: int
    channels: int
    stride: int


Stages = Sequence[Sequence[Sequence[Layer]]]


class OrderedBlock(ResidualBlock):
    """A block in one of five orders of activation (Identity Mappings, Fig. 4 and Table 2).

    ``original`` adds after the last batch norm and before the last ReLU. ``bn_after_addition`` and
    ``relu_before_addition`` move one of these across the addition. ``relu_only`` and ``full`` (batch norm and ReLU)
    activate before each layer.

    Args:
        is_first: Whether it is the first block of the net, whose input is activated before it splits into two paths.
        dropout: The share of values dropped before every layer except the first.
    """

    def __init__(
        self,
        in_channels: int,
        layers: Sequence[Layer],
        config: ModelConfig,
        order: str,
        *,
        is_first: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.order, self.is_first = order, is_first
        inputs, out_channels = [in_channels, *(layer.channels for layer in layers[:-1])], layers[-1].channels
        stride = max(layer.stride for layer in layers)
        self.convs = nn.ModuleList(
            conv(before, layer.channels, layer.kernel, layer.stride)
            for before, layer in zip(inputs, layers, strict=True)
        )
        normalized = inputs if order == "full" else [layer.channels for layer in layers]
        self.bns = nn.ModuleList(
            nn.Identity() if order == "full" and is_first and number == 0 else batch_norm(channels, config)
            for number, channels in enumerate(normalized)
        )
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in layers[1:])
        projection = shortcut(in_channels, out_channels, stride, config)
        # The projection of a pre-activated input has no batch norm, as in the authors' release (D29).
        is_bare = order == "full" and isinstance(projection, nn.Sequential)
        self.shortcut = conv(in_channels, out_channels, 1, stride) if is_bare else projection
        self.join = join(in_channels, out_channels, stride, config)
        is_projecting = not isinstance(projection, nn.Identity | PaddedIdentity | None)
        self.splits_after_activation = order in ("relu_only", "full") and is_projecting

    def forward(self, x: Tensor, survival: float = 1.0) -> Tensor:
        return super().forward(self.entered(x) if self.splits_after_activation else x, survival)

    def entered(self, x: Tensor) -> Tensor:
        """Apply the activation before the first layer."""
        if self.is_first or self.order not in ("relu_only", "full"):
            return x
        return F.relu(x) if self.order == "relu_only" else F.relu(self.bns[0](x), inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        y = x if self.splits_after_activation else self.entered(x)
        for number, layer in enumerate(self.convs):
            if number > 0:
                y = self.dropouts[number - 1](F.relu(y if self.order != "full" else self.bns[number](y), inplace=True))
            y = layer(y)
            is_normalized_later = self.order == "bn_after_addition" and number == len(self.convs) - 1
            if self.order != "full" and not is_normalized_later:
                y = self.bns[number](y)
        return F.relu(y) if self.order == "relu_before_addition" else y

    def joined(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if self.order != "relu_before_addition" or residual is None or self.join is not None:
            return super().joined(x, residual)
        assert self.shortcut is not None
        added: Tensor = self.shortcut(x) + residual  # not in place: the backward pass needs a ReLU's output
        return added

    def finished(self, y: Tensor) -> Tensor:
        if self.order == "bn_after_addition":
            y = self.bns[-1](y)
        return F.relu(y, inplace=True) if self.order in ("original", "bn_after_addition") else y


def last_activation(channels: int, config: ModelConfig, order: str) -> nn.Module:
    """Build the activation after the last block, for orders in which blocks end with an addition."""
    match order:
        case "full":
            return nn.Sequential(batch_norm(channels, config), nn.ReLU(inplace=True))
        case "relu_only":
            return nn.ReLU(inplace=True)
    return nn.Identity()


def layers_of(config: ModelConfig, channels: int, stride: int) -> list[Layer]:
    """Return the layers of a block: one or two of 3x3, or a bottleneck with four times ``channels`` as outputs.

    ``config.width`` widens all layers, but only the inner ones of a bottleneck (Wide ResNet, Table 8).
    """
    wide = int(channels * config.width)
    if config.bottleneck:
        first, second = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        return [Layer(1, wide, first), Layer(3, wide, second), Layer(1, Bottleneck.expansion * channels, 1)]
    return [Layer(3, wide, stride), Layer(3, wide, 1)][: config.block_layers]


class OrderedNet(BlockNet):
    """A CIFAR net with any order of activation: a 3x3 convolution, stages of blocks, global average pooling and a fully
    connected layer.

    Input (N, 3, H, W) with H and W multiples of 4 (32 in the papers); output logits (N, num_classes). An activation
    follows the first convolution, before the first block splits into two paths. If blocks end with an addition, another
    one follows the last block.

    Args:
        stages: The layers of each block of each stage.
    """

    def __init__(self, config: ModelConfig, num_classes: int, stages: Stages, order: str, dropout: float = 0.0) -> None:
        super().__init__()
        in_channels = CIFAR_CHANNELS[0]
        self.conv1, self.bn1 = conv(3, in_channels, 3), batch_norm(in_channels, config)
        for number, blocks in enumerate(stages):
            stage = nn.Sequential()
            for place, layers in enumerate(blocks):
                is_first = number == place == 0
                stage.append(OrderedBlock(in_channels, layers, config, order, is_first=is_first, dropout=dropout))
                in_channels = layers[-1].channels
            self.stages.append(stage)
        self.last = last_activation(in_channels, config, order)
        self.fc = nn.Linear(in_channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.last(self.body(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return features


class PreactResNet(OrderedNet):
    """A CIFAR net of Identity Mappings: 3n, 6n or 9n layers in blocks, and two others."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        num_blocks = (config.depth - 2) // (3 * config.block_layers)
        stages = [
            [layers_of(config, channels, 2 if number > 0 and place == 0 else 1) for place in range(num_blocks)]
            for number, channels in enumerate(CIFAR_CHANNELS)
        ]
        super().__init__(config, num_classes, stages, config.order)
