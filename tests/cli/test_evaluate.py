"""Evaluation compared with a written-out loop, and recomputed batch-norm statistics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.data.augment import PixelStats, normalize
from repro.data.in_memory import MemoryImages
from repro.evaluation.single_crop import Evaluator, recompute_batch_norm

STATS = PixelStats(torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_every_image_is_counted_once_whatever_the_batch(batch_size: int) -> None:
    model = net()
    images = torch.randint(0, 256, (101, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 10, (101,))
    counts = Evaluator(model, MemoryImages(images, labels), STATS, batch_size, "fp32")()
    model.eval()
    logits = torch.cat([model(normalize(image[None], STATS)) for image in images])
    assert counts.images == 101
    assert counts.errors == int((logits.argmax(1) != labels).sum())
    assert counts.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_the_mode_of_the_net_is_left_as_it_was() -> None:
    for training in (True, False):
        model = net().train(training)
        images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
        Evaluator(model, MemoryImages(images, labels), STATS, 2, "fp32")()
        assert model.training is training


def test_recomputed_statistics_are_plain_averages_over_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    batches = [torch.randn(16, 3, 4, 4) * (i + 1) + i for i in range(5)]
    recompute_batch_norm(model, lambda step: (batches[step], torch.zeros(16)), 5)
    layer = model[0]
    assert isinstance(layer, nn.BatchNorm2d)
    means = torch.stack([b.mean((0, 2, 3)) for b in batches])
    variances = torch.stack([b.var((0, 2, 3)) for b in batches])
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert torch.allclose(layer.running_mean, means.mean(0), atol=1e-5)
    assert torch.allclose(layer.running_var, variances.mean(0), rtol=1e-4)
    assert layer.momentum == 0.1, "training goes on with its own momentum"


@pytest.mark.parametrize("batch_size", [7, 101])
def test_a_graph_gives_every_batch_its_own_counts(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake recording, whose results share their memory in all replays."""

    def record(function: Any) -> tuple[Any, list[torch.Tensor]]:
        results = function()

        def replay() -> None:
            for place, value in zip(results, function(), strict=True):
                place.copy_(value)

        return SimpleNamespace(replay=replay), results

    monkeypatch.setattr("repro.evaluation.single_crop.record_graph", record)
    images = torch.randint(0, 256, (101, 3, 8, 8), dtype=torch.uint8)
    evaluate = Evaluator(net(), MemoryImages(images, torch.randint(0, 10, (101,))), STATS, batch_size, "fp32")
    expected = evaluate()
    evaluate._wants_graph = True
    assert evaluate() == evaluate() == expected


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_the_five_best_answers_are_counted_beside_the_best(batch_size: int) -> None:
    model = net()
    images = torch.randint(0, 256, (101, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 10, (101,))
    counts = Evaluator(model, MemoryImages(images, labels), STATS, batch_size, "fp32", top5=True)()
    logits = model.eval()(normalize(images, STATS))
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert (counts.errors, counts.top5_errors) == (int((rank >= 1).sum()), int((rank >= 5).sum()))
    assert counts.top5_errors is not None
    assert 0 < counts.top5_errors < counts.errors
    assert Evaluator(model, MemoryImages(images, labels), STATS, batch_size, "fp32")().top5_errors is None
