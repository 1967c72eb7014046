"""The test of a trained detector, and its stored detections."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repro.config.science import Science
from repro.data.detection import Detections, DetectionSplit
from repro.data.detection.scaled import normalized, photo_of, resized_photo
from repro.data.imagenet.decode import Photo
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.members import load_own_members
from repro.engine.detection.passes import Pass, Row, run_pass
from repro.engine.detection.prepared import Member, PreparedDetector
from repro.engine.detection.steps import TESTED
from repro.evaluation.detection import coco, ilsvrc, voc
from repro.evaluation.detection.files import write_coco, write_voc
from repro.models.detection.refinement import DetectionSettings, Found, limited_over_set
from repro.models.detection.rpn import TESTING
from repro.models.detection.testing import detect
from repro.results.detection_record import ClassPrecision, DetectionResult
from repro.runtime import distributed
from repro.runtime.device import autocast
from repro.runtime.provenance import write_atomically

log = logging.getLogger(__name__)
FILE = "detections.json"
FOR_SERVERS = {"voc": "comp4", "coco": "coco_results.json"}
"""What the servers of VOC (a folder of a file for each class) and of COCO take, in the folder of a run."""


def run_test(net: PreparedDetector, hooks: DetectionHooks) -> tuple[DetectionResult, list[Detections]] | None:
    """Detect objects in all test images and score the detections; return None if the run was stopped before."""
    settings = net.config.detection
    assert settings is not None
    net.members = distributed.agreed(lambda: load_own_members(net.config, net.classes, net.feed.like))
    every = find_all(net, hooks)
    if every is None:
        return None
    found = [as_arrays(one) for one in limited_over_set(every, net.dataset.num_classes)]
    return scored(net.dataset.eval, found, settings.metric), found


def find_all(net: PreparedDetector, hooks: DetectionHooks) -> list[Found] | None:
    """Return the detections of each test image, or None if the run was stopped and saved those so far."""
    split = net.dataset.eval

    def find_each(positions: Sequence[int]) -> Iterator[Row]:
        for position in positions:
            yield tuple(value.cpu().numpy() for value in find(net, split, position))

    found = run_pass(pass_over_tests(net), find_each, hooks)
    return None if found is None else [Found(*map(torch.from_numpy, row)) for row in found]


def pass_over_tests(net: PreparedDetector) -> Pass:
    """Describe the pass of a detector, or ensemble, over the test images."""
    makers = {"nets": [member.model.state_dict() for member in net.ensemble]}
    return Pass(net.config, TESTED, len(net.dataset.eval), makers, "test")


def find(net: PreparedDetector, split: DetectionSplit, position: int) -> Found:
    """Detect objects in one image of ``split``, at the scales of the test."""
    return find_in(photo_of(split, position), net.ensemble, net.config.science, net.feed.like)


def find_in(photo: Photo, members: Sequence[Member], science: Science, like: Tensor) -> Found:
    """Detect objects in an image at the scales of a detector's test.

    Args:
        members: The detector, and those that its test joins to an ensemble with it (D71).
        science: The settings of the run, whose test this is.
        like: A tensor of the type and device of the weights.
    """
    settings = science.detection
    assert settings is not None
    train_side = science.data.image_size
    # Proposals come from the first view, which is that of training (appendix B).
    sides = [train_side, *(side for side in settings.scales if side != train_side)]
    sides = sides if not settings.scales or train_side in settings.scales else list(settings.scales)
    scaled = [resized_photo(photo, (side, settings.longest_side * side // train_side)) for side in sides]
    views = [
        [normalized(pixels.to(like.device), scale, member.stats, like) for pixels, scale in scaled]
        for member in members
    ]
    limits = TESTING._replace(after=settings.test_proposals)
    with autocast(like.device, science.optim.precision):
        found = detect([member.model for member in members], views, DetectionSettings(refine=settings.refine), limits)
    # The sides of a scaled image are whole numbers, so that a box at its edge may end beyond the original.
    highest = found.boxes.new_tensor([photo.width, photo.height, photo.width, photo.height])
    return Found(found.boxes.clamp(min=0).minimum(highest), found.labels, found.scores)


def as_arrays(found: Found) -> Detections:
    boxes, scores = found.boxes.double().cpu().numpy(), found.scores.double().cpu().numpy()
    return Detections(boxes, found.labels.cpu().numpy(), scores)


def scored(split: DetectionSplit, found: Sequence[Detections], metric: str) -> DetectionResult:
    """Score detections by the metric of a run."""
    total = sum(map(len, found))
    if metric == "coco":
        numbers = {name: percent(value) for name, value in coco.evaluate(split, found).values.items()}
        return DetectionResult(
            split=split.name, images=len(split), metric=metric, map=numbers["AP"], coco=numbers, detections=total
        )
    if metric == "ilsvrc":
        scores = ilsvrc.evaluate(split, found)
    else:
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
    """Write all detections as JSON, in pixels of the original images, and in the files of the set's server.

    In the JSON labels are positions in ``classes``.
    """
    split = net.dataset.eval
    images = {
        name: {"boxes": one.boxes.tolist(), "labels": one.labels.tolist(), "scores": one.scores.tolist()}
        for name, one in zip(split.ids, found, strict=True)
    }
    values = {"run_id": net.config.run_id, "split": split.name, "classes": list(split.classes), "images": images}
    write_atomically(net.config.work_dir / FILE, json.dumps(values) + "\n")
    data, folder = net.config.data.name, net.config.work_dir
    if data == "coco":
        write_coco(folder / FOR_SERVERS[data], split, found)
    elif data == "voc":
        write_voc(folder / FOR_SERVERS[data], split, found)
