"""The page of what each table and figure takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.config.compose import Plan
from repro.papers import load_table
from repro.report.figures import plot
from repro.report.paper_plan import DATA, GIGABYTES, cells, costs_of, drawn, matching, outcome
from repro.report.tables import table
from repro.results.read import read_records
from tests.planted import plant
from tests.runs import configs


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan of three CIFAR-10 nets, one of them with two seeds, and a detector that starts from one of them."""
    folder, real = tmp_path_factory.mktemp("plan"), ("data=cifar10", "scale=paper")
    nets = configs(folder, "model.depth=20,32", "seed=0,1", *real) + configs(
        folder, "exp=imagenet_depth", "scale=paper", "data=imagenet", "model.depth=50"
    )
    start = f"detection.start={nets[-1].run_id}"
    runs = nets + configs(folder, "exp=voc_detection", "scale=paper", "data=voc", "model.depth=50", start)
    return Plan(runs, "paper", [], {}, {})


def test_a_row_has_the_runs_of_its_nets_and_their_cost(planned: Plan) -> None:
    costs = costs_of(planned.runs)
    twenty = matching(planned, "cifar10_recipe", [{"model.depth": 20, "model.shortcut": "A"}, None])
    assert [(run.model.depth, run.seed) for run in twenty] == [(20, 0), (20, 1)]
    number, data, weights, hours, disk = cells(twenty, planned, costs)
    assert (number, data, weights) == ("2", "CIFAR-10", "–")
    # ResNet-20 by results/bench/h100-1.json, deterministic: 39,431 images a second, 64,000 x 128, and the tests.
    assert 2 * 64_000 * 128 / 39_431 / 3600 <= float(hours) + 0.05 < 0.2
    assert disk.startswith(f"{GIGABYTES['cifar10']:g} + ")


def test_hours_that_no_benchmark_measured_are_marked_and_weights_named(planned: Plan) -> None:
    detector = planned.runs[-1:]
    number, data, weights, hours, _ = cells(detector, planned, costs_of(planned.runs))
    assert (number, data, weights) == ("1", DATA["voc"], "ResNet-50 of Table 4")
    assert hours.startswith("~")


def test_hours_of_a_net_of_which_only_a_far_smaller_one_was_timed_are_marked(planned: Plan, tmp_path: Path) -> None:
    deep = configs(tmp_path, "model.depth=1202", "data=cifar10", "scale=paper")
    costs = costs_of([*planned.runs, *deep])
    assert not cells(planned.runs[:1], planned, costs)[3].startswith("~")
    assert cells(deep, planned, costs)[3].startswith("~"), "results/bench has the times of ResNet-20 and 110"


def test_rows_and_curves_count_once_measured(tmp_path: Path) -> None:
    reading = read_records([tmp_path])
    assert outcome(load_table(6), table(6, reading)).startswith("0 of 6 rows")
    assert drawn("1", [plot("1", reading)]).startswith("0 of 4 curves measured")
    plant(tmp_path, 20, "none")
    plant(tmp_path, 32, "A")
    reading = read_records([tmp_path])
    assert outcome(load_table(6), table(6, reading)).startswith("1 of 6 rows")
    assert drawn("1", [plot("1", reading)]).startswith("2 of 4 curves measured")
    assert load_table(11).undecidable in outcome(load_table(11), table(11, reading))
