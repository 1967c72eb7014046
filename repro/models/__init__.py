"""The paper's nets."""

from __future__ import annotations

import torch

from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet, initialize
from repro.models.resnet import CifarResNet, ImageNetResNet


def build_model(config: ModelConfig, num_classes: int, generator: torch.Generator | None = None) -> BlockNet:
    """Build the net of ``config``, initialized from ``generator`` (on the CPU) if one is given."""
    model: BlockNet
    match config.name:
        case "cifar_resnet":
            model = CifarResNet(config, num_classes)
        case "imagenet_resnet":
            model = ImageNetResNet(config, num_classes)
    if generator is not None:
        initialize(model, config, generator)
    return model
