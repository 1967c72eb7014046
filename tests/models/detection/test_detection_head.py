"""Targets, losses and outputs of the region head."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from repro.models.detection.boxes import FIXED
from repro.models.detection.head import HeadSettings, region_codes, region_labels, region_targets
from repro.models.detection.images import Targets, targets
from tests.detectors import SMALL, detector, draws, known, shapes_batch

SETTINGS = HeadSettings()


def labels_of(boxes, objects, **changes) -> list[int]:
    tensor = torch.tensor(boxes, dtype=torch.float64)
    return region_labels(tensor, objects, dataclasses.replace(SETTINGS, **changes))[0].tolist()


# Each region is a part of the object of 20x20 pixels, of width w, so its overlap is w / 20.
PARTS = [[0, 0, w, 20] for w in (20, 10, 9.9, 2, 1.9)] + [[50, 50, 60, 60]]


def test_half_an_object_is_foreground_and_a_tenth_background():
    assert labels_of(PARTS, known([[0, 0, 20, 20]], [7])) == [7, 7, 0, 0, -1, -1]


def test_cocos_background_begins_at_0():
    assert labels_of(PARTS, known([[0, 0, 20, 20]], [7]), background=0.0) == [7, 7, 0, 0, 0, 0]


def test_crowds_are_neither_classes_nor_background():
    objects = known([[40, 40, 60, 60]], [2], crowds=[[0, 0, 20, 20]])
    assert labels_of([[0, 0, 20, 20], [0, 0, 20, 30], [40, 40, 60, 60]], objects, background=0.0) == [-1, 0, 2]
    assert labels_of([[0, 0, 20, 20]], known([], crowds=[[0, 0, 20, 20]]), background=0.0) == [-1]


def test_a_quarter_of_the_batch_is_of_objects_whose_own_boxes_are_among_the_regions():
    near = torch.tensor([[float(n % 5), 0, 20, 20] for n in range(30)], dtype=torch.float64)
    far = torch.tensor([[10.0, 0, 30 + n % 7, 20] for n in range(90)], dtype=torch.float64)
    objects = known([[0, 0, 20, 20]], [3])
    _, labels, wanted = region_targets(torch.cat([near, far]), objects, SETTINGS, draws(1)[0])
    assert ((labels == 3).sum(), (labels == 0).sum()) == (16, 48)
    assert (wanted == objects.boxes).all()
    alone = region_targets(far[:3], objects, SETTINGS, draws(1)[0])
    assert alone.boxes[-1].tolist() == [0, 0, 20, 20] and alone.labels.tolist() == [0, 0, 0, 3]


def test_the_losses_take_the_box_of_the_regions_class():
    model, (images, objects) = detector(), shapes_batch(2)
    head = model.head
    torch.nn.init.normal_(head.codes.weight, std=0.05, generator=torch.Generator().manual_seed(3))
    maps = model.maps(images)
    regions = [
        region_targets(o.boxes.repeat(4, 1) + torch.arange(len(o.boxes) * 4)[:, None], o, head.settings, draw)
        for o, draw in zip(objects, draws(2), strict=True)
    ]
    score_loss, box_loss = head.losses(maps, [image.size for image in images], regions, draws(2))
    expected_scores = expected_boxes = 0.0
    classes = set()
    for features, image, (boxes, labels, wanted) in zip(maps, images, regions, strict=True):
        scores, codes = head.predict(head.features([features], [image.size], [boxes]))
        for row, label in enumerate(labels.tolist()):
            exponentials = [math.exp(value) for value in scores[row].tolist()]
            expected_scores -= math.log(exponentials[label] / sum(exponentials))
            classes.add(label)
            if label:
                code = FIXED.encode(wanted[row], boxes[row])
                for error in (codes[row, label] - code).abs().tolist():
                    expected_boxes += error**2 / 2 if error < 1 else error - 0.5
    assert len(classes) == 4
    assert score_loss.item() == pytest.approx(expected_scores / SMALL.head.batch)
    assert box_loss.item() == pytest.approx(expected_boxes / SMALL.head.batch)


def test_regions_have_probabilities_and_a_box_within_the_image_for_each_class():
    model, (images, _) = detector(), shapes_batch(1)
    boxes = torch.tensor([[10.0, 10, 50, 50], [60, 60, 96, 96]], dtype=torch.float64)
    torch.nn.init.normal_(model.head.codes.weight, std=1, generator=torch.Generator().manual_seed(3))
    features = model.head.features(model.maps(images), [(96, 96)], [boxes])
    found = model.head.regions(features, boxes, (96, 90))
    assert found.scores.sum(1).tolist() == pytest.approx([1, 1])
    assert found.boxes.shape == (2, 4, 4)
    assert found.boxes[..., 2].max() == 90 and found.boxes.min() == 0
    codes = model.head.predict(features)[1][0, 2]
    assert torch.allclose(
        found.boxes[0, 2], FIXED.decode(codes, boxes[0]).clamp(0, 96).minimum(boxes.new_tensor([90, 96, 90, 96]))
    )


def test_context_appends_the_feature_of_the_whole_image():
    settings = dataclasses.replace(SMALL, head=dataclasses.replace(SMALL.head, context=True))
    model, plain, (images, _) = detector(settings), detector(), shapes_batch(2)
    maps, sizes = model.maps(images), [image.size for image in images]
    boxes = [
        torch.tensor(rows, dtype=torch.float64) for rows in ([[10.0, 10, 50, 50], [0, 0, 90, 30]], [[60.0, 60, 96, 96]])
    ]
    features = model.head.features(maps, sizes, boxes)
    regions = plain.head.features(maps, sizes, boxes)
    whole = plain.head.features(maps, sizes, [torch.tensor([[0.0, 0, 96, 96]]).double()] * 2)
    assert features.shape == (3, 256)
    assert torch.allclose(features[:, :128], regions)
    assert torch.allclose(features[:, 128:], whole[[0, 0, 1]])
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters()) == 128 * 4 * 5


def test_the_coding_is_measured_on_regions_of_objects():
    objects = [known([[0, 0, 20, 20]]), known([])]
    proposals = [torch.tensor([[0.0, 0, 10, 20], [0, 0, 5, 5]]).double(), torch.tensor([[0.0, 0, 5, 5]]).double()]
    (codes,) = region_codes(proposals, objects, SETTINGS).tolist()
    assert codes == pytest.approx([0.5, 0, math.log(2), 0])


NOTHING = known([])
DIFFICULT = targets(
    np.array([[0.0, 0, 40, 40]]), np.array([1]), np.array([True]), np.array([False]), like=NOTHING.boxes
)
CROWD = known([], crowds=[[0, 0, 64, 64]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "objects", [[NOTHING] * 2, [DIFFICULT] * 2, [CROWD] * 2, [NOTHING, None]], ids=["none", "difficult", "crowd", "one"]
)
@pytest.mark.parametrize("background", [0.1, 0.0])
def test_images_without_objects_to_learn_have_finite_losses(objects: list[Targets | None], background):
    settings = dataclasses.replace(SMALL, head=dataclasses.replace(SMALL.head, background=background))
    model, (images, learned) = detector(settings), shapes_batch(2, 64)
    losses = model.losses(images, [known or real for known, real in zip(objects, learned, strict=True)], draws(2))
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    is_learned = objects[1] is None
    assert bool(losses["rpn_boxes"] > 0) == bool(losses["head_boxes"] > 0) == is_learned
    assert bool(losses["rpn_scores"] > 0) == (objects[0] is not CROWD)
