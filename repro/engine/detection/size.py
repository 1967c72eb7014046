"""Parameters and multiply-adds of a detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config.run import RunConfig
from repro.engine.detection.prepared import settings_of
from repro.models import build_model
from repro.models.detection.detector import Detector
from repro.models.resnet import ImageNetResNet

WIDER = 4 / 3
"""Longer over shorter side of an image, of most photographs."""


@dataclass(frozen=True)
class DetectorSize:
    """Parameters, and the multiply-adds of an image: body, proposal network, and head on one region."""

    params: int
    body_macs: int
    rpn_macs: int
    region_macs: int

    def macs(self, regions: int) -> int:
        """Return the multiply-adds of an image with so many regions."""
        return self.body_macs + self.rpn_macs + regions * self.region_macs


def detector_size(config: RunConfig, num_classes: int) -> DetectorSize:
    """Count parameters and multiply-adds of a run's detector on an image of the usual shape."""
    assert config.detection is not None
    height = config.data.image_size
    width = min(round(height * WIDER), config.detection.longest_side)
    with torch.device("meta"):
        net = build_model(config.model, 10)
        assert isinstance(net, ImageNetResNet)
        model = Detector(net, num_classes, settings_of(config))
        image = torch.empty(1, 3, height, width)
    counts = []
    with torch.no_grad():
        features = None
        for call in (
            lambda: model.body(image),
            lambda: model.rpn(torch.empty(1, model.body.channels, -(-height // 16), -(-width // 16), device="meta")),
            lambda: model.head.predict(top_features(model)),
        ):
            with FlopCounterMode(display=False) as counter:
                features = call()
            counts.append(counter.get_total_flops() // 2)
    assert features is not None
    params = sum(p.numel() for p in model.parameters())
    return DetectorSize(params, *counts)


def top_features(model: Detector) -> torch.Tensor:
    """Compute the feature of one region, twice as wide with context."""
    side = model.head.top.size
    feature: torch.Tensor = model.head.top(torch.empty(1, model.body.channels, side, side, device="meta"))
    return torch.cat([feature, feature], 1) if model.head.settings.context else feature
