"""The papers' nets."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from repro.config.families import OWN_MODULES
from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet
from repro.models.chance import survival_probabilities
from repro.models.dense import DenseNet, ImageNetDenseNet
from repro.models.highway import HighwayNet
from repro.models.initialization import initialize
from repro.models.own import OWN_NETS
from repro.models.preact import PreactResNet
from repro.models.resnet import CifarResNet, ImageNetResNet
from repro.models.wide import WideResNet

NETS: dict[str, Callable[[ModelConfig, int], BlockNet]] = {
    "cifar_resnet": CifarResNet,
    "imagenet_resnet": ImageNetResNet,
    "preact_resnet": PreactResNet,
    "wide_resnet": WideResNet,
    "densenet": DenseNet,
    "imagenet_densenet": ImageNetDenseNet,
    "highway": HighwayNet,
}
"""The class of each family in ``repro.config.families``, except the user's own."""

for _module in OWN_MODULES.values():
    importlib.import_module(f"repro.models.{_module}")


def build_model(config: ModelConfig, num_classes: int, generator: torch.Generator | None = None) -> BlockNet:
    """Build the net of ``config``, initialized from ``generator`` (on the CPU) if one is given."""
    model = {**NETS, **OWN_NETS}[config.name](config, num_classes)
    model.survival = survival_probabilities(config, sum(1 for _ in model.blocks()))
    model.is_random = config.is_random
    if generator is not None:
        initialize(model, config, generator)
    return model


def build_any(config: ModelConfig, num_classes: int, generator: torch.Generator | None = None) -> nn.Module:
    """Build a net as ``build_model`` does, or VGG-16, which has no blocks."""
    if config.name != "vgg":
        return build_model(config, num_classes, generator)
    from repro.models.vgg import build_vgg  # loads torchvision, seconds

    net: nn.Module = build_vgg(config, num_classes, generator)
    return net
