"""Rules of the claims: planted records on which an earlier rule gave a wrong verdict, one test per rule."""

from __future__ import annotations

import json
from typing import Any

import numpy
import pytest

from repro.papers.claims import load_claims
from repro.report.claims.explain import explain
from repro.report.claims.format import chance
from repro.report.claims.metrics import value_of
from repro.report.claims.verdicts import check
from repro.report.claims.wording import finding_text, verdict_text
from repro.results.read import read_records
from tests import planted
from tests.planted import edit
from tests.planted_claims import (
    asked,
    finding,
    outcome_of,
    plant_group,
    plant_seeds,
    plant_views,
    verdicts,
    write_curve,
)

SPREAD = (-0.1, 0.1, 0.0, -0.05, 0.05)
CLAIMS = load_claims()


# ----------------------------------------------------------------------------------------------- direction and size


def test_a_gap_that_is_larger_than_the_papers_holds_and_is_called_larger(tmp_path):
    plant_seeds(tmp_path, "resnet34a", seeds=3)
    plant_seeds(tmp_path, "resnet18a", seeds=3, shift=0.61)
    plant_seeds(tmp_path, "plain34", seeds=3, shift=0.96)
    found = verdicts(tmp_path)
    part = finding(found["resnet34_better"], "10-crop error")
    assert (found["resnet34_better"].status, part.outcome.difference) == ("holds", pytest.approx(3.46, abs=0.01))
    assert (part.outcome.beside.effect, part.outcome.beside.size) == (2.85, "larger than published")
    part = finding(found["resnet34_vs_plain34"], "10-crop error")
    assert (found["resnet34_vs_plain34"].status, part.outcome.difference) == ("holds", pytest.approx(4.47, abs=0.01))


def test_the_effect_stands_beside_the_published_one_with_its_interval(tmp_path):
    plant_seeds(tmp_path, "resnet34a", "resnet18a", seeds=3)
    found: Any = check(read_records([tmp_path]))
    verdict = next(v for v in found.verdicts if v.claim.id == "resnet34_better")
    assert "difference +2.85 (95 %: +2.62 to +3.08), published +2.85, as published" in verdict_text(verdict)
    assert "Replication Bayes factor: above 1,000" in explain(found, "resnet34_better")
    beside = finding(verdict, "10-crop error").outcome.beside
    assert beside.bayes_factor > 1000


@pytest.mark.parametrize(("shift", "status"), [(-2.5, "holds"), (0.0, "holds"), (3.0, "fails")])
def test_a_net_that_is_better_than_its_rival_is_not_less_competitive(tmp_path, shift, status):
    plant_seeds(tmp_path, "plain34", seeds=3, shift=shift)
    assert verdicts(tmp_path)["plain34_competitive"].status == status


def test_considerably_better_is_by_more_than_what_is_called_small(tmp_path):
    plant_seeds(tmp_path, "resnet34a", "resnet34b", "resnet34c", seeds=3)
    plant_seeds(tmp_path, "plain34", seeds=3, shift=-2.7)
    part = finding(found := verdicts(tmp_path)["all_options_beat_plain"], "A, 10-crop error")
    assert part.outcome.difference == pytest.approx(0.81, abs=0.01)
    assert (found.status, part.status) == ("fails", "fails")


# ------------------------------------------------------------------------------------------------ nothing degrades


@pytest.mark.parametrize(("noise", "status"), [(1.0, "inconclusive"), (0.2, "fails")])
def test_a_trend_whose_last_net_is_worse_than_the_one_before_does_not_hold(tmp_path, noise, status):
    for name, shift in (("resnet34b", 0.0), ("resnet50", 0.0), ("resnet101", -0.32), ("resnet152", 0.57)):
        plant_seeds(tmp_path, name, seeds=3, shift=shift, noise=noise)
    part = finding(found := verdicts(tmp_path)["deeper_better_imagenet"], "10-crop top-1 error over depth")
    assert (part.status, found.status) == (status, "fails")
    assert part.outcome.refuted.endswith("0.32 from ResNet-101 to ResNet-152")


@pytest.mark.parametrize("id", ["resnet_cifar_improves", "deeper_nonbottleneck"])
def test_a_net_of_110_layers_that_is_worse_than_that_of_56_refutes_the_gain_by_depth(tmp_path, id):
    plant_seeds(tmp_path, "resnet20", "resnet32", "resnet44", "resnet56")
    plant_seeds(tmp_path, "resnet110", shift=1.39)
    found = verdicts(tmp_path)[id]
    assert found.status == "fails"
    assert finding(found, "test error of 110 layers below that of 56").status == "fails"


