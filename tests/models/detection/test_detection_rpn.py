"""Targets, losses and proposals of the region proposal network."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from repro.models.detection.boxes import UNNORMALIZED, BoxCoding
from repro.models.detection.images import targets
from repro.models.detection.rpn import (
    RPN,
    TESTING,
    TRAINING,
    Limits,
    RPNSettings,
    anchor_codes,
    anchor_labels,
    proposed,
)
from repro.models.detection.sampling import sampled
from tests.detectors import draws, known

SETTINGS = RPNSettings()
SIZE = (100, 100)


def labels_of(anchors, objects, **changes) -> list[int]:
    boxes = torch.tensor(anchors, dtype=torch.float64)
    return anchor_labels(boxes, SIZE, objects, dataclasses.replace(SETTINGS, **changes))[0].tolist()


def test_overlaps_of_0_7_are_positive_and_below_0_3_negative():
    # The object has 20x20 pixels; each anchor is a part of its width w, so its overlap is w / 20.
    anchors = [[0, 0, w, 20] for w in (20, 14, 13, 6, 5)] + [[50, 50, 60, 60]]
    assert labels_of(anchors, known([[0, 0, 20, 20]])) == [1, 1, -1, -1, 0, 0]


def test_the_best_anchors_of_an_object_are_positive_whatever_their_overlap():
    anchors = [[0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 8, 10], [50, 50, 60, 60]]
    # The first two overlap with the same quarter of the first object; no anchor overlaps with the second one.
    assert labels_of(anchors, known([[0, 0, 20, 20], [80, 80, 90, 90]])) == [1, 1, 0, 0]


def test_anchors_that_leave_the_image_are_ignored():
    anchors = [[-1, 0, 20, 20], [80, 80, 100, 101], [80, 80, 100, 100], [0, 0, 12, 20]]
    assert labels_of(anchors, known([[0, 0, 20, 20], [80, 80, 100, 100]])) == [-1, -1, 1, 1]


def test_an_anchor_learns_the_object_with_which_it_overlaps_most():
    anchors = torch.tensor([[0.0, 0, 20, 20]], dtype=torch.float64)
    objects = known([[0, 0, 20, 10], [0, 0, 20, 19], [0, 18, 20, 20]])
    labels, nearest = anchor_labels(anchors, SIZE, objects, SETTINGS)
    assert (labels.tolist(), nearest.tolist()) == ([1], [1])


def test_crowds_are_neither_objects_nor_background():
    anchors = [[0, 0, 20, 20], [0, 0, 20, 30], [60, 60, 80, 80], [5, 5, 15, 15]]
    objects = known([[5, 5, 15, 15]], crowds=[[0, 0, 20, 20]])
    assert labels_of(anchors, objects) == [-1, 0, 0, 1]


def test_an_image_without_objects_is_background():
    assert labels_of([[0, 0, 20, 20], [0, 0, 20, 120]], known([])) == [0, -1]


def small_rpn(**changes) -> RPN:
    settings = RPNSettings(scales=(1, 2), hidden=8, least_side=4, **changes)
    return RPN(4, settings, torch.Generator().manual_seed(0)).double()


def test_the_losses_are_those_of_the_paper():
    rpn = small_rpn(batch=32, coding=BoxCoding((0.1, 0, 0, 0), (0.5, 0.5, 0.2, 0.2)))
    features = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    objects, draw = known([[10, 10, 40, 40], [50, 60, 70, 80]]), draws(1)[0]
    score_loss, box_loss = rpn.losses(features, (96, 96), objects, draw)
    scores, codes = rpn(features)
    anchors = rpn.anchors(features)
    labels, nearest = anchor_labels(anchors, (96, 96), objects, rpn.settings)
    used = sampled(labels, draw, "anchors", 32, 16)
    assert used.sum() == 32 and 0 < (used & (labels == 1)).sum() < 16
    expected_scores = expected_boxes = 0.0
    for number in torch.where(used)[0].tolist():
        background, foreground = scores[0, number].tolist()
        own = foreground if labels[number] else background
        expected_scores += math.log(math.exp(background) + math.exp(foreground)) - own
        if labels[number]:
            box, anchor = objects.boxes[nearest[number]], anchors[number]
            wanted = rpn.settings.coding.encode(box[None], anchor[None])[0]
            for error in (codes[0, number] - wanted).abs().tolist():
                expected_boxes += error**2 / 2 if error < 1 else error - 0.5
    assert score_loss.item() == pytest.approx(expected_scores / 32)
    assert box_loss.item() == pytest.approx(10 * expected_boxes / 36)  # 6x6 positions
    rpn.settings = dataclasses.replace(rpn.settings, box_norm="batch")
    assert rpn.losses(features, (96, 96), objects, draw)[1].item() == pytest.approx(expected_boxes / 32)


def test_scores_and_boxes_belong_to_the_same_anchor():
    rpn = small_rpn()
    features = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores, codes = rpn(features)
    hidden = F.relu(rpn.conv(features))
    # Anchor 4 of the position in row 2 and column 3.
    number = (2 * 5 + 3) * 6 + 4
    assert torch.equal(scores[1, number], rpn.scores(hidden)[1, 8:10, 2, 3])
    assert torch.equal(codes[1, number], rpn.codes(hidden)[1, 16:20, 2, 3])


def test_proposals_are_selected_by_size_score_and_overlap():
    boxes = torch.tensor([[0.0, 0, 30, 30], [1, 0, 31, 30], [0, 0, 15, 60], [40, 40, 80, 80], [60, 0, 90, 20]])
    scores = torch.tensor([0.8, 0.9, 1.0, 0.3, 0.3])
    found = proposed(boxes, scores, 1.0, SETTINGS, TESTING)
    assert found.boxes.tolist() == boxes[[1, 3, 4]].tolist()
    assert found.scores.tolist() == pytest.approx([0.9, 0.3, 0.3])
    # 16 pixels of the original image are 32 of one twice as large.
    assert proposed(boxes, scores, 2.0, SETTINGS, TESTING).boxes.tolist() == boxes[[3]].tolist()
    assert proposed(boxes, scores, 1.0, SETTINGS, Limits(2, 300)).boxes.tolist() == boxes[[1]].tolist()
    assert proposed(boxes, scores, 1.0, SETTINGS, Limits(None, 1)).boxes.tolist() == boxes[[1]].tolist()


def test_the_limits_are_those_of_the_release():
    assert (TRAINING, TESTING) == ((None, 2000), (6000, 300))


def test_proposals_lie_within_the_image():
    rpn = small_rpn()
    features = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = rpn.proposals(features, (90, 85))
    assert len(found.boxes) > 5
    assert found.boxes.amin() == 0 and found.boxes[:, 2].max() == 85 and found.boxes[:, 3].max() == 90
    assert (found.scores.diff() <= 0).all()


def test_the_coding_is_measured_on_positive_anchors():
    rpn = small_rpn()
    objects = [known([[10, 10, 40, 40]]), known([]), known([[50, 60, 66, 76], [8, 8, 40, 40]])]
    codes = anchor_codes(rpn, [(6, 6)] * 3, [(96, 96)] * 3, objects)
    features = torch.zeros(1, 4, 6, 6, dtype=torch.float64)
    count = 0
    for number in (0, 2):
        labels, nearest = anchor_labels(rpn.anchors(features), (96, 96), objects[number], rpn.settings)
        positive = rpn.anchors(features)[labels == 1]
        expected = UNNORMALIZED.encode(objects[number].boxes[nearest[labels == 1]], positive)
        assert torch.equal(codes[count : count + len(positive)], expected)
        count += len(positive)
    assert len(codes) == count > 2


def test_difficult_objects_are_left_out_and_labels_count_from_1():
    import numpy as np

    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 15, 15]], float)
    learned = targets(boxes, np.array([0, 1, 2]), np.array([False, True, False]), np.array([False, False, True]), 2.0)
    assert learned.boxes.tolist() == [[0, 0, 20, 20]]
    assert learned.labels.tolist() == [1]
    assert learned.crowds.tolist() == [[10, 10, 30, 30]]
