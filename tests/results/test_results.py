"""Records: valid and invalid ones, and runs that may be averaged."""

from __future__ import annotations

import json
import math
import statistics

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.errors import InputError
from repro.papers import load_recipe
from repro.results.read import read_curve, read_records
from repro.results.select import departures, proxy_scales, scale_label, select, summarize
from tests.planted import DEMO, PRESENT, edit, plant, scale_science

RECIPE = load_recipe("cifar10_recipe").fields
NET = {"model.depth": 20, "model.shortcut": "A"}
ROWS = [None, NET, {"model.depth": 56, "model.shortcut": "A"}]


def summary_of(records, **how):
    """Return the summary of existing records."""
    summary = summarize(records, **how)
    assert summary is not None
    return summary


def reason(root):
    """Return the reason why the one folder under ``root`` is left out."""
    reading = read_records([root])
    assert reading.records == ()
    (left,) = reading.left_out
    return left.reason


def test_a_record_is_read_with_its_types(tmp_path):
    folder = plant(tmp_path, 20, "A", 3, 8.75)
    (record,) = read_records([tmp_path]).records
    assert (record.run_id, record.folder, record.seed) == (folder.name, folder, 3)
    assert (record.result.final.errors, record.result.final.top1_error) == (875, 8.75)
    assert record.science.optim.milestones == (32000, 48000)
    assert record.science.flat()["optim.milestones"] == [32000, 48000]


def test_a_root_that_does_not_exist_and_an_unfinished_run_hold_nothing(tmp_path):
    (tmp_path / "cifar10-resnet20-s0-00000000").mkdir()
    reading = read_records([tmp_path, tmp_path / "nowhere"])
    assert (reading.records, reading.left_out) == ((), ())


def test_a_key_that_a_later_version_added_beside_the_science_is_no_fault(tmp_path):
    folder = plant(tmp_path)
    edit(folder, "later", value=[1])
    edit(folder, "result", "final", "top5_error", value=0.2)
    edit(folder, "provenance", "host", value="x")
    edit(folder, "result", "train", value=None)
    assert len(read_records([tmp_path]).records) == 1


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("fingerprint",), "0" * 16, "its configuration has the fingerprint"),
        (("science", "optim", "lr"), 0.2, "its configuration has the fingerprint"),
        (("numerics_version",), PRESENT + 1, "its configuration has the fingerprint"),
        (("science", "optim", "extra"), 1, "unknown key 'science.optim.extra'"),
        (("science", "optim", "lr"), "fast", "science.optim.lr='fast' must be a number"),
        (("schema",), 2, "schema=2"),
        (("seed",), 7, "its run_id is not cifar10-resnet20-s7-"),
        (("key",), "cifar10-resnet32", "its run_id is not cifar10-resnet32-s0-"),
        (("run_id",), "cifar10-resnet20-s0-11111111", "is not the name of its folder"),
        (("run_id",), "../escape", "run_id='../escape' is not a plain name"),
        (("scale",), "de|mo", "scale='de|mo' is not a plain name"),
        (("steps",), 63000, "it ended at step 63000 of 64000"),
        (("result", "final", "step"), 63999, "result.final.step=63999"),
        (("result", "best", "step"), 64001, "result.best.step=64001"),
        (("result", "final", "split"), "train", "result.final.split=train"),
        (("result", "final", "errors"), 10001, "result.final counts 10001 errors among 10000 images"),
        (("result", "final", "errors"), -1, "result.final counts -1 errors"),
        (("result", "final", "errors"), 875.5, "result.final.errors=875.5 must be a whole number"),
        (("result", "final", "images"), 0, "among 0 images"),
        (("result", "final", "top1_error"), 8.7, "result.final.top1_error=8.7 is not 100 * 875 / 10000"),
        (("result", "best", "top1_error"), 8.7, "result.best.top1_error=8.7"),
        (("result", "train", "errors"), 1, "result.train.top1_error"),
        (("result", "final", "loss"), math.nan, "result.final.loss=nan must be a number"),
        (("result", "final"), [], "result.final must be a group"),
        (("result",), None, "result must be a group"),
        (("science",), 3, "science must be a group"),
        (("params",), 0, "params and macs must be above 0"),
        (("wall_seconds",), 10**400, "too large"),
    ],
)
def test_an_invalid_record_is_left_out_with_its_reason(tmp_path, path, value, sentence):
    edit(plant(tmp_path), *path, value=value)
    assert sentence in reason(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100000, '{"schema": 1}', "\ufeff{}"])
