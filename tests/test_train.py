"""The loop's decisions: when to evaluate, when the warm-up ends, and what a loss that is not finite does."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.compose import plan
from repro.errors import RunError
from repro.metrics import Counts
from repro.step import StepResult
from repro.train import CurveRow, TrainState, count, decide_warmup, is_eval_step
from tests.runs import config


def test_the_paper_schedule_evaluates_once_an_epoch_and_at_the_end() -> None:
    run = plan([]).runs[0]
    steps = [s for s in range(1, 64_001) if is_eval_step(s, run.eval, run.optim, 50_000)]
    assert len(steps) == 164
    assert steps[:3] == [391, 782, 1172]
    assert steps[-1] == 64_000


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300))
def test_every_epoch_that_ends_is_evaluated_once(epoch_images: int, batch_size: int, steps: int) -> None:
    run = plan_of(batch_size, steps)
    found = [s for s in range(1, steps + 1) if is_eval_step(s, run.eval, run.optim, epoch_images)]
    ends = {math.ceil(e * epoch_images / batch_size) for e in range(1, steps * batch_size // epoch_images + 1)}
    assert set(found) == ends | {steps}


def plan_of(batch_size: int, steps: int):
    import dataclasses

    run = BASE
    optim = dataclasses.replace(run.optim, batch_size=batch_size, steps=steps)
    return dataclasses.replace(run, optim=optim)


BASE = config(Path("unused"), "eval.every_steps=null")


def test_a_loss_that_is_not_finite_names_its_own_step_and_rate() -> None:
    results = [StepResult(1.0, 3), StepResult(math.inf, 3), StepResult(math.nan, 4)]
    with pytest.raises(RunError, match=r"the loss is inf at step 48, learning rate 0\.1"):
        count(results, 50, 16, 0.1)
    assert count(results[:1], 50, 16, 0.1) == Counts(3, 16, 16.0)


def test_until_80_ends_at_the_first_window_below_80_percent() -> None:
    state = TrainState(warmup_end=None)
    for step, errors in ((25, 25 * 16), (50, 20 * 16), (75, 20 * 16), (100, 19 * 16)):
        state.step = step
        decide_warmup(state, Counts(errors, 25 * 16, 0.0))
    assert state.warmup_end == 100, "90 % goes on, 78 % ends it; a half window alone decides nothing"
    decide_warmup(state, Counts(16, 16, 0.0))
    assert state.warmup_end == 100


def test_the_state_survives_a_checkpoint() -> None:
    row = CurveRow(8, 0.5, 0.1, Counts(3, 10, 1.5), Counts(1, 4, 0.5))
    state = TrainState(8, None, Counts(1, 2, 0.5), Counts(3, 4, 0.25), [row], 1.5, 0.5)
    assert TrainState.from_dict(state.to_dict()) == state
