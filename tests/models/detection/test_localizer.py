"""The per-class region proposal network."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from repro.models.detection.localizer import Localizer, LocalizerSettings, anchor_labels, likeliest, voted
from repro.models.detection.sampling import ImageDraw
from tests.detectors import narrow_net

SETTINGS = LocalizerSettings(scales=(1, 2, 3.5), width=8)
CLASSES = 5


@pytest.fixture(scope="module")
def model() -> Localizer:
    return Localizer(narrow_net(), CLASSES, SETTINGS, torch.Generator().manual_seed(0)).double()


def test_outputs_are_those_of_1x1_convolutions_for_the_asked_classes(model: Localizer) -> None:
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([[3, 0], [1, 3]])
    scores, codes, anchors = model(images, classes)
    x = F.relu(model.conv(model.body(images)))
    for layer, found, values in ((model.scores, scores[..., None], 1), (model.codes, codes, 4)):
        whole = F.conv2d(x, layer.weight[:, :, None, None], layer.bias)  # (N, K * A * values, 4, 3)
        whole = whole.view(2, CLASSES, 9, values, 4, 3).permute(0, 1, 4, 5, 2, 3).reshape(2, CLASSES, 108, values)
        wanted = torch.stack([whole[image, own] for image, own in enumerate(classes)])
        assert torch.allclose(found, wanted, atol=1e-12)
    assert anchors.shape == (108, 4) and not torch.equal(codes[0, 0], codes[1, 1])


def test_gradients_of_a_class_that_many_images_have_are_the_same_bits_each_time() -> None:
    model = Localizer(narrow_net(), 3, dataclasses.replace(SETTINGS, width=256), torch.Generator().manual_seed(0))
    images = torch.randn(48, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(48)[:, None] % 3
    found = []
    for _ in range(3):
        scores, codes, _ = model(images, classes)
        found.append(
            torch.autograd.grad(scores.sin().sum() + codes.cos().sum(), [model.scores.weight, model.codes.weight])
        )
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(other, found[0], strict=True))


def test_anchors_that_leave_the_crop_learn_and_a_crop_without_boxes_does_not() -> None:
    anchors = torch.tensor([[-4.0, -4, 12, 12], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 20]])
    labels, nearest = anchor_labels(anchors, torch.tensor([[40.0, 40, 50, 50], [-4, -4, 12, 11]]), SETTINGS)
    assert labels.tolist() == [1, -1, 0, -1] and nearest.tolist()[0] == 1
    labels, _ = anchor_labels(anchors, torch.zeros(0, 4), SETTINGS)
    assert labels.tolist() == [-1] * 4


def test_only_the_outputs_of_an_images_own_class_learn_from_eight_anchors(model: Localizer) -> None:
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    box = torch.tensor([[8.0, 8, 40, 40]], dtype=torch.float64)
    draw = [ImageDraw(0, 0, "a")]
    losses = model.losses(images, torch.tensor([2]), [box], draw)
    (gradient,) = torch.autograd.grad(losses["scores"], model.scores.bias)
    assert gradient.view(CLASSES, -1).abs().sum(1).nonzero().flatten().tolist() == [2]
    # All logits are nearly 0 at first: each of eight anchors loses log 2.
    assert losses["scores"].item() == pytest.approx(0.693, abs=0.05)
    empty = model.losses(images, torch.tensor([2]), [box[:0]], draw)
    assert [value.item() for value in empty.values()] == [0, 0]
    again = model.losses(images, torch.tensor([2]), [box], [dataclasses.replace(draw[0], step=1)])
    assert again["scores"].item() != losses["scores"].item()


def test_the_box_is_that_of_the_highest_score_of_its_class(model: Localizer) -> None:
    model = copy.deepcopy(model)
    torch.nn.init.zeros_(model.codes.weight)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    classes = torch.tensor([[4, 1], [0, 0]])
    scores, _, anchors = model(images, classes)
    found = likeliest(*model.candidates(images, classes), vote=False)
    assert torch.equal(found.scores, scores.amax(2)) and torch.equal(found.boxes[1, 0], found.boxes[1, 1])
    # Codes are 0, so that boxes are the anchors, cut to the image.
    assert torch.allclose(found.boxes, anchors[scores.argmax(2)].clamp(0, 64))


def test_boxes_near_the_best_vote_by_their_scores() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [50, 50, 60, 60]])
    weights = torch.tensor([0.75, 0.25, 1.0, 1.0])
    assert voted(boxes[0], boxes, weights).tolist() == [0, 0, 10, 9]
    empty = torch.tensor([5.0, 5, 5, 5])
    assert voted(empty, boxes, weights).tolist() == empty.tolist()