def test_a_file_that_is_no_record_is_left_out(tmp_path, text):
    (plant(tmp_path) / "record.json").write_text(text, encoding="utf-8")
    assert reason(tmp_path)


def test_a_record_in_a_folder_of_another_name_is_left_out(tmp_path):
    folder = plant(tmp_path)
    folder.rename(tmp_path / "cifar10-resnet20-s1-00000000")
    assert "is not the name of its folder" in reason(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_single_damaged_value_ends_in_a_crash(tmp_path, data):
    folder = plant(tmp_path)
    part = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    path: list[str] = []
    while isinstance(part, dict) and part and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(sorted(part))))
        part = part[path[-1]]
    edit(folder, *path, value=data.draw(st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([])))
    reading = read_records([tmp_path])
    assert len(reading.records) + len(reading.left_out) == 1


def test_the_same_run_in_both_roots_counts_once(tmp_path):
    plant(tmp_path / "work", seed=0, error=8.7)
    plant(tmp_path / "runs", seed=0, error=8.7)
    reading = read_records([tmp_path / "work", tmp_path / "runs"])
    assert len(reading.records) == 1
    assert reading.left_out == ()


def test_two_copies_of_a_run_that_differ_are_named(tmp_path):
    plant(tmp_path / "work", seed=0, error=8.7)
    plant(tmp_path / "runs", seed=0, error=8.8)
    reading = read_records([tmp_path / "work", tmp_path / "runs"])
    assert [record.result.final.top1_error for record in reading.records] == [8.7]
    assert "differs from the one of work/" in reading.left_out[0].reason


def test_a_damaged_copy_does_not_hide_the_good_one(tmp_path):
    edit(plant(tmp_path / "work"), "result", "final", "errors", value=0)
    plant(tmp_path / "runs")
    reading = read_records([tmp_path / "work", tmp_path / "runs"])
    assert (len(reading.records), len(reading.left_out)) == (1, 1)


def test_departures_are_the_fields_that_differ(tmp_path):
    plant(tmp_path, 20, science={"optim.lr": 0.2, "data.train_images": 1000})
    (record,) = read_records([tmp_path]).records
    assert departures(record, RECIPE, NET) == {"optim.lr": 0.2, "data.train_images": 1000}
    assert departures(record, RECIPE, {**NET, "model.depth": 32})["model.depth"] == 20
    without = {key: value for key, value in RECIPE.items() if key != "optim.momentum"}
    assert departures(record, without, NET)["optim.momentum"] == 0.9


def test_the_science_decides_what_is_a_proxy_not_the_label(tmp_path):
    plant(tmp_path, seed=0, scale="demo")
    plant(tmp_path, seed=1, scale="paper", science={"optim.steps": 100, "optim.milestones": []})
    plant(tmp_path, seed=2, scale="demo", science=DEMO)
    records = sorted(read_records([tmp_path]).records, key=lambda record: record.seed)
    custom = "custom, optim.steps=100, optim.milestones=[]"
    assert [scale_label(record, RECIPE, NET) for record in records] == ["paper", custom, "demo"]
    assert proxy_scales(records, RECIPE, ROWS) == ["demo", custom]
    assert [len(group) for group in select(records, RECIPE, ROWS).groups] == [0, 1, 0]


def test_only_the_newest_numerics_are_averaged(tmp_path):
    for seed in range(3):
        plant(tmp_path, seed=seed, error=5.0)
    plant(tmp_path, seed=0, error=9.0, numerics_version=PRESENT + 1)
    plant(tmp_path, 56, seed=0, error=7.0)
    selection = select(read_records([tmp_path]).records, RECIPE, ROWS)
    assert [len(group) for group in selection.groups] == [0, 1, 1]
    assert summary_of(selection.groups[1]).mean == 9.0
    (note,) = selection.notes
    assert f"numerics version {PRESENT} instead of {PRESENT + 1}" in note
    assert note.count("cifar10-resnet20-s") == 3


