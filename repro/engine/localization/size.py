"""Parameters and multiply-adds of a localizer."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config.run import RunConfig
from repro.engine.localization.prepared import settings_of
from repro.models import build_model
from repro.models.count import Size
from repro.models.detection.localizer import Localizer
from repro.models.detection.region_net import RegionNet
from repro.models.resnet import ImageNetResNet


def localizer_size(config: RunConfig, num_classes: int) -> Size:
    """Count parameters and multiply-adds of a run's net, for one class of one crop or of one proposal."""
    assert config.localization is not None
    with torch.device("meta"):
        net = build_model(config.model, 10)
        assert isinstance(net, ImageNetResNet)
        is_network = config.localization.method == "rpn"
        model = Localizer(net, num_classes, settings_of(config)) if is_network else RegionNet(net, num_classes)
        image = torch.empty(1, 3, config.data.image_size, config.data.image_size)
        classes = torch.zeros((1, 1) if is_network else 1, dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image, classes)
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
