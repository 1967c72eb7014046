"""Parameters and multiply-adds of a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config.run import RunConfig
from repro.engine.detection.prepared import settings_of
from repro.models.count import kept_bytes
from repro.models.detection.body import build_uncut
from repro.models.detection.detector import Detector

T = TypeVar("T")

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
    model, image = on_meta(config, num_classes)
    with torch.no_grad():
        maps, body = counted(lambda: model.body(image))
        _, proposals = counted(lambda: model.rpn(maps))
        _, region = counted(lambda: model.head.predict(top_features(model)))
    return DetectorSize(sum(p.numel() for p in model.parameters()), body, proposals, region)


def counted(call: Callable[[], T]) -> tuple[T, int]:
    """Return the value of ``call`` and its multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        found = call()
    return found, counter.get_total_flops() // 2


def on_meta(config: RunConfig, num_classes: int) -> tuple[Detector, torch.Tensor]:
    """Build a run's detector and an image of the usual shape, without values."""
    assert config.detection is not None
    height = config.data.image_size
    with torch.device("meta"):
        model = Detector(build_uncut(config.model, 10), num_classes, settings_of(config))
        return model, torch.empty(1, 3, height, min(round(height * WIDER), config.detection.longest_side))


def activation_bytes(config: RunConfig, num_classes: int) -> int:
    """Count the bytes that an update keeps for its backward pass on each device: of body, proposals and regions."""
    model, image = on_meta(config, num_classes)
    assert config.detection is not None
    head, side = model.head, model.head.top.size
    regions = torch.empty(config.detection.samples, model.body.channels, side, side, device="meta")

    def forward() -> torch.Tensor:
        scores, codes = model.rpn(model.body(image))
        features = head.top(regions)
        classes, _ = head.predict(torch.cat([features, features], 1) if head.settings.context else features)
        return torch.stack([scores.sum(), codes.sum(), classes.sum()])

    return kept_bytes(model, forward) * (config.optim.batch_size // config.execution.num_ranks)


def top_features(model: Detector) -> torch.Tensor:
    """Compute the feature of one region, twice as wide with context."""
    side = model.head.top.size
    feature: torch.Tensor = model.head.top(torch.empty(1, model.body.channels, side, side, device="meta"))
    return torch.cat([feature, feature], 1) if model.head.settings.context else feature