def test_records_of_an_older_numerics_version_are_read(tmp_path):
    groups = {"model.bn_group_size": 64}
    new, old = (plant(tmp_path, science=groups, numerics_version=version) for version in (None, 2))
    assert new.name != old.name
    assert [r.numerics_version for r in read_records([tmp_path]).records if r.run_id == old.name] == [2]


def test_a_scales_own_recipe_stands_under_its_name_whatever_else_was_run(tmp_path):
    plant(tmp_path, seed=0, error=50.0, scale="demo", science=DEMO)
    plant(tmp_path, seed=1, error=52.0, scale="demo", science=DEMO)
    nesterov = {**DEMO, "optim.nesterov": True}
    others = [
        plant(tmp_path, seed=seed, error=90.0, scale="demo", science=nesterov, finished="2027") for seed in range(5)
    ]
    records = read_records([tmp_path]).records
    own, other = proxy_scales(records, RECIPE, ROWS)
    assert (own, other) == ("demo", "demo, optim.nesterov=true")
    selection = select(records, RECIPE, ROWS, own)
    assert summary_of(selection.groups[1]).mean == 51.0
    assert summary_of(select(records, RECIPE, ROWS, other).groups[1]).mean == 90.0
    (note,) = selection.apart
    assert other in note and all(folder.name in note for folder in others)


def test_no_other_recipe_takes_the_place_of_a_scales_own(tmp_path):
    plant(tmp_path, scale="demo", science={**DEMO, "optim.nesterov": True})
    selection = select(read_records([tmp_path]).records, RECIPE, ROWS, "demo")
    assert selection.records == [] and "optim.nesterov=true" in selection.apart[0]


def test_a_column_holds_one_recipe_over_all_its_rows(tmp_path):
    for seed in range(2):
        plant(tmp_path, 20, seed=seed, scale="demo", science=DEMO)
    plant(tmp_path, 56, seed=0, scale="demo", science={**DEMO, "optim.steps": 500})
    selection = select(read_records([tmp_path]).records, RECIPE, ROWS, "demo")
    assert [len(group) for group in selection.groups] == [0, 2, 0]
    assert "cifar10-resnet56-demo-s0" in selection.apart[0]


def test_other_data_are_named_and_stand_in_where_the_papers_are_not_there(tmp_path):
    """`make demo` uses the built-in images if CIFAR-10 cannot be downloaded."""
    plant(tmp_path, error=60.0, scale="demo", science=scale_science("demo", "synthetic"))
    plant(tmp_path, error=70.0, scale="demo", science={**scale_science("demo", "synthetic"), "optim.nesterov": True})
    records = read_records([tmp_path]).records
    assert proxy_scales(records, RECIPE, ROWS) == [
        "demo, data=synthetic",
        "demo, data=synthetic, optim.nesterov=true",
    ]
    assert select(records, RECIPE, ROWS, "demo").scale == "demo, data=synthetic"
    plant(tmp_path, error=50.0, scale="demo", science=DEMO)
    selection = select(read_records([tmp_path]).records, RECIPE, ROWS, "demo")
    assert (selection.scale, summary_of(selection.groups[1]).mean, len(selection.apart)) == ("demo", 50.0, 2)


def test_an_experiments_own_budget_is_the_scales_own_where_the_column_is_of_it(tmp_path):
    fitted = scale_science("demo", exp="cifar_warmup")
    runs = [{"model.depth": 110, "model.shortcut": "A", "optim.warmup": warmup} for warmup in ("auto", "none")]
    for run in runs:
        plant(tmp_path, 110, scale="demo", exp="cifar_warmup", science={**fitted, **run})
    plant(tmp_path, 110, scale="demo", science=DEMO)
    plant(tmp_path, 20, scale="demo", science=DEMO)
    records = read_records([tmp_path]).records
    of_it = select(records, RECIPE, runs, "demo", ["cifar_warmup"])
    assert [[r.science.optim.steps for r in group] for group in of_it.groups] == [[500], [500]]
    depths = [NET, {**NET, "model.depth": 110}]
    assert proxy_scales(records, RECIPE, depths) == [
        "demo",
        "demo, exp=cifar_warmup",
        "demo, exp=cifar_warmup, optim.warmup=auto",
    ]
    others = select(records, RECIPE, depths, "demo")
    assert [[r.science.optim.steps for r in group] for group in others.groups] == [[400], [400]]


