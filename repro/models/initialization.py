"""Initial weights of nets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet
from repro.models.joins import Gate


def initialize(model: BlockNet, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw all convolutions from He's zero-mean Gaussian of variance 2 / fan (deviation D1), then the fully connected
    layer; batch norms start with weight one and bias zero, gates with the bias ``config.gate_bias``, other biases with
    zero."""
    mode: Literal["fan_in", "fan_out"] = "fan_out" if config.init == "he_fan_out" else "fan_in"
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.constant_(module.bias, config.gate_bias if isinstance(module, Gate) else 0)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    initialize_output(model.fc, config.fc_init, generator)


def initialize_output(fc: nn.Linear, fc_init: str, generator: torch.Generator) -> None:
    """Draw the fully connected layer (deviation D26).

    ``he`` is the rule of the convolutions, although no ReLU follows; its fan is always the number of inputs, since no
    layer follows whose signal the outputs could scale. ``torch`` is the default of ``nn.Linear``, weights and biases
    uniform within 1 / sqrt(inputs). ``normal_0.01`` is AlexNet's Gaussian with standard deviation 0.01.
    """
    nn.init.zeros_(fc.bias)
    if fc_init == "he":
        nn.init.kaiming_normal_(fc.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    elif fc_init == "torch":
        bound = fc.in_features**-0.5
        nn.init.uniform_(fc.weight, -bound, bound, generator=generator)
        nn.init.uniform_(fc.bias, -bound, bound, generator=generator)
    else:
        nn.init.normal_(fc.weight, std=0.01, generator=generator)
