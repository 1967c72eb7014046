"""Small detectors and images of drawn shapes for the tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from repro.config.run import ModelConfig
from repro.data.augment import generator_for
from repro.models import resnet
from repro.models.blocks import BlockNet
from repro.models.detection.alternating import trained_names
from repro.models.detection.body import recompute_statistics
from repro.models.detection.boxes import overlaps
from repro.models.detection.detector import Detector, DetectorSettings
from repro.models.detection.head import HeadSettings
from repro.models.detection.images import ScaledImage, Targets, targets
from repro.models.detection.refinement import Found
from repro.models.detection.rpn import Limits, RPNSettings
from repro.models.detection.sampling import ImageDraw
from repro.models.resnet import ImageNetResNet

BASE = ModelConfig("imagenet_resnet", 18, "B", "stride", "he_fan_in", 2, 0.1, 1e-5)
SMALL = DetectorSettings(
    RPNSettings(scales=(1, 2, 4), hidden=64, least_side=4, batch=64), HeadSettings(batch=32), size=4
)
"""Settings for images of 64 to 128 pixels."""
FEW = Limits(200, 100)


def imagenet_net(**changes: Any) -> ImageNetResNet:
    """Build an ImageNet net with random weights."""
    from repro.models import build_model

    config = dataclasses.replace(BASE, **changes)
    net: BlockNet = build_model(config, 10, generator_for(0, "init"))
    assert isinstance(net, ImageNetResNet)
    return net


def narrow_net(**changes: Any) -> ImageNetResNet:
    """Build an ImageNet net with a quarter of the filters."""
    with mock.patch.multiple(resnet, STEM_CHANNELS=16, STAGE_CHANNELS=(16, 32, 64, 128)):
        return imagenet_net(**changes)


def shapes(number: int, size: int = 96) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Draw a noisy image (3, size, size) with a disc, a square frame and a cross; return its boxes and labels too."""
    generator = np.random.default_rng(number)
    image = generator.normal(0, 0.1, (3, size, size))
    boxes: list[list[int]] = []
    y, x = np.mgrid[:size, :size] + 0.5
    labels = generator.permutation(3)[: generator.integers(2, 4)]
    while len(boxes) < len(labels):
        side = int(generator.integers(size // 5, size // 2))
        x0, y0 = generator.integers(0, size - side, 2).tolist()
        if any(x0 < b[2] and b[0] < x0 + side and y0 < b[3] and b[1] < y0 + side for b in boxes):
            continue
        right, down = (x - x0) / side, (y - y0) / side
        inside = (right > 0) & (right < 1) & (down > 0) & (down < 1)
        far = np.maximum(abs(right - 0.5), abs(down - 0.5))
        masks = (
            (right - 0.5) ** 2 + (down - 0.5) ** 2 < 0.25,
            (far < 0.5) & (far > 0.3),
            inside & (np.minimum(abs(right - 0.5), abs(down - 0.5)) < 0.15),
        )
        image[:, masks[labels[len(boxes)]]] += generator.uniform(0.7, 1.5, 3)[:, None]
        boxes.append([x0, y0, x0 + side, y0 + side])
    return torch.tensor(image), np.array(boxes, float), labels.astype(np.int64)


def known(
    boxes: Sequence[Sequence[float]], labels: Sequence[int] = (), crowds: Sequence[Sequence[float]] = ()
) -> Targets:
    """Return targets of boxes with labels from 1 on (all 1 by default), in float64."""
    return Targets(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.tensor(labels or [1] * len(boxes), dtype=torch.int64),
        torch.tensor(crowds, dtype=torch.float64).reshape(-1, 4),
    )


def shapes_batch(count: int, size: int = 96) -> tuple[list[ScaledImage], list[Targets]]:
    """Return ``count`` images of drawn shapes and their targets, in float64."""
    images, objects = [], []
    for number in range(count):
        pixels, boxes, labels = shapes(number, size)
        none = np.zeros(len(labels), bool)
        images.append(ScaledImage(pixels))
        objects.append(targets(boxes, labels, none, none, like=pixels))
    return images, objects


def draws(count: int, step: int = 0, first: int = 0) -> list[ImageDraw]:
    """Return the draws of images ``first`` to ``first + count - 1``."""
    return [ImageDraw(0, step, str(first + number)) for number in range(count)]


def detector(settings: DetectorSettings = SMALL, num_classes: int = 3, seed: int = 0, **changes: Any) -> Detector:
    """Build a random detector in float64 whose batch-norm statistics are those of drawn shapes."""
    net = narrow_net(**changes).double()
    recompute_statistics(net, torch.stack([image.pixels for image in shapes_batch(4)[0]]))
    return Detector(net, num_classes, settings, torch.Generator().manual_seed(seed)).double()


def train(model: Detector, images: list[ScaledImage], objects: list[Targets], steps: int, rate: float = 0.001) -> None:
    """Train all parts together on the same images, by Adam with a linear fall of the learning rate to 0."""
    names = trained_names(None, dict(model.named_parameters()), model.body.fixed(model.settings.fixed))
    parameters = [value for name, value in model.named_parameters() if name in names]
    optimizer = torch.optim.Adam(parameters, rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / 10, 1 - step / steps)
        losses = model.losses(images, objects, draws(len(images), step), FEW)
        loss = torch.stack(list(losses.values())).sum() / len(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def ap50(found: Sequence[Found], objects: Sequence[Targets]) -> float:
    """Return the mean over classes of the area below the curve of precision over recall, at an overlap of 0.5."""
    areas = []
    for label in sorted({label for known in objects for label in known.labels.tolist()}):
        hits: list[tuple[float, bool]] = []
        for image, known in zip(found, objects, strict=True):
            left = known.boxes[known.labels == label]
            own = image.labels == label - 1
            for score, box in sorted(
                zip(image.scores[own].tolist(), image.boxes[own], strict=True), key=lambda f: -f[0]
            ):
                shared = overlaps(box[None].to(left), left)[0]
                is_hit = len(left) > 0 and shared.max().item() >= 0.5
                hits.append((score, is_hit))
                if is_hit:
                    left = left[torch.arange(len(left)) != shared.argmax()]
        right = np.cumsum([is_hit for _, is_hit in sorted(hits, key=lambda hit: -hit[0])])
        precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
        total = sum(int((known.labels == label).sum()) for known in objects)
        areas.append(float(np.diff(right, prepend=0) @ precision) / total)
    return float(np.mean(areas))
