"""1, 2 and 4 ranks train the same detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from repro.config.run import RunConfig
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.prepared import prepare_detector
from repro.engine.detection.testing import find_all
from repro.engine.detection.training import train_detector
from repro.engine.resume import claim_folder
from repro.runtime import distributed
from tests.detector_runs import detector_config, shapes_of
from tests.ranks import on_ranks

WORDS = ("optim.batch_size=4", "detection.rpn_batch_size=4")


def train_double(of: RunConfig) -> dict[str, Any]:
    """Train all four steps in float64 on this rank; return weights, losses and test detections."""
    distributed.on_first(lambda: claim_folder(of))
    net = prepare_detector(of, shapes_of(of))
    net.model.double()
    net.new = {name: value.double() for name, value in net.new.items()}
    net.feed.like = torch.empty(0, dtype=torch.float64)
    assert train_detector(net, DetectionHooks())
    return {"weights": net.model.state_dict(), "losses": net.state.losses, "found": find_all(net, DetectionHooks())}


@pytest.mark.slow
def test_four_steps_in_float64_agree_with_one_rank_to_1e_9(tmp_path: Path) -> None:
    results = {n: on_ranks(n, train_double, detector_config(tmp_path / str(n), *WORDS)) for n in (1, 2, 4)}
    expected = results[1][0]
    for ranks in (2, 4):
        first, *others = results[ranks]
        for name, value in expected["weights"].items():
            off = (first["weights"][name] - value).norm() / value.norm().clamp_min(1e-6)
            assert float(off) < 1e-9, name
            assert all(torch.equal(other["weights"][name], first["weights"][name]) for other in others), name
        for row, wanted in zip(first["losses"], expected["losses"], strict=True):
            assert row == pytest.approx(wanted, rel=1e-9)
        for one, wanted in zip(first["found"], expected["found"], strict=True):
            assert torch.equal(one.labels, wanted.labels)
            assert torch.allclose(one.boxes, wanted.boxes, rtol=1e-9) and torch.allclose(one.scores, wanted.scores)
