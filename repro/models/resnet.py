"""The paper's plain and residual nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import PIECES, BasicBlock, BlockNet, Bottleneck, ResidualBlock, activate, batch_norm, conv
from repro.models.preact import CIFAR_CHANNELS, Layer, OrderedBlock, last_activation, layers_of

STEM_CHANNELS = 64
STAGE_CHANNELS = (64, 128, 256, 512)
"""Filters of conv2_x to conv5_x of an ImageNet net; bottleneck blocks have four times as many outputs."""
STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of conv2_x to conv5_x by depth: the columns of Table 1."""
STAGE_BLOCKS |= {200: (3, 24, 36, 3)}  # of Identity Mappings


class CifarResNet(BlockNet):
    """A net of 6n+2 layers (section 4.2): a 3x3 convolution, three stages of n blocks, global average pooling and a
    fully connected layer.

    Input (N, 3, H, W) with H and W multiples of 4 (32 in the paper); output logits (N, num_classes).
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        num_blocks = (config.depth - 2) // 6
        self.activation, channels = config.activation, CIFAR_CHANNELS[0]
        self.conv1 = conv(3, PIECES[config.activation] * channels, 3)
        self.bn1 = batch_norm(PIECES[config.activation] * channels, config)
        for out_channels in CIFAR_CHANNELS:
            stage = nn.Sequential()
            for block in range(num_blocks):
                stride = 2 if block == 0 and out_channels != CIFAR_CHANNELS[0] else 1
                stage.append(BasicBlock(channels, out_channels, stride, config))
                channels = out_channels
            self.stages.append(stage)
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(activate(self.bn1(self.conv1(x)), self.activation))


class ImageNetResNet(BlockNet):
    """A net of Table 1: a 7x7 convolution and a 3x3 max pool, both of stride 2, four stages, global average pooling
    and a fully connected layer.

    Input (N, 3, H, W) of any size (224 in the paper); the last map has 1/32 of it, rounded up. Output logits
    (N, num_classes). The first block of conv3_x, conv4_x and conv5_x halves the map.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.conv1 = conv(3, STEM_CHANNELS, 7, stride=2)
        self.bn1 = batch_norm(STEM_CHANNELS, config)
        in_channels = STEM_CHANNELS
        for i, num_blocks in enumerate(STAGE_BLOCKS[config.depth]):
            stage = nn.Sequential()
            for j in range(num_blocks):
                layers = layers_of(config, STAGE_CHANNELS[i], 2 if i > 0 and j == 0 else 1)
                stage.append(imagenet_block(in_channels, layers, config, is_first=i == j == 0))
                in_channels = layers[-1].channels
            self.stages.append(stage)
        self.last = last_activation(in_channels, config, config.order)
        self.fc = nn.Linear(in_channels, num_classes)
        self.pool_padding = config.pool_padding

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        # Without padding the last window extends beyond the map, as in Caffe, which rounds up. Both ways turn 112x112
        # into 56x56 (D28).
        features: Tensor = self.last(
            self.body(F.max_pool2d(x, 3, 2, self.pool_padding, ceil_mode=not self.pool_padding))
        )
        return features


def imagenet_block(in_channels: int, layers: Sequence[Layer], config: ModelConfig, *, is_first: bool) -> ResidualBlock:
    """Build a block of the first paper, or one with another order of activation."""
    if config.order != "original":
        return OrderedBlock(in_channels, layers, config, config.order, is_first=is_first)
    kind = Bottleneck if config.bottleneck else BasicBlock
    return kind(in_channels, layers[-1].channels, max(layer.stride for layer in layers), config)
