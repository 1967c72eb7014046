"""Error rates of the whole check, by simulation; ``python -m tests.claim_rates 400`` prints the table."""

from __future__ import annotations

import os

import pytest
from scipy import stats

from tests.claim_rates import Simulation, line, simulate

FEW = ("degradation_cifar", "B_over_A", "train_1202")
REPETITIONS = int(os.environ.get("REPRO_RATES", "0"))


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    return Simulation(tmp_path_factory.mktemp("runs"))


def test_some_claims_are_wrongly_judged_as_rarely_as_their_level(simulation):
    rates = list(simulate(simulation, 30, FEW))
    assert {found.claim for found in rates} == set(FEW)
    assert [line(found) for found in rates if found.excessive] == []
    published = next(found for found in rates if not found.part)
    assert published.counts["holds"] > 20


@pytest.mark.slow
@pytest.mark.skipif(not REPETITIONS, reason="takes minutes: REPRO_RATES=400, after a change to a rule")
def test_every_claim_is_wrongly_judged_as_rarely_as_its_level(simulation):
    rates = list(simulate(simulation, REPETITIONS))
    assert len({found.claim for found in rates}) >= 25
    assert [line(found) for found in rates if found.excessive] == []


def test_swapping_the_worst_seed_gains_nothing(simulation):
    repetitions = 40
    held = simulation.swapping(repetitions)
    assert held <= stats.binom.isf(1e-4, repetitions, simulation.claims.alpha / 2)
