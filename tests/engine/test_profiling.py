"""``execution.profile=true``: a trace for viewers, a table of the largest kernels, and unchanged training."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from repro.data import load
from repro.engine.run import run
from repro.runtime import checkpoint
from repro.runtime.stop import Stopper
from tests.runs import config


def test_a_profiled_run_traces_its_steps_and_trains_the_same(tmp_path: Path, told: list[str]) -> None:
    plain, profiled = config(tmp_path / "1"), config(tmp_path / "2", "execution.profile=true")
    for each in (plain, profiled):
        dataset = load(each.data, each.paths.data, may_fetch=False)
        assert run(each, dataset, Stopper(None)) is not None
    first, second = (checkpoint.load(each.work_dir / checkpoint.FINAL)["model"] for each in (plain, profiled))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with gzip.open(profiled.work_dir / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    convolutions = [e for e in events if e.get("name") == "aten::convolution" and e.get("ph") == "X"]
    assert len(convolutions) == 4 * 19, "of 8 steps the first half warms up, the others are traced: 19 layers each"
    assert told[0].startswith("4 ")
    assert "conv" in told[1]
    assert len(told[1].splitlines()) == 2 + 10
    assert "trace.json.gz" in told[-1]
