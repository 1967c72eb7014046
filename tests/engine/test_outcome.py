"""The numbers of a record: final weights, best epoch, last window, time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from repro.data import load
from repro.engine.loop import UNKNOWN, CurveRow, TrainState
from repro.engine.prepared import prepare
from repro.engine.record import make_record, part
from repro.evaluation.counts import Counts
from repro.results.read import read_record
from tests.runs import config


def test_the_numbers_of_a_record_are_those_of_its_curve(tmp_path: Path) -> None:
    of = config(tmp_path, "model.depth=8", "eval.train_error=false")
    curve = [
        CurveRow(step, 0.0, 0.1, Counts(30 + step, 64, 64.0), Counts(errors, 128, 128.0))
        for step, errors in ((2, 90), (4, 70), (6, 70), (8, 80))
    ]
    state = TrainState(8, 0, curve=curve, train_seconds=2.0, eval_seconds=1.0, below_80_step=6)
    net = prepare(of, load(of.data, of.paths.data, may_fetch=False))
    state.parts.append(part(0, "2026-01-01T00:00:00+00:00", net.made_on))
    net, final = dataclasses.replace(net, state=state), Counts(79, 128, 128.0)
    record = make_record(net, final)
    result = record.result
    assert [(r.step, r.errors) for r in (result.final, result.best)] == [(8, 79), (4, 70)]
    running = result.train_running
    assert running is not None
    assert (running.errors, running.images, running.first_step, running.last_step) == (38, 64, 7, 8)
    assert result.train is None
    assert (record.wall_seconds, record.images_per_second) == (3.0, 8 * 16 / 2.0)
    assert record.below_80_step == 6
    of.work_dir.mkdir(parents=True)
    file = of.work_dir / "record.json"
    file.write_text(json.dumps(record.to_json()), encoding="utf-8")
    assert read_record(file) == record, "it is read as it was written"
    for step in (None, UNKNOWN):
        state.below_80_step = step
        assert make_record(net, final).below_80_step is None


@pytest.mark.parametrize("file", sorted(Path("results/runs").glob("*/record.json")), ids=lambda file: file.parent.name)
def test_a_published_record_written_anew_is_the_file(file: Path) -> None:
    assert json.dumps(read_record(file).to_json(), indent=1) + "\n" == file.read_text(encoding="utf-8")
