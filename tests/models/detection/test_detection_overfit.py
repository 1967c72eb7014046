"""A detector learns a few images by heart."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from repro.models.detection.body import recompute_statistics
from repro.models.detection.detector import Detector
from repro.models.detection.images import ScaledImage, Targets
from repro.models.detection.rpn import Limits
from repro.models.detection.testing import detect
from tests.detectors import SMALL, ap50, narrow_net, shapes_batch, train


@pytest.mark.slow
def test_a_detector_finds_the_shapes_that_it_was_trained_on():
    exact, known = shapes_batch(8, 128)
    images = [ScaledImage(image.pixels.float()) for image in exact]
    objects = [Targets(each.boxes.float(), each.labels, each.crowds.float()) for each in known]
    net = narrow_net()
    recompute_statistics(net, torch.stack([image.pixels for image in images]))
    head = dataclasses.replace(SMALL.head, background=0.0)
    model = Detector(net, 3, dataclasses.replace(SMALL, head=head), torch.Generator().manual_seed(0))
    before = ap50([detect([model], [[image]], limits=Limits(None, 50)) for image in images], objects)
    train(model, images, objects, steps=80)
    after = ap50([detect([model], [[image]], limits=Limits(None, 50)) for image in images], objects)
    assert before < 0.3
    assert after > 0.9


def test_average_precision_is_that_of_a_hand_made_case():
    from repro.models.detection.refinement import Found
    from tests.detectors import known

    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60], [50, 50, 60, 60]])
    found = Found(boxes, torch.tensor([0, 0, 0, 1]), torch.tensor([0.9, 0.8, 0.7, 0.9]))
    # Of class 1: found, found twice, found; of class 2: a wrong one, and none of two.
    objects = [known([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10]], [1, 1, 2])]
    assert ap50([found], objects) == pytest.approx((0.5 + 0.5 * 2 / 3) / 2)
