"""The power of the claims before there are runs, compared with simulated runs."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from repro.papers.claims import load_claims
from repro.report.claims.explain import explain
from repro.report.claims.power import planned
from repro.report.claims.verdicts import check
from repro.report.claims.wording import verdict_text
from repro.results.read import read_records
from tests.planted_claims import asked, outcome_of, plant_seeds, verdicts

CLAIMS = load_claims()


@pytest.mark.parametrize(
    ("id", "power"), [("plain34_worse_val", 0.92), ("B_over_A", 0.83), ("C_over_B", 0.48), ("resnet34_better", 1.0)]
)
def test_the_power_is_computed_beforehand_from_the_published_effect(id, power):
    c: Any = next(c for c in CLAIMS.claim(id).comparisons if c.effect is not None)
    plan: Any = planned(CLAIMS, c)
    assert (plan.power, plan.underpowered) == (pytest.approx(power, abs=0.01), power < 0.8)
    shown = 0
    for draw in numpy.random.default_rng(1).normal(0, CLAIMS.spread, (200, 2, 3)):
        shown += outcome_of(c, 25 + draw[0], 25 + c.effect + draw[1]).p_holds < CLAIMS.alpha
    assert shown / 200 == pytest.approx(power, abs=0.08)


def test_the_power_of_an_equivalence_is_that_of_nets_that_are_equal():
    c = asked("resnet18_faster", "10-crop error")
    plan: Any = planned(CLAIMS, c)
    shown = 0
    for draw in numpy.random.default_rng(2).normal(25, CLAIMS.spread, (200, 2, 3)):
        shown += outcome_of(c, *draw).p_holds < CLAIMS.alpha
    assert shown / 200 == pytest.approx(plan.power, abs=0.08)


def test_a_claim_with_too_few_seeds_says_so_before_and_after_they_have_run(tmp_path):
    text = verdict_text(verdicts(tmp_path)["C_over_B"])
    assert text.startswith("underpowered") and "48 %" in text
    plant_seeds(tmp_path, "resnet34b", "resnet34c", seeds=3, noise=2)
    found: Any = check(read_records([tmp_path]))
    assert verdict_text(next(v for v in found.verdicts if v.claim.id == "C_over_B")).startswith("underpowered")
    assert "Underpowered" in explain(found, "C_over_B")


def test_equal_nets_are_called_different_as_rarely_as_alpha():
    parts = CLAIMS.claim("degradation_cifar").comparisons
    holds = [0, 0]
    for draw in numpy.random.default_rng(0).normal(8, 0.2, (400, 2, 2, 5)):
        ps = [outcome_of(c, *values).p_holds for c, values in zip(parts, draw, strict=True)]
        holds[0] += ps[0] < 0.05
        holds[1] += max(ps) < 0.05
    assert holds[0] / 400 < 0.04 and holds[1] / 400 < 0.01
