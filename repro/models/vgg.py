"""VGG-16, the body of detectors before residual nets."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import VGG
from torchvision.models.vgg import make_layers

from repro.config.run import ModelConfig

LAYERS: tuple[tuple[int, int], ...] = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Filters and number of the convolutions of each group; a max pooling follows every group."""
HIDDEN = 4096
"""Outputs of the layers fc6 and fc7."""
WINDOW = 7
"""Side of the map that fc6 reads."""


def build_vgg(config: ModelConfig, num_classes: int, generator: torch.Generator | None = None) -> VGG:
    """Build torchvision's VGG-16 without batch norm, its filters and hidden layers ``config.width`` times as many.

    Without a generator its values are empty, on the current device; with one they are drawn on the CPU: convolutions
    from He's Gaussian, fully connected layers with a deviation of 0.01, as in torchvision.
    """
    wide = [(round(filters * config.width), count) for filters, count in LAYERS]
    hidden = round(HIDDEN * config.width)
    # The default values of 138 million weights, drawn and thrown away, would take a second.
    with torch.device("meta"):
        names = [name for filters, count in wide for name in (*[filters] * count, "M")]
        net = VGG(make_layers(names), num_classes, init_weights=False)
        net.classifier = nn.Sequential(
            *(nn.Linear(wide[-1][0] * WINDOW**2, hidden), nn.ReLU(inplace=True), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout()),
            nn.Linear(hidden, num_classes),
        )
    net = net.to_empty(device=torch.get_default_device() if generator is None else "cpu")
    for layer in net.modules() if generator is not None else ():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01, generator=generator)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return net
