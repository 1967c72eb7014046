"""The paper's plain and residual nets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import BasicBlock, BlockNet, Bottleneck, batch_norm, conv

CIFAR_CHANNELS = (16, 32, 64)
"""Filters of the three stages of a CIFAR-10 net."""
STEM_CHANNELS = 64
STAGE_CHANNELS = (64, 128, 256, 512)
"""Filters of conv2_x to conv5_x of an ImageNet net; bottleneck blocks have four times as many outputs."""
STAGE_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of conv2_x to conv5_x by depth: the columns of Table 1."""


class CifarResNet(BlockNet):
    """A net of 6n+2 layers (section 4.2): a 3x3 convolution, three stages of n blocks, global average pooling and a
    fully connected layer.

    Input (N, 3, H, W) with H and W multiples of 4 (32 in the paper); output logits (N, num_classes).
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        num_blocks = (config.depth - 2) // 6
        self.conv1 = conv(3, CIFAR_CHANNELS[0], 3)
        self.bn1 = batch_norm(CIFAR_CHANNELS[0], config)
        channels = CIFAR_CHANNELS[0]
        for out_channels in CIFAR_CHANNELS:
            stage = nn.Sequential()
            for block in range(num_blocks):
                stride = 2 if block == 0 and out_channels != CIFAR_CHANNELS[0] else 1
                stage.append(BasicBlock(channels, out_channels, stride, config))
                channels = out_channels
            self.stages.append(stage)
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.bn1(self.conv1(x)), inplace=True))


class ImageNetResNet(BlockNet):
    """A net of Table 1: a 7x7 convolution and a 3x3 max pool, both of stride 2, four stages, global average pooling
    and a fully connected layer.

    Input (N, 3, H, W) of any size (224 in the paper); the last map has 1/32 of it, rounded up. Output logits
    (N, num_classes). The first block of conv3_x, conv4_x and conv5_x halves the map.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        block: type[Bottleneck | BasicBlock] = Bottleneck if config.bottleneck else BasicBlock
        self.conv1 = conv(3, STEM_CHANNELS, 7, stride=2)
        self.bn1 = batch_norm(STEM_CHANNELS, config)
        in_channels = STEM_CHANNELS
        for i, num_blocks in enumerate(STAGE_BLOCKS[config.depth]):
            out_channels = STAGE_CHANNELS[i] * block.expansion
            stage = nn.Sequential()
            for j in range(num_blocks):
                stage.append(block(in_channels, out_channels, 2 if i > 0 and j == 0 else 1, config))
                in_channels = out_channels
            self.stages.append(stage)
        self.fc = nn.Linear(in_channels, num_classes)
        self.pool_padding = config.pool_padding

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        # Without padding the last window extends beyond the map, as in Caffe, which rounds up. Both ways turn 112x112
        # into 56x56 (D28).
        return self.body(F.max_pool2d(x, 3, 2, self.pool_padding, ceil_mode=not self.pool_padding))
