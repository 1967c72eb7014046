"""Small nets for the tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from repro.config.run import ModelConfig
from repro.data.augment import generator_for
from repro.models import build_model
from repro.models.blocks import BlockNet

BASE = ModelConfig("cifar_resnet", 20, "A", "stride", "he_fan_in", 4, 0.1, 1e-5)


def net_config(**changes: Any) -> ModelConfig:
    return dataclasses.replace(BASE, **changes)


def trained_net(depth: int = 14, shortcut: str = "A", name: str = "cifar_resnet", **changes: Any) -> BlockNet:
    """Build a net whose batch norms have random statistics, scales and shifts, as after training."""
    config = net_config(name=name, depth=depth, shortcut=shortcut, **changes)
    model = build_model(config, 10, generator_for(0, "init"))
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.2, generator=generator)
    return model
