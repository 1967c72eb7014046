"""Decisions of the loop: when to evaluate, when the warm-up ends, and losses that are not finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repro.config.compose import plan
from repro.engine.loop import (
    UNKNOWN,
    CurveRow,
    Hooks,
    TrainState,
    count,
    is_eval_step,
    is_read_step,
    train,
    watch_error,
)
from repro.engine.optim import build_optimizer
from repro.engine.step import StepResult
from repro.errors import RunError
from repro.evaluation.counts import Counts
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
    run = BASE
    optim = dataclasses.replace(run.optim, batch_size=batch_size, steps=steps)
    return dataclasses.replace(run, optim=optim)


BASE = config(Path("unused"), "eval.every_steps=null")


def test_a_loss_that_is_not_finite_names_its_own_step_and_rate() -> None:
    results = [StepResult(1.0, 3), StepResult(math.inf, 3), StepResult(math.nan, 4)]
    with pytest.raises(RunError, match=r"the loss is inf at step 48, learning rate 0\.1"):
        count(results, 50, 16, 0.1)
    assert count(results[:1], 50, 16, 0.1) == Counts(3, 16, 16.0)


@pytest.mark.parametrize(("warmup_end", "ends"), [(None, 100), (0, 0), (400, 400)])
def test_the_first_window_below_80_percent_is_noted_and_ends_an_until_80_warmup(
    warmup_end: int | None, ends: int
) -> None:
    state = TrainState(warmup_end=warmup_end)
    for step, errors in ((25, 25 * 16), (50, 20 * 16), (75, 20 * 16), (100, 19 * 16)):
        state.step = step
        watch_error(state, Counts(errors, 25 * 16, 0.0))
    assert state.below_80_step == 100, "90 % goes on, 78 % ends it; a half window alone decides nothing"
    watch_error(state, Counts(16, 16, 0.0))
    assert (state.below_80_step, state.warmup_end) == (100, ends)


@pytest.mark.parametrize(("warmup_end", "known"), [(None, None), (0, UNKNOWN), (400, UNKNOWN)])
def test_what_a_checkpoint_of_older_code_passed_without_looking_is_not_noted_later(
    warmup_end: int | None, known: int | None
) -> None:
    values = TrainState(1000, warmup_end).to_dict()
    del values["below_80_step"]
    state = TrainState.from_dict(values)
    assert state.below_80_step == known
    state.step = 1050
    watch_error(state, Counts(3, 100, 0.0))
    assert state.below_80_step == (1050 if known is None else UNKNOWN)


def test_the_state_survives_a_checkpoint() -> None:
    row = CurveRow(8, 0.5, 0.1, Counts(3, 10, 1.5), Counts(1, 4, 0.5))
    state = TrainState(8, None, Counts(1, 2, 0.5), Counts(3, 4, 0.25), [row], 1.5, 0.5, below_80_step=5)
    assert TrainState.from_dict(state.to_dict()) == state


class Steady:
    """A step with the same errors in all batches; it notes the rate of each step and calls ``taken``."""

    def __init__(self, optimizer: torch.optim.SGD, taken: Callable[[], None] = lambda: None) -> None:
        self.optimizer, self.taken = optimizer, taken
        self.rates: list[float] = []

    def run(self, step: int) -> None:
        self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
        self.taken()

    def read(self) -> list[StepResult]:
        return [StepResult(1.0, 8)]


class Evaluating(Hooks):
    """Callbacks that evaluate with a function and, if given one, save after every read."""

    def __init__(self, evaluate: Callable[[], Counts], save: Callable[[], None] | None = None) -> None:
        self._evaluate, self._save = evaluate, save

    def evaluate(self) -> Counts:
        return self._evaluate()

    def save_is_due(self) -> bool:
        return self._save is not None

    def save(self, state: TrainState) -> None:
        assert self._save is not None
        self._save()


def test_the_training_error_alone_decides_about_a_plateau() -> None:
    """The test error falls all the time, but it must choose nothing."""
    words = ("optim.schedule=plateau", "optim.plateau_evals=2", "optim.lr=0.1", "optim.milestones=[]")
    run = config(Path("unused"), *words, "optim.steps=7", "eval.every_steps=1")
    optimizer = build_optimizer(nn.Linear(2, 2), run.optim)
    step, falling = Steady(optimizer), iter(range(99, 0, -1))
    assert train(step, optimizer, TrainState(), run, 1000, Evaluating(lambda: Counts(next(falling), 100, 1.0)))
    assert step.rates == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001])


def test_seconds_of_steps_evaluations_and_checkpoints_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def after(seconds: float) -> None:
        nonlocal now
        now += seconds

    def evaluated() -> Counts:
        after(10)
        return Counts(1, 2, 1.0)

    monkeypatch.setattr("repro.engine.loop.time", SimpleNamespace(perf_counter=lambda: now))
    run = config(Path("unused"), "optim.steps=3", "optim.milestones=[]", "eval.every_steps=1")
    optimizer, state = build_optimizer(nn.Linear(2, 2), run.optim), TrainState()
    step = Steady(optimizer, lambda: after(2))
    assert train(step, optimizer, state, run, 1000, Evaluating(evaluated, lambda: after(100)))
    assert (state.train_seconds, state.eval_seconds) == (6, 30)


class Listening(Hooks):
    """Callbacks that note at which steps they are asked to stop."""

    def __init__(self, state: TrainState) -> None:
        self.state = state
        self.asked_at: list[int] = []

    def stop(self) -> bool:
        self.asked_at.append(self.state.step)
        return False


@pytest.mark.parametrize(
    ("first", "seconds", "asked_at"),
    [
        (4, 4, [3, 5, 8, 10, 12]),  # after twelve seconds, and every five steps, which are logged
        (80, 4, [1, 4, 5, 8, 10, 12]),  # the first step compiles
        (30, 30, list(range(1, 13))),
        (0.001, 0.001, [5, 10, 12]),
    ],
)
def test_a_stop_is_heard_after_ten_seconds_however_long_a_step_takes(
    monkeypatch: pytest.MonkeyPatch, first: float, seconds: float, asked_at: list[int]
) -> None:
    now = 0.0

    def taken() -> None:
        nonlocal now
        now += seconds if now else first

    monkeypatch.setattr("repro.engine.loop.time", SimpleNamespace(perf_counter=lambda: now))
    words = ("optim.steps=12", "optim.milestones=[]", "eval.every_steps=12", "execution.log_steps=5")
    run = config(Path("unused"), *words)
    optimizer, state = build_optimizer(nn.Linear(2, 2), run.optim), TrainState()
    hooks = Listening(state)
    assert train(Steady(optimizer, taken), optimizer, state, run, 1000, hooks)
    assert hooks.asked_at == asked_at


def test_the_error_is_looked_at_every_50_steps_until_it_is_below_however_seldom_is_logged() -> None:
    states = (
        TrainState(),
        TrainState(warmup_end=None),
        TrainState(below_80_step=50),
        TrainState(below_80_step=UNKNOWN),
    )
    looks = [[s for s in range(1, 121) if is_read_step(dataclasses.replace(state, step=s), 1000)] for state in states]
    assert looks == [[50, 100], [50, 100], [], []]
