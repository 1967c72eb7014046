"""The epoch chosen on validation, and the recipe of later practice: cosine schedule and label smoothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from repro.config.compose import plan
from repro.config.run import later_defaults
from repro.engine.loop import CurveRow
from repro.engine.optim import first_warmup_end, lr_at
from repro.engine.prepared import prepare
from repro.engine.record import chosen_row
from repro.engine.run import step_of
from repro.errors import InputError
from repro.evaluation.counts import Counts
from repro.results.read import read_record, read_records
from repro.results.select import summarize
from repro.runtime import checkpoint
from tests.engine.test_run import dataset, go
from tests.runs import StopAfter, config, same_weights

CHOOSING = ("data.split=train45k_test", "eval.choose=validation", "eval.every_steps=2", "optim.lr=0.1")


def row(step: int, test: int, held_out: int | None) -> CurveRow:
    counts = None if held_out is None else Counts(held_out, 100, 50.0)
    return CurveRow(step, step / 10, 0.1, Counts(1, 10, 5.0), Counts(test, 100, 50.0), counts)


def test_the_lowest_error_in_validation_chooses_the_first_of_equals() -> None:
    curve = [row(10, 40, 33), row(20, 50, 21), row(30, 20, 21), row(40, 10, 22)]
    found = chosen_row(curve)
    assert found is not None and found.step == 20, "not the lowest test error"
    assert chosen_row([row(10, 40, None)]) is None


def test_the_error_at_the_chosen_epoch_is_what_a_run_reports_and_survives_a_resume(tmp_path: Path) -> None:
    whole, broken = config(tmp_path / "1", *CHOOSING), config(tmp_path / "2", *CHOOSING)
    expected = go(whole)
    while (found := go(broken, StopAfter(0))) is None:
        pass
    assert expected is not None and found["result"] == expected["result"]
    assert same_weights(whole, broken)
    record = read_record(whole.work_dir / "record.json")
    result, state = record.result, checkpoint.load(whole.work_dir / checkpoint.FINAL)["state"]
    assert result.chosen is not None and result.validation is not None
    assert result.validation.images == 256 // 10 and result.validation.split == "val5k"
    assert result.validation.errors == min(one["held_out"]["errors"] for one in state["curve"])
    (at,) = [one for one in state["curve"] if one["step"] == result.chosen.step]
    assert (result.chosen.errors, result.chosen.images) == (at["eval"]["errors"], 128)
    assert result.final.step == 8 and result.reported is result.chosen
    summary = summarize([record])
    assert summary is not None and summary.mean == result.chosen.top1_error
    assert read_records([whole.paths.work]).left_out == ()


def test_choosing_changes_no_weight_and_only_the_runs_that_ask_for_it(tmp_path: Path) -> None:
    chosen, last = config(tmp_path, *CHOOSING), config(tmp_path, *(w for w in CHOOSING if "choose" not in w))
    go(chosen)
    record = go(last)
    assert same_weights(chosen, last) and chosen.run_id != last.run_id
    assert record is not None and "chosen" not in record["result"]
    assert later_defaults()["eval.choose"] == "last" and later_defaults()["optim.label_smoothing"] == 0.0


def test_validation_needs_images_that_are_held_out() -> None:
    for words in (["eval.choose=validation"], ["eval.choose=validation", "data.split=train45k"]):
        with pytest.raises(InputError, match=r"eval\.choose=validation .*data\.split=train45k_test"):
            plan(words)
    with pytest.raises(InputError, match=r"eval\.bn_stats=recomputed"):
        plan(["eval.choose=validation", "data.split=train45k_test", "eval.bn_stats=recomputed"])


def test_a_cosine_falls_from_the_whole_rate_after_the_warm_up_to_nearly_nothing() -> None:
    (run,) = plan(["optim=modern_sgd", "model.depth=20"]).runs
    optim = run.optim
    rates = [lr_at(optim, step, first_warmup_end(optim, run.model)) for step in range(optim.steps)]
    assert optim.steps == round(300 * 50000 / 128)
    assert rates[0] == 0.1 and rates[optim.steps // 2] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-9
    assert rates == sorted(rates, reverse=True)
    (deep,) = plan(["optim=modern_sgd", "model.depth=110"]).runs
    assert [lr_at(deep.optim, step, 400) for step in (0, 399, 400)] == [0.01, 0.01, 0.1]
    assert lr_at(deep.optim, 10400, 400) == pytest.approx(
        0.05 * (1 + math.cos(math.pi * 10000 / (deep.optim.steps - 400)))
    )


def test_labels_are_smoothed_in_training_alone(tmp_path: Path) -> None:
    run = config(tmp_path, "optim.label_smoothing=0.3", "model.depth=8")
    net = prepare(run, dataset(run))
    images, labels = net.feed.batch(0)
    before = {name: value.clone() for name, value in net.model.state_dict().items()}
    logits = net.model.train()(images.contiguous(memory_format=torch.channels_last)).detach()
    net.model.load_state_dict(before)
    step = step_of(net)
    step.run(0)
    (result,) = step.read()
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.3).item(), rel=1e-6)
    assert result.loss != pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-3)


def test_the_share_of_smoothed_labels_has_limits() -> None:
    with pytest.raises(InputError, match=r"optim.label_smoothing=1.0"):
        plan(["optim.label_smoothing=1.0"])
