"""One, two and four ranks train the same localizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repro.config.run import RunConfig
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.localization.run import prepare_localizer, run_localizer, train_localizer
from repro.engine.optim import build_optimizer
from repro.engine.resume import claim_folder
from repro.runtime import distributed
from tests.localizer_runs import boxed, boxes_of, localizer_config
from tests.ranks import on_ranks
from tests.runs import StopAfter


def train_double(of: RunConfig) -> dict[str, Any]:
    """Train in float64 on this rank; return weights, losses and boxes of the test images."""
    distributed.on_first(lambda: claim_folder(of))
    net = prepare_localizer(of, boxed(of))
    for one in (net.model, *(proposer.model for proposer in getattr(net, "proposers", ()))):
        one.double()
    net.feed.like = net.feed.like.double()
    net.optimizer = build_optimizer(net.model, of.optim)
    assert train_localizer(net, DetectionHooks())
    labels = net.dataset.eval.photos.labels[:, None]
    views = ("dense",) if of.proposals_of else ("1crop", "dense")
    return {
        "weights": net.model.state_dict(),
        "losses": net.state.losses,
        "boxes": [boxes_of(net, labels, view) for view in views],
    }


WORDS = ("optim.steps=2", "optim.milestones=[1]", "data.test_images=5", "localization.scales=[64]")
METHODS = ("rpn", "rcnn")


def both_of(folder: Path, method: str) -> RunConfig:
    """Return the run of a method, with a finished localizer of the same settings beside it for ``rcnn``."""
    of = localizer_config(folder, *WORDS, f"localization.method={method}")
    if method == "rcnn":
        before = localizer_config(folder, *WORDS)
        run_localizer(before, boxed(before), StopAfter(None))
    return of


@pytest.fixture(scope="module", params=METHODS)
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A method, and the result of one rank, in this process."""
    return request.param, train_double(both_of(tmp_path_factory.mktemp("one"), request.param))


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_training_in_float64_agrees_with_one_rank_to_1e_9(
    expected: tuple[str, dict[str, Any]], tmp_path: Path, num_ranks: int
) -> None:
    method, alone = expected
    first, *others = on_ranks(num_ranks, train_double, both_of(tmp_path, method))
    for name, value in alone["weights"].items():
        off = (first["weights"][name] - value).norm() / value.norm().clamp_min(1e-6)
        assert float(off) < 1e-9, name
        assert all(torch.equal(other["weights"][name], first["weights"][name]) for other in others), name
    for row, wanted in zip(first["losses"], alone["losses"], strict=True):
        assert row == pytest.approx(wanted, rel=1e-9)
    for boxes, wanted in zip(first["boxes"], alone["boxes"], strict=True):
        assert np.allclose(boxes, wanted, rtol=1e-9, atol=1e-9)
