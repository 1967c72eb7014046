"""The published tables as data: complete, consistent with the paper's text, and each row can be run."""

from __future__ import annotations

import pytest

from repro.config.compose import plan
from repro.config.run import RunConfig
from repro.papers import load_recipe, load_table, table_numbers
from repro.results.scales import DEFAULTS, compared

ROWS = {1: 8, 2: 4, 3: 10, 4: 10, 5: 6, 6: 12, 7: 4, 8: 2, 9: 8, 10: 3, 11: 3, 12: 3, 13: 6, 14: 4}
SUMS = {
    (1, "gflops"): 66.6,
    (2, "top1_error"): 109.39,
    (3, "top1_error"): 220.65,
    (3, "top5_error"): 76.97,
    (4, "top1_error"): 171.34,
    (4, "top5_error"): 60.59,
    (5, "top5_error"): 34.11,
    (6, "top1_error"): 95.9,
    (7, "mAP"): 293.8,
    (8, "mAP_50"): 89.9,
    (8, "mAP_50_95"): 48.4,
    (9, "mAP_50"): 412.7,
    (9, "mAP_50_95"): 245.3,
    (12, "val2_mAP"): 124.1,
    (12, "test_mAP"): 164.8,
    (13, "error_class_given"): 58.1,
    (13, "top5_error_class_predicted"): 33.9,
    (14, "val_error"): 65.8,
    (14, "test_error"): 90.9,
}
"""Sums of the paper's columns, which check every value that the text does not mention."""


def column(number: int, metric: str) -> list[float | None]:
    return [row.paper[metric].headline if metric in row.paper else None for row in load_table(number).rows]


def value(number: int, label: str, metric: str = "top1_error") -> float:
    (row,) = [row for row in load_table(number).rows if row.label == label]
    return row.paper[metric].headline


def test_every_table_has_all_its_rows() -> None:
    assert {number: len(load_table(number).rows) for number in table_numbers()} == ROWS


@pytest.mark.parametrize(("number", "metric"), SUMS)
def test_a_column_adds_up_to_the_papers(number: int, metric: str) -> None:
    assert sum(v for v in column(number, metric) if v is not None) == pytest.approx(SUMS[number, metric], abs=1e-6)


def test_the_differences_that_the_text_prints() -> None:
    assert value(2, "plain-34") - value(2, "ResNet-34 A") == pytest.approx(3.5, abs=0.05)  # section 4.1
    assert 2.8 <= value(2, "ResNet-18 A") - value(2, "ResNet-34 A") < 2.9  # section 4.1, "2.8 %"
    assert value(2, "plain-34") > value(2, "plain-18")
    vgg, resnet = load_table(8).rows
    points = {metric: resnet.paper[metric].headline - vgg.paper[metric].headline for metric in vgg.paper}
    assert points == pytest.approx({"mAP_50": 6.9, "mAP_50_95": 6.0})  # section 4.3
    assert 100 * points["mAP_50_95"] / vgg.paper["mAP_50_95"].headline == pytest.approx(28, abs=0.5)
    before, after = value(14, "VGG (ILSVRC'14)", "test_error"), value(14, "ResNet, ensemble (ILSVRC'15)", "test_error")
    assert 100 * (before - after) / before == pytest.approx(64, abs=0.5)  # appendix C
    assert 100 * value(1, "34-layer", "gflops") / value(1, "VGG-19", "gflops") == pytest.approx(18, abs=0.5)


def test_a_value_that_stands_in_two_tables_is_the_same() -> None:
    for label in ("plain-34", "ResNet-34 A"):
        assert value(2, label) == value(3, label)
    first, second = [r.paper["mAP"].headline for r in load_table(7).rows[::2]], load_table(10).rows[:2]
    assert first == [row.paper["mAP"].headline for row in second]
    first, second = [r.paper["mAP"].headline for r in load_table(7).rows[1::2]], load_table(11).rows[:2]
    assert first == [row.paper["mAP"].headline for row in second]
    assert [row.paper for row in load_table(8).rows] == [row.paper for row in load_table(9).rows[:2]]
    assert column(13, "top5_error_class_predicted")[-1] == column(14, "val_error")[-1]
    assert "(top-5 error 4.6 %)" in load_table(13).rows[3].setting
    assert value(4, "ResNet-101", "top5_error") == 4.6


