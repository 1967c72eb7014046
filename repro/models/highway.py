"""The convolutional nets of Training Very Deep Networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet, ResidualBlock
from repro.models.chance import Dropout
from repro.models.joins import join


class Widths(NamedTuple):
    """The layers of a net (deviation D42)."""

    stages: Sequence[tuple[int, int]]
    """Filters and number of highway layers of each stage."""
    kernels: Sequence[int]
    """Kernel sizes of the highway layers of a stage, in turn."""
    head: int
    """Filters of the 1x1 layer before the fully connected one."""


NETS = {
    11: Widths(((16, 2), (32, 2), (64, 2)), (3,), 250),
    19: Widths(((32, 4), (80, 5), (128, 5)), (3,), 100),
    32: Widths(((32, 9), (64, 9), (96, 9)), (1, 3), 100),
}
"""The nets by depth, which counts the highway layers, the first layer of each stage and the last two layers."""


def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """Return a convolution with a bias, since no batch norm follows."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


class Entry(nn.Module):
    """The first layer of a stage, which is no highway layer, since it changes dimensions: 3x3 after dropout.

    From the second stage on, max pooling before it halves the map.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: bool, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.dropout = Dropout(dropout)
        self.conv = conv(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2) if self.pool else x
        return F.relu(self.conv(self.dropout(x)), inplace=True)


class HighwayLayer(ResidualBlock):
    """A convolution H with ReLU and a gate T with a kernel of the same size: T(x) H(x) + (1 - T(x)) x (section 2)."""

    def __init__(self, channels: int, kernel_size: int, config: ModelConfig, entry: nn.Module) -> None:
        super().__init__()
        self.entry = entry
        self.conv = conv(channels, channels, kernel_size)
        self.shortcut = nn.Identity()
        self.join = join(channels, channels, 1, config, kernel_size)

    def forward(self, x: Tensor, survival: float = 1.0) -> Tensor:
        return super().forward(self.entry(x), survival)

    def residual(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=True)

    def finished(self, y: Tensor) -> Tensor:
        return y


class HighwayNet(BlockNet):
    """A CIFAR net of three stages, each a plain layer and highway layers, a 1x1 layer, global average pooling and a
    fully connected layer.

    Input (N, 3, H, W) with H and W multiples of 4 (32 in the paper); output logits (N, num_classes). It has no batch
    norm. Dropout precedes each stage and the fully connected layer.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        net, in_channels = NETS[config.depth], 3
        for number, (channels, num_layers) in enumerate(net.stages):
            stage = nn.Sequential()
            for place in range(num_layers):
                first = Entry(in_channels, channels, number > 0, config.dropout) if place == 0 else nn.Identity()
                stage.append(HighwayLayer(channels, net.kernels[place % len(net.kernels)], config, first))
            self.stages.append(stage)
            in_channels = channels
        self.head = conv(in_channels, net.head, 1)
        self.dropout = Dropout(config.dropout)
        self.fc = nn.Linear(net.head, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.head(self.body(x)), inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.features(x).mean((2, 3))))
        return logits
