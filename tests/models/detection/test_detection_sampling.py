"""Random choices of anchors and regions."""

from __future__ import annotations

import pytest
import torch

from repro.models.detection.rpn import anchor_labels
from repro.models.detection.sampling import ImageDraw, chosen, dropped, sampled
from tests.detectors import detector, draws, shapes_batch

LABELS = torch.tensor([1] * 30 + [0] * 200 + [-1] * 100)[
    torch.randperm(330, generator=torch.Generator().manual_seed(0))
]


def test_at_most_the_limit_is_chosen_among_the_candidates():
    values = torch.tensor([0.5, 0.1, 0.1, 0.9, 0.0])
    candidates = torch.tensor([True, True, True, True, False])
    assert chosen(candidates, values, 2).tolist() == [False, True, True, False, False]
    assert chosen(candidates, values, 9).tolist() == candidates.tolist()
    assert not chosen(candidates, values, 0).any()


@pytest.mark.parametrize(
    ("size", "most", "positive", "negative"), [(64, 16, 16, 48), (64, 32, 30, 34), (256, 128, 30, 200)]
)
def test_background_fills_the_batch(size, most, positive, negative):
    used = sampled(LABELS, ImageDraw(0, 0, "a"), "anchors", size, most)
    assert [int((used & (label == LABELS)).sum()) for label in (1, 0, -1)] == [positive, negative, 0]


def test_draws_depend_on_seed_step_image_and_purpose_only():
    def used(seed=0, step=5, image="a", purpose="anchors") -> list[bool]:
        return sampled(LABELS, ImageDraw(seed, step, image), purpose, 64, 16).tolist()

    expected = used()
    torch.manual_seed(123)
    assert used() == expected
    others = [used(seed=1), used(step=6), used(image="b"), used(purpose="regions")]
    assert all(other != expected for other in others)


def test_training_draws_nothing_from_the_global_generator():
    model, (images, objects) = detector(), shapes_batch(1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model.losses(images, objects, draws(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_keeps_the_mean():
    features = torch.ones(200, 100)
    values = dropped(features, ImageDraw(0, 0, "a"), "fc6", 0.25)
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert values.mean().item() == pytest.approx(1, abs=0.02)
    assert dropped(features, None, "fc6", 0.25) is features


def test_any_number_of_ranks_draws_the_same_and_adds_up_to_the_same_losses(monkeypatch):
    model, (images, objects) = detector(), shapes_batch(8, 64)
    drawn: list[torch.Tensor] = []

    def recorded(*arguments):
        drawn.append(sampled(*arguments))
        return drawn[-1]

    monkeypatch.setattr("repro.models.detection.rpn.sampled", recorded)
    monkeypatch.setattr("repro.models.detection.head.sampled", recorded)

    def of_ranks(count: int) -> tuple[dict[str, float], set[tuple[bool, ...]]]:
        drawn.clear()
        totals: dict[str, float] = {}
        share = 8 // count
        for first in range(0, 8, share):
            part = slice(first, first + share)
            with torch.no_grad():
                losses = model.losses(images[part], objects[part], draws(share, step=7, first=first))
            totals = {name: totals.get(name, 0.0) + loss.item() for name, loss in losses.items()}
        return totals, {tuple(used.tolist()) for used in drawn}

    expected, choices = of_ranks(1)
    assert len(choices) == 16 and all(loss > 0.1 for loss in expected.values())
    for count in (2, 4):
        losses, others = of_ranks(count)
        assert others == choices
        assert losses == pytest.approx(expected, rel=0, abs=1e-9)


def test_the_sampled_anchors_change_with_the_step():
    model, (images, objects) = detector(), shapes_batch(1)
    features = model.maps(images)[0]
    labels, _ = anchor_labels(model.rpn.anchors(features), images[0].size, objects[0], model.settings.rpn)
    first, second = (sampled(labels, draws(1, step)[0], "anchors", 64, 32) for step in (0, 1))
    assert not torch.equal(first, second)