def test_a_custom_run_is_named_by_how_it_departs(tmp_path):
    for seed in range(2):
        plant(tmp_path, seed=seed, error=8.0, science={"optim.nesterov": True, "optim.lr": 0.2})
    plant(tmp_path, error=9.0, science={"optim.nesterov": True})
    records = read_records([tmp_path]).records
    near, far = "custom, optim.nesterov=true", "custom, optim.lr=0.2, optim.nesterov=true"
    assert proxy_scales(records, RECIPE, ROWS) == [near, far]
    assert summary_of(select(records, RECIPE, ROWS, far).groups[1]).mean == 8.0
    assert select(records, RECIPE, ROWS, "custom").scale == near


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(errors=st.lists(st.integers(0, 10000), min_size=2, max_size=6))
def test_the_summary_is_the_sample_statistics(tmp_path_factory, errors):
    root = tmp_path_factory.mktemp("runs")
    for seed, count in enumerate(errors):
        plant(root, seed=seed, error=count / 100, best=0.0)
    summary = summary_of(select(read_records([root]).records, RECIPE, [NET]).groups[0])
    values = [count / 100 for count in errors]
    assert summary.n == len(values)
    assert summary.mean == pytest.approx(statistics.fmean(values))
    assert summary.std == pytest.approx(math.sqrt(sum((v - summary.mean) ** 2 for v in values) / (len(values) - 1)))
    assert summary.best == min(values)


def test_one_seed_has_no_spread_and_no_seed_no_summary(tmp_path):
    plant(tmp_path)
    summary = summary_of(read_records([tmp_path]).records)
    assert (summary.n, summary.std) == (1, None)
    assert summarize([]) is None


def test_the_protocol_is_a_way_of_reading(tmp_path):
    plant(tmp_path, error=8.75, best=8.5)
    records = read_records([tmp_path]).records
    assert (summary_of(records).mean, summary_of(records, protocol="common").mean) == (8.75, 8.5)
    with pytest.raises(InputError, match="did you mean 'common'"):
        summarize(records, protocol="comon")


def test_a_curve_is_read_with_empty_cells(tmp_path):
    folder = plant(tmp_path, scale="demo", science=DEMO)
    file = folder / "curve.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:5], "", ""])
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (record,) = read_records([tmp_path]).records
    curve = read_curve(record)
    assert (len(curve), int(curve["eval_error"].isna().sum())) == (10, 1)
    assert curve["step"].iloc[-1] == 400


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: lines[:-1], "ends at step 360 instead of 400"),
        (lambda lines: [lines[0]], "has no rows"),
        (lambda lines: [*lines, lines[1]], "do not increase"),
        (lambda lines: [lines[0].replace("lr", "rate"), *lines[1:]], "must have the columns"),
        (lambda lines: [*lines[:-1], "400,1,0.1,0.1,101,0.1,5"], "train_error that is not from 0 to 100"),
        (lambda lines: [*lines[:-1], "400,1,0.1,0.1,x,0.1,5"], "not a number"),
        (lambda lines: [], "cannot be read"),
        (lambda lines: None, "no curve.csv"),
    ],
)
def test_a_curve_that_does_not_fit_is_refused(tmp_path, change, sentence):
    file = plant(tmp_path, scale="demo", science=DEMO) / "curve.csv"
    lines = change(file.read_text(encoding="utf-8").splitlines())
    file.unlink() if lines is None else file.write_text("\n".join(lines), encoding="utf-8")
    (record,) = read_records([tmp_path]).records
    with pytest.raises(InputError, match=sentence):
        read_curve(record)


def test_a_record_that_cannot_be_opened_is_left_out(tmp_path):
    (tmp_path / "cifar10-resnet20-s0-00000000" / "record.json").mkdir(parents=True)
    assert reason(tmp_path).startswith("record.json cannot be read")
    assert str(tmp_path) not in reason(tmp_path)