def test_training_error_that_rises_with_depth_refutes_the_gain_by_depth(tmp_path):
    plant_seeds(tmp_path, "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    assert verdicts(tmp_path)["resnet_cifar_improves"].status == "holds"
    for folder in tmp_path.glob("*resnet20*"):
        edit(folder, "result", "train_running", "errors", value=5)
        edit(folder, "result", "train_running", "top1_error", value=100 * 5 / 50048)
    found = verdicts(tmp_path)["resnet_cifar_improves"]
    assert finding(found, "training error over 20, 32, 44, 56, 110 layers").status == "fails"


# ------------------------------------------------------------------------------------------------- the right quantity


def test_a_slower_start_without_a_delay_is_no_late_beginning(tmp_path):
    plant_seeds(tmp_path, "warm110")
    plant_seeds(tmp_path, "cold110")
    found = verdicts(tmp_path)["warmup_needed"]
    part = finding(found, "first epoch with a training error below 90 %")
    assert (found.status, part.outcome.difference) == ("holds", 4.0)
    for number, folder in enumerate(sorted(tmp_path.glob("*resnet110*"))):
        cold = json.loads((folder / "record.json").read_text(encoding="utf-8"))["science"]["optim"]["warmup"] == "none"
        write_curve(folder / "curve.csv", 64000, 0.1, 6.6, (23 if cold else 20) + number / 50)
    found = verdicts(tmp_path)["warmup_needed"]
    part = finding(found, "first epoch with a training error below 90 %")
    assert (found.status, part.status, part.outcome.difference) == ("fails", "fails", 0.0)


def test_convergence_begins_with_the_first_evaluation_below(tmp_path):
    folder = plant_group(tmp_path, "cold110", 0)
    lines = (folder / "curve.csv").read_text(encoding="utf-8").splitlines()
    errors = [90.0, 90.0, 89.9, 85.0, 79.9, 81.0]
    for row, error in enumerate(errors, 1):
        cells = lines[row].split(",")
        lines[row] = ",".join([*cells[:4], str(error), *cells[5:]])
    (folder / "curve.csv").write_text("\n".join(lines), encoding="utf-8")
    (record,) = read_records([tmp_path]).records
    onsets = [
        value_of(record, asked("warmup_needed", f"first epoch with a training error below {x} %")) for x in (90, 80)
    ]
    assert onsets == [(3, None), (5, None)]


def test_a_construction_with_a_higher_training_error_fails(tmp_path):
    plant_seeds(tmp_path, "plain20", "plain56")
    plant_seeds(tmp_path, "constructed56", seeds=3)
    assert verdicts(tmp_path)["constructed_solution"].status == "holds"
    for folder in tmp_path.glob("*from-20*"):
        edit(folder, "construction", "deep_batch_error", value=9.0)
    found = verdicts(tmp_path)["constructed_solution"]
    assert (found.status, finding(found, "training error at the start less that of plain-20").status) == ("fails",) * 2


def test_other_errors_on_test_images_are_shown_beside_the_construction(tmp_path):
    plant_seeds(tmp_path, "plain20", "plain56")
    edit(plant_seeds(tmp_path, "constructed56", seeds=3), "construction", "deep_errors", value=950)
    found = verdicts(tmp_path)["constructed_solution"]
    part = finding(found, "errors at the start less those of plain-20, among all test images")
    assert (found.status, part.status, part.outcome.numbers) == ("holds", "fails", (0, 50))


def flow_of(norms, stds=(0.9,) * 9):
    """Return nine layers, three per stage, whose backward gradients have these norms."""
    return [
        {
            "layer": f"stages.{i // 3}.0.conv{i % 3}",
            "forward_std": std,
            "gradient_norm": 1.0,
            "activation_gradient_norm": n,
        }
        for i, (n, std) in enumerate(zip(norms, stds, strict=True))
    ]


def test_signals_are_read_where_they_are_weakest(tmp_path):
    weak = flow_of([1e-3, 1e-5, *[7.0] * 5, 1e-1, 1e-1], [0.9, 0.05, *[0.9] * 7])
    sound = flow_of([1.0] * 9)
    flow = [{"step": 32000, "layers": weak}, {"step": 64000, "layers": sound}]
    edit(plant_group(tmp_path, "flow56", 0), "flow", value=flow)
    (record,) = read_records([tmp_path]).records
    forward, gradients = CLAIMS.claim("not_vanishing").comparisons
    assert value_of(record, forward)[0] == 0.05
    # The mean of -3 and -5 minus that of -1 and -1: two of nine layers are a quarter. The last layers have a quarter of
    # the outputs of the first, so that the same norm is twice the root mean square.
    assert value_of(record, gradients)[0] == pytest.approx(-3 - numpy.log10(2))


def test_gradients_are_compared_by_their_size_at_one_output(tmp_path):
    for seed in range(3):
        norm = 10 ** (-0.8 + seed / 100)  # with as many outputs in all layers it would exceed the limit of a tenth
        layers = flow_of([norm] * 3 + [1.0] * 6)
        edit(plant_group(tmp_path, "flow56", seed), "flow", value=[{"step": 64000, "layers": layers}])
    found = verdicts(tmp_path)["not_vanishing"]
    assert found.status == found.judgement.findings[1].status == "fails"


def test_generally_weaker_is_a_share_of_layers_and_no_mean(tmp_path):
    plant_seeds(tmp_path, "resnet20", "resnet56", "plain20", "plain56")
    assert verdicts(tmp_path)["small_responses"].status == "holds"
    part = finding(verdicts(tmp_path)["small_responses"], "layers that respond more weakly, 20 layers")
    assert "lower in 100.0 ± 0.0 % of the layers (n=" in finding_text(part) and "ResNet-20" not in finding_text(part)
    assert part.unit.text == " % of the layers"
    for folder in tmp_path.glob("*resnet20*"):
        layers = [{"layer": f"layer{i}", "std": std} for i, std in enumerate([0.01, 2.0, 2.1, 2.0])]
        edit(folder, "responses", value=layers)
    found = verdicts(tmp_path)["small_responses"]
    assert finding(found, "mean response of a layer, 20 layers").status == "holds"
    assert finding(found, "layers that respond more weakly, 20 layers").status == found.status == "fails"


# ------------------------------------------------------------------------------------ no spread, no effect, many parts


def test_seeds_that_agree_to_the_last_count_are_known_to_one_count(tmp_path):
    plant_seeds(tmp_path, "plain20", "plain32", "plain44", "plain56")
    plant_seeds(tmp_path, "plain110", shift=20.0, noise=0.0)
    part = finding(verdicts(tmp_path)["plain_cifar_degrades"], "test error at 110 layers")
    assert part.groups[0].values == (90.0,) * 5
    assert (part.status, part.outcome.p_holds < 1e-6) == ("holds", True)


def test_an_effect_that_is_not_there_refutes(tmp_path):
    plant_seeds(tmp_path, "plain20")
    plant_seeds(tmp_path, "plain56", shift=-3.5)  # test errors are the same, training errors almost
    found = verdicts(tmp_path)["degradation_cifar"]
    part = finding(found, "test error")
    assert part.outcome.difference == pytest.approx(0)
    assert (found.status, part.status, part.outcome.confidence) == ("fails", "fails", 0.9)
    assert "0.59" in part.because


def test_two_nets_that_are_the_same_refute_the_marginal_difference_once_there_are_seeds_enough():
    c = asked("C_over_B", "10-crop error")
    draws = numpy.random.default_rng(0).normal(24.5, 0.16, (2, 60))
    assert outcome_of(c, *draws).p_fails < 0.05
    assert outcome_of(c, *draws[:, :3]).p_fails > 0.05


def test_an_effect_that_is_sure_but_below_any_of_interest_is_not_the_papers():
    c = asked("plain34_worse_val", "10-crop error")
    lower = [27.9 + off / 10 for off in SPREAD]
    found = outcome_of(c, lower, [x + 0.1 for x in lower])
    assert found.p_holds < 0.05 and found.p_fails < 0.05
    assert "0.2 " in found.refuted


def plant_pair(root, depth, error, train, spread):
    for seed, off in enumerate(SPREAD):
        planted.plant(root, depth, "none", seed, error + spread * off, train_error=train + spread * off)


@pytest.mark.parametrize(("gap", "status"), [(3.5, "holds"), (-3.5, "inconclusive")])
def test_that_all_parts_hold_needs_no_correction_and_that_one_fails_does(tmp_path, monkeypatch, gap, status):
    # Each part has p = 0.03: together that is rarer, but one reversed part of two is no surprise. There is no smallest
    # effect, since an absent effect refutes by itself.
    plant_pair(tmp_path, 20, 30.0, 30.0, 27)
    plant_pair(tmp_path, 56, 30.0 + gap, 30.0 + abs(gap), 27)
    monkeypatch.setattr("repro.papers.claims.Claims.smallest", lambda claims, c: 0.0)
    found: Any = check(read_records([tmp_path]))
    verdict = next(v for v in found.verdicts if v.claim.id == "degradation_cifar")
    train, test = verdict.judgement.findings
    assert 0.025 < train.outcome.p_holds < 0.05
    assert (verdict.status, test.status) == (status, status)
    assert (0.025 < test.outcome.p < 0.05) and test.outcome.supports == (gap > 0)


def test_how_many_verdicts_chance_would_give_is_said(tmp_path):
    assert chance(check(read_records([tmp_path]))) == "No claim has been tested by runs yet."
    plant_seeds(tmp_path, "plain20", "plain56", "resnet20", "resnet56")
    found: Any = check(read_records([tmp_path]))
    # Degradation, the interaction and the responses; others lack runs.
    assert found.tested == 3
    assert "3 claims" in chance(found) and "up to 0.15 hold" in chance(found)


# -------------------------------------------------------------------------------------------- intervals, other images


def test_an_equivalence_shows_the_interval_that_decides_it(tmp_path):
    plant_seeds(tmp_path, "resnet34a", "resnet34b", "resnet34c", seeds=3)
    found = verdicts(tmp_path)["projections_not_essential"]
    for noise in (1, 4.2, 5):
        plant_seeds(tmp_path, "resnet34a", seeds=3, noise=noise)
        part = finding(found := verdicts(tmp_path)["projections_not_essential"], "A and B, 10-crop error")
        low, high = part.outcome.interval
        assert part.outcome.confidence == 0.9
        assert (part.status == "holds") == (low > -1.17 and high < 1.17)
    assert found.status != "fails"


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("projections_not_essential", "A and B, 10-crop error"),
        ("single_layer_no_advantage", "test error of 20 layers, plain beside single-layer blocks"),
    ],
)
def test_the_interval_beside_a_margin_agrees_with_both_decisions(id, name):
    c, shown = asked(id, name), set()
    for shift in numpy.linspace(-1.5, 1.5, 61):
        found = outcome_of(c, [25.0, 25.1, 24.9], [25.05 + shift, 24.95 + shift, 25.1 + shift])
        low, high = found.interval
        if found.p_fails < found.p_holds:
            within, beyond = False, high < -c.margin or (c.test == "equal" and low > c.margin)
            assert found.confidence == 0.95 and beyond == (found.p_fails < 0.05)
        else:
            within, beyond = low > -c.margin and (c.test == "no_worse" or high < c.margin), False
            assert found.confidence == 0.9 and within == (found.p_holds < 0.05)
        shown.add((within, beyond))
    assert shown == {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize(("error", "status"), [(4.6, "inconclusive"), (4.3, "holds")])
def test_a_limit_from_other_images_has_their_binomial_error(tmp_path, error, status):
    for seed in range(3):
        folder = plant_group(tmp_path, "resnet152", seed)
        plant_views(folder, {"10crop": (21.43, 5.71), "multiscale": (19.38, error + SPREAD[seed] / 2)})
    part = finding(verdicts(tmp_path)["single_beats_ensembles"], "multi-scale top-5 error below 4.82")
    assert (part.status, part.outcome.beside.effect) == (status, 0.33)


def test_an_interval_wider_than_what_is_between_two_rows_confirms_no_value(tmp_path):
    plant_seeds(tmp_path, "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    assert finding(verdicts(tmp_path)["resnet_cifar_improves"], "published ResNet-44").status == "holds"
    plant_seeds(tmp_path, "resnet44", noise=3)
    part = finding(verdicts(tmp_path)["resnet_cifar_improves"], "published ResNet-44")
    assert part.status == "inconclusive" and "interval" in part.because


# ------------------------------------------------------------------------------------- claims that the list had lacked


def test_depth_does_the_opposite_to_plain_and_to_residual_nets(tmp_path):
    plant_seeds(tmp_path, "plain20", "plain56", "resnet20", "resnet56")
    found = verdicts(tmp_path)["depth_reversal_cifar"]
    part = finding(found, "test error, from 20 to 56 layers")
    assert (found.status, part.outcome.difference) == ("holds", pytest.approx(3.5 + 1.78, abs=0.01))
    plant_seeds(tmp_path, "resnet56", shift=5.28)
    found = verdicts(tmp_path)["depth_reversal_cifar"]
    assert finding(found, "test error, from 20 to 56 layers").status == "fails"


def test_a_resnet_that_is_worse_than_the_plain_net_of_its_depth_refutes(tmp_path):
    groups = [f"{kind}{depth}" for kind in ("plain", "resnet") for depth in (32, 44, 56, 110)]
    plant_seeds(tmp_path, *groups)
    assert verdicts(tmp_path)["resnet_below_plain_cifar"].status == "holds"
    plant_seeds(tmp_path, "resnet44", shift=4.0)
    assert verdicts(tmp_path)["resnet_below_plain_cifar"].status == "fails"


def test_three_times_the_steps_decide_by_runs_of_their_own(tmp_path):
    plant_seeds(tmp_path, "plain20", "plain56", seeds=3)
    assert verdicts(tmp_path)["low_convergence_rate"].status == "not run"
    plant_seeds(tmp_path, "plain20_long", "plain56_long", seeds=3)
    found = verdicts(tmp_path)
    assert found["low_convergence_rate"].status == "holds"
    assert found["degradation_cifar"].judgement.findings[0].groups[0].seeds == (0, 1, 2)
