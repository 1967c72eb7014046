"""What a record says of a run: the final iterate, the best epoch, the last window, and its time."""

from __future__ import annotations

from pathlib import Path

from repro.data import load
from repro.engine.loop import UNKNOWN, CurveRow, TrainState
from repro.engine.record import make_record
from repro.evaluation.counts import Counts
from tests.runs import config


def test_the_numbers_of_a_record_are_those_of_its_curve(tmp_path: Path) -> None:
    of = config(tmp_path)
    curve = [
        CurveRow(step, 0.0, 0.1, Counts(30 + step, 64, 64.0), Counts(errors, 128, 128.0))
        for step, errors in ((2, 90), (4, 70), (6, 70), (8, 80))
    ]
    state = TrainState(8, 0, curve=curve, train_seconds=2.0, eval_seconds=1.0, below_80_step=6)
    dataset, final = load(of.data, of.paths.data, may_fetch=False), Counts(79, 128, 128.0)
    record = make_record(of, dataset, state, final, None)
    result = record["result"]
    assert [(result[name]["step"], result[name]["errors"]) for name in ("final", "best")] == [(8, 79), (4, 70)]
    assert {name: result["train_running"][name] for name in ("errors", "images", "first_step", "last_step")} == {
        "errors": 38,
        "images": 64,
        "first_step": 7,
        "last_step": 8,
    }
    assert result["train"] is None
    assert (record["wall_seconds"], record["images_per_second"]) == (3.0, 8 * 16 / 2.0)
    assert record["below_80_step"] == 6
    for step in (None, UNKNOWN):
        state.below_80_step = step
        assert make_record(of, dataset, state, final, None)["below_80_step"] is None