def test_the_order_that_the_text_claims() -> None:
    """Section 4.1: all options are much better than plain, and a single ResNet-152 beats all previous ensembles."""
    options = [value(3, f"ResNet-34 {option}") for option in "ABC"]
    deeper = [value(3, f"ResNet-{depth}") for depth in (50, 101, 152)]
    assert [value(3, "plain-34"), *options, *deeper] == sorted([value(3, "plain-34"), *options, *deeper], reverse=True)
    ensembles = [row.paper["top5_error"].headline for row in load_table(5).rows if row.cited]
    assert value(4, "ResNet-152", "top5_error") < min(ensembles)
    for label in ("ResNet-34 B", "ResNet-34 C", "ResNet-50", "ResNet-101", "ResNet-152"):
        assert value(4, label) < value(3, label)


@pytest.mark.parametrize("number", [10, 11])
def test_the_mean_of_twenty_classes_is_the_printed_one(number: int) -> None:
    """The tolerance is the rounding of each class and of the mean."""
    for row in load_table(number).rows:
        classes = [published.headline for metric, published in row.paper.items() if metric != "mAP"]
        assert len(classes) == 20
        assert sum(classes) / 20 == pytest.approx(row.paper["mAP"].headline, abs=0.1)


def test_every_row_is_cited_run_counted_or_says_why_it_cannot_be() -> None:
    elsewhere = {7, 9, 11}  # on servers
    for number in table_numbers():
        for row in load_table(number).rows:
            assert row.setting
            assert row.cited + (row.run is not None) + (row.net is not None) + bool(row.undecidable) == 1
    own = [(n, row.label) for n in table_numbers() for row in load_table(n).rows if row.unfilled]
    assert [label for n, label in own if n not in elsewhere] == ["ResNet (ILSVRC'15)"]
    assert {n for n, _ in own} == {5} | elsewhere


RUNNABLE = [(n, row) for n in table_numbers() for row in load_table(n).rows if row.run is not None]


@pytest.fixture(scope="module")
def plans() -> dict[str, list[RunConfig]]:
    return {name: plan(words_of(name)).runs for name in {row.experiment for _, row in RUNNABLE}}


def words_of(experiment: str) -> list[str]:
    """Return the words that plan a row's experiment, with ids for its placeholders."""
    detectors = [f"imagenet_det-fasterrcnn-resnet101-s{seed}-0123abcd" for seed in (1, 2)]
    localizers = [f"imagenet-rcnn-resnet{depth}-s0-0123abcd" for depth in (101, 50)]
    ids = localizers if experiment.startswith("imagenet_localization") else detectors
    words = f"exp={experiment}".replace("RUN,RUN", ",".join(ids))
    if "RUN" in words:  # the run that predicts classes is one of the paper's recipe
        words = words.replace("RUN", plan(["exp=imagenet_depth", "model.depth=101"]).runs[0].run_id)
    return [*words.split(), *start_of(experiment)]


def start_of(experiment: str) -> list[str]:
    if experiment.startswith("imagenet_localization"):
        return ["localization.start=weights.pth"]
    if experiment == "voc_final":
        return ["detection.start=coco-fasterrcnn-resnet101-s0-0123abcd"]
    is_of_detector = experiment.startswith(("voc_", "coco_", "imagenet_detection"))
    return ["detection.start=weights.pth"] if is_of_detector else []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "row"), RUNNABLE, ids=[f"{n}-{row.label}" for n, row in RUNNABLE])
def test_the_experiment_of_a_row_holds_the_run_that_fills_it(number, row, plans) -> None:
    """In all settings of the recipe, so that the run would appear under Measured."""
    table = load_table(number)
    wanted = {**DEFAULTS, **load_recipe(table.recipe).fields, **row.run}
    found = [run for run in plans[row.experiment] if compared(run.science).items() <= wanted.items()]
    assert found
    if not found[0].science.is_classification:  # rows of detectors and localizers are named by their improvements, too
        return
    assert {run.model.label for run in found} == {row.label}
    assert row.layers == found[0].model.depth
    assert not table.view or table.view in found[0].eval.views


def test_the_ensemble_is_of_six_nets_two_of_them_of_152_layers() -> None:
    runs = plan([f"exp={load_table(5).experiment}"]).runs
    depths = [run.model.depth for run in runs]
    assert (len(runs), depths.count(152), len(set(depths))) == (6, 2, 4)
    assert len({run.run_id for run in runs}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["plain_vs_residual", "shortcuts", "depth", "ensemble"])
def test_an_imagenet_experiment_runs_on_other_photographs_too(experiment: str) -> None:
    small = plan([f"exp=imagenet_{experiment}", "data=tiny_imagenet", "scale=smoke"]).runs
    full = plan([f"exp=imagenet_{experiment}"]).runs
    assert [run.model.label for run in small] == [run.model.label for run in full]
    assert {run.data.name for run in small} == {"tiny_imagenet"}
    assert not {run.run_id for run in small} & {run.run_id for run in full}
