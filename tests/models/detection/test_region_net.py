"""R-CNN's net for single regions."""

from __future__ import annotations

import pytest
import torch

from repro.models.detection.boxes import FIXED
from repro.models.detection.region_net import RegionNet
from tests.detectors import narrow_net


@pytest.fixture(scope="module")
def model() -> RegionNet:
    return RegionNet(narrow_net(), 5, torch.Generator().manual_seed(0))


def test_a_region_has_the_classifiers_own_feature_to_the_bit(model: RegionNet) -> None:
    net = narrow_net().eval()
    crops = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    net.fc.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        net(crops)
        assert torch.equal(model.top(model.body(crops)), seen[0])


def test_only_outputs_of_a_regions_own_class_learn_and_boxes_only_from_objects(model: RegionNet) -> None:
    crops = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20]])
    wanted = torch.tensor([[1.0, 0, 11, 10], [5, 5, 9, 9]])
    losses = model.losses(crops, torch.tensor([3, 1]), boxes, torch.tensor([1, 0]), wanted)
    assert losses["scores"].item() == pytest.approx(2 * 0.693, abs=0.1)  # two logits of nearly 0
    of_scores, of_codes = torch.autograd.grad(
        torch.stack(list(losses.values())).sum(), [model.scores.bias, model.codes.bias]
    )
    assert of_scores.nonzero().flatten().tolist() == [1, 3] and of_scores[3] < 0 < of_scores[1]
    assert of_codes.view(5, 4).abs().sum(1).nonzero().flatten().tolist() == [3]


def test_codes_move_the_proposal(model: RegionNet) -> None:
    crops, boxes = torch.randn(2, 3, 64, 64), torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 80]])
    with torch.no_grad():
        logits, codes = model(crops, torch.tensor([4, 0]))
        scores, moved = model.updated(crops, torch.tensor([4, 0]), boxes)
    assert torch.equal(scores, logits) and torch.allclose(FIXED.encode(moved, boxes), codes, atol=1e-5)
