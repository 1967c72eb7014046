"""The test of a trained detector, and its stored detections."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repro.data.detection import Detections, DetectionSplit
from repro.data.detection.scaled import scaled_image
from repro.engine.detection.prepared import PreparedDetector
from repro.evaluation.detection import coco, voc
from repro.models.detection.refinement import DetectionSettings, Found, limited_over_set
from repro.models.detection.rpn import TESTING
from repro.models.detection.testing import detect
from repro.results.detection_record import ClassPrecision, DetectionResult
from repro.runtime import distributed
from repro.runtime.device import autocast
from repro.runtime.progress import Display
from repro.runtime.provenance import write_atomically

log = logging.getLogger(__name__)
FILE = "detections.json"


def run_test(net: PreparedDetector) -> tuple[DetectionResult, list[Detections]]:
    """Detect objects in all test images, each rank in its share of them, and score the detections."""
    settings = net.config.detection
    assert settings is not None
    found = [as_arrays(one) for one in limited_over_set(find_all(net), net.dataset.num_classes)]
    return scored(net.dataset.eval, found, settings.metric), found


@dataclass(frozen=True)
class Share:
    """Detections of one image, as they travel between ranks."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def find_all(net: PreparedDetector) -> list[Found]:
    """Return the detections of each test image."""
    split, count = net.dataset.eval, distributed.size()
    display = Display(net.config.execution.progress if distributed.is_first() else "none", len(split))
    own = []
    for done, position in enumerate(range(distributed.rank(), len(split), count), start=1):
        found = find(net, split, position)
        own.append(Share(found.boxes.cpu().numpy(), found.labels.cpu().numpy(), found.scores.cpu().numpy()))
        if display.is_due():
            text = f"test: {min(done * count, len(split)):,} of {len(split):,} images"
            display.show(done * count, [text], [text])
    display.close()
    every = distributed.everyone(own)
    shares = [every[position % count][position // count] for position in range(len(split))]
    return [Found(*map(torch.from_numpy, (one.boxes, one.labels, one.scores))) for one in shares]


def find(net: PreparedDetector, split: DetectionSplit, position: int) -> Found:
    """Detect objects in one image of ``split``, at the scales of the test."""
    settings = net.config.detection
    assert settings is not None
    train_side = net.config.data.image_size
    # Proposals come from the first view, which is that of training (appendix B).
    sides = [train_side, *(side for side in settings.scales if side != train_side)]
    sides = sides if not settings.scales or train_side in settings.scales else list(settings.scales)
    views = []
    for side in sides:
        longest = settings.longest_side * side // train_side
        views.append(scaled_image(split, position, (side, longest), net.feed.stats, net.feed.like))
    limits = TESTING._replace(after=settings.test_proposals)
    with autocast(net.device, net.config.optim.precision):
        found = detect([net.model], views, DetectionSettings(refine=settings.refine), limits)
    height, width = split.sizes[position].tolist()
    # The sides of a scaled image are whole numbers, so that a box at its edge may end beyond the original.
    highest = found.boxes.new_tensor([width, height, width, height])
    return Found(found.boxes.clamp(min=0).minimum(highest), found.labels, found.scores)


def as_arrays(found: Found) -> Detections:
    return Detections(found.boxes.double().numpy(), found.labels.numpy(), found.scores.double().numpy())


def scored(split: DetectionSplit, found: Sequence[Detections], metric: str) -> DetectionResult:
    """Score detections by the metric of a run."""
    total = sum(map(len, found))
    if metric == "coco":
        numbers = {name: percent(value) for name, value in coco.evaluate(split, found).values.items()}
        return DetectionResult(
            split=split.name, images=len(split), metric=metric, map=numbers["AP"], coco=numbers, detections=total
        )
    scores = voc.evaluate(split, found, "voc07" if metric == "voc07" else "voc12")
    if note := scores.note():
        log.info(f"  {note}")
    classes = tuple(
        ClassPrecision(name=name, ap=percent(float(value)))
        for name, value in zip(scores.classes, scores.precisions, strict=True)
    )
    known = [one.ap for one in classes if one.ap is not None]
    return DetectionResult(
        split=split.name,
        images=len(split),
        metric=metric,
        map=sum(known) / len(known) if known else None,
        classes=classes,
        detections=total,
    )


def percent(share: float) -> float | None:
    return None if math.isnan(share) else 100 * share


def write_detections(net: PreparedDetector, found: Sequence[Detections]) -> None:
    """Write all detections as JSON, in pixels of the original images; labels are positions in ``classes``."""
    split = net.dataset.eval
    images = {
        name: {"boxes": one.boxes.tolist(), "labels": one.labels.tolist(), "scores": one.scores.tolist()}
        for name, one in zip(split.ids, found, strict=True)
    }
    values = {"run_id": net.config.run_id, "split": split.name, "classes": list(split.classes), "images": images}
    write_atomically(net.config.work_dir / FILE, json.dumps(values) + "\n")
