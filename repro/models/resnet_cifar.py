"""The CIFAR-10 nets of section 4.2: 6n+2 layers, three stages of 16, 32 and 64 filters, plain or residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.blocks import BasicBlock, BlockNet, batch_norm, conv

STAGE_CHANNELS = (16, 32, 64)


class CifarResNet(BlockNet):
    """A 3x3 convolution, three stages of n blocks, global average pooling and one fully connected layer.

    Input (N, 3, H, W), H and W a multiple of 4 (32 in the paper); output logits (N, num_classes).
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        num_blocks = (config.depth - 2) // 6
        self.conv1 = conv(3, STAGE_CHANNELS[0], 3)
        self.bn1 = batch_norm(STAGE_CHANNELS[0], config)
        channels = STAGE_CHANNELS[0]
        for out_channels in STAGE_CHANNELS:
            stage = nn.Sequential()
            for block in range(num_blocks):
                stride = 2 if block == 0 and out_channels != STAGE_CHANNELS[0] else 1
                stage.append(BasicBlock(channels, out_channels, stride, config))
                channels = out_channels
            self.stages.append(stage)
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.bn1(self.conv1(x)), inplace=True))
