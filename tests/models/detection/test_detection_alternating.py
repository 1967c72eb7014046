"""Four-step alternating training."""

from __future__ import annotations

import pytest
import torch

from repro.models.detection.alternating import Step, initial_state, trained_names
from repro.models.detection.detector import Detector
from repro.models.detection.rpn import TRAINING
from tests.detectors import detector, draws, shapes_batch

NAMES = ["body.conv1.weight", "body.stages.0.0.conv1.weight", "rpn.conv.weight", "head.top.stage.0.conv1.weight"]
NAMES += ["head.scores.bias"]


@pytest.mark.parametrize(
    ("step", "trained"), [(1, {0, 1, 2}), (2, {0, 1, 3, 4}), (3, {2}), (4, {3, 4}), (None, {0, 1, 2, 3, 4})]
)
def test_each_step_trains_its_parts(step, trained):
    assert trained_names(step, NAMES) == [name for number, name in enumerate(NAMES) if number in trained]


def test_fixed_layers_of_the_body_are_never_trained():
    assert trained_names(2, NAMES, ["conv1.weight"]) == [NAMES[1], *NAMES[3:]]


State = dict[str, torch.Tensor]


def trained(model: Detector, step: Step, proposals: list[torch.Tensor]) -> State:
    """Train two SGD steps on drawn shapes and return the state."""
    images, objects = shapes_batch(2, size=64)
    parameters = dict(model.named_parameters())
    names = trained_names(step, parameters)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
    optimizer = torch.optim.SGD([parameters[name] for name in names], 0.01, 0.9)
    for number in range(2):
        maps = model.maps(images)
        if step in (1, 3):
            losses = model.rpn_losses(maps, images, objects, draws(2, number))
        else:
            losses = model.head_losses(maps, images, proposals, objects, draws(2, number))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


def part(state: State, prefix: str) -> State:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


def is_same(one: State, other: State, prefix: str) -> bool:
    return all(torch.equal(value, other[name]) for name, value in part(one, prefix).items())


@pytest.mark.slow
def test_after_step_4_both_nets_share_the_layers_of_step_2():
    model, images = detector(), shapes_batch(2, size=64)[0]
    new = {name: value.clone() for name, value in model.state_dict().items()}
    starts: dict[Step, State] = {}
    ends: dict[Step, State] = {}
    proposals: list[torch.Tensor] = []
    steps: tuple[Step, ...] = (1, 2, 3, 4)
    for step in steps:
        starts[step] = initial_state(step, new, ends)
        model.load_state_dict(starts[step])
        ends[step] = trained(model, step, proposals)
        if step in (1, 3):
            proposals = [found.boxes for found in model.propose(model.maps(images), images, TRAINING)]
    # Steps 1 and 2 train their own bodies from the same pre-trained one.
    assert is_same(starts[1], new, "") and is_same(starts[2], new, "body") and is_same(starts[2], new, "head")
    for step in (1, 2):
        assert not torch.equal(ends[step]["body.conv1.weight"], new["body.conv1.weight"])
    assert not is_same(ends[1], ends[2], "body")
    # Steps 3 and 4 leave the layers that both nets share.
    for step in (3, 4):
        assert is_same(ends[step], ends[2], "body")
    assert is_same(starts[3], new, "rpn") and not is_same(ends[3], new, "rpn")
    assert is_same(ends[4], ends[3], "rpn")
    assert is_same(starts[4], ends[2], "head") and not is_same(ends[4], ends[2], "head")
    # One body serves both nets of the final detector.
    assert model.rpn.conv.in_channels == model.body.channels
    assert not any("body" in name for name, _ in [*model.rpn.named_modules(), *model.head.named_modules()])
