"""The nets of Densely Connected Convolutional Networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet, batch_norm, conv, recomputed
from repro.models.chance import Dropout

BOTTLENECK = 4
"""Feature maps of a bottleneck's 1x1 convolution, in multiples of the growth."""
SINGLE_CHANNELS = 16
"""Filters of the first convolution of a CIFAR net without bottlenecks; other nets have twice the growth."""
STAGE_LAYERS = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
"""Dense layers of each stage of an ImageNet net by depth: those of the paper's Table 1, and 161 of its release."""
STAGE_LAYERS |= {264: (6, 12, 64, 48)}


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution to ``growth`` feature maps, of all feature maps before it in its stage.

    A bottleneck has batch norm, ReLU and a 1x1 convolution before these. Dropout follows every convolution (D39).
    """

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.bn1, channels = batch_norm(in_channels, config), in_channels
        self.has_bottleneck = config.block == "bottleneck"
        if self.has_bottleneck:
            channels = BOTTLENECK * config.growth
            self.conv1, self.dropout1 = conv(in_channels, channels, 1), Dropout(config.dropout)
            self.bn2 = batch_norm(channels, config)
        self.conv2, self.dropout2 = conv(channels, config.growth, 3), Dropout(config.dropout)

    def forward(self, *before: Tensor) -> Tensor:
        """Compute new feature maps (N, growth, H, W) from those before it, which are joined only here.

        If activations are recomputed, no joined maps are kept: memory grows with the number of layers and not with its
        square (the paper's memory-efficient form).
        """
        y = F.relu(self.bn1(torch.cat(before, 1)), inplace=True)
        if self.has_bottleneck:
            y = F.relu(self.bn2(self.dropout1(self.conv1(y))), inplace=True)
        new: Tensor = self.dropout2(self.conv2(y))
        return new


class Transition(nn.Module):
    """Batch norm, ReLU, a 1x1 convolution and average pooling, which halves the map."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.bn = batch_norm(in_channels, config)
        self.conv, self.dropout = conv(in_channels, out_channels, 1), Dropout(config.dropout)

    def forward(self, *before: Tensor) -> Tensor:
        y = F.relu(self.bn(torch.cat(before, 1)), inplace=True)
        return F.avg_pool2d(self.dropout(self.conv(y)), 2)


class DenseBody(BlockNet):
    """Stages of dense layers with transitions between them, a last activation and a fully connected layer.

    Args:
        channels: Feature maps that enter the first stage.
        stage_layers: Dense layers of each stage.
    """

    def __init__(self, config: ModelConfig, num_classes: int, channels: int, stage_layers: Sequence[int]) -> None:
        super().__init__()
        self.transitions = nn.ModuleList()
        for number, num_layers in enumerate(stage_layers):
            if number > 0:
                kept = int(channels * config.compression)
                self.transitions.append(Transition(channels, kept, config))
                channels = kept
            self.stages.append(
                nn.Sequential(*(DenseLayer(channels + place * config.growth, config) for place in range(num_layers)))
            )
            channels += num_layers * config.growth
        self.last = batch_norm(channels, config)
        self.fc = nn.Linear(channels, num_classes)

    def body(self, x: Tensor) -> Tensor:
        is_recomputed = self.recompute and self.training
        maps = [x]
        for number, stage in enumerate(self.stages):
            assert isinstance(stage, nn.Sequential)
            if number > 0:
                transition = self.transitions[number - 1]
                maps = [recomputed(transition, *maps) if is_recomputed else transition(*maps)]
            for layer in stage:
                maps.append(recomputed(layer, *maps) if is_recomputed else layer(*maps))
        return F.relu(self.last(torch.cat(maps, 1)), inplace=True)


class DenseNet(DenseBody):
    """A CIFAR net: a 3x3 convolution and three stages of dense layers.

    Input (N, 3, H, W) with H and W multiples of 4 (32 in the paper); output logits (N, num_classes).
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        has_bottlenecks = config.block == "bottleneck"
        channels = 2 * config.growth if has_bottlenecks else SINGLE_CHANNELS
        num_layers = (config.depth - 4) // (3 * config.block_layers)
        super().__init__(config, num_classes, channels, [num_layers] * 3)
        self.conv1 = conv(3, channels, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.body(self.conv1(x))


class ImageNetDenseNet(DenseBody):
    """An ImageNet net: a 7x7 convolution and a 3x3 max pool, both of stride 2, and four stages of dense layers.

    Input (N, 3, H, W) with H and W multiples of 32 (224 in the paper); output logits (N, num_classes).
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        channels = 2 * config.growth
        super().__init__(config, num_classes, channels, STAGE_LAYERS[config.depth])
        self.conv1, self.bn1 = conv(3, channels, 7, stride=2), batch_norm(channels, config)
        self.pool_padding = config.pool_padding

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        # As in the first paper's nets (D28).
        return self.body(F.max_pool2d(x, 3, 2, self.pool_padding, ceil_mode=not self.pool_padding))
