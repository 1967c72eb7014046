"""The papers that followed: their tables, their recipes, and the experiments that fill them."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.cli.main import main
from repro.config.arguments import choices
from repro.config.compose import plan
from repro.config.families import FAMILIES
from repro.config.run import RunConfig, later_defaults
from repro.errors import InputError
from repro.models import NETS
from repro.papers import later_papers, later_tables, load_recipe, load_table
from repro.report.summary import Summary
from repro.report.tables import FORMATS, table
from repro.results.read import read_record, read_records
from tests.planted import edit, plant, plant_planned
from tests.planted_imagenet import counts

RECIPES = (
    *("identity_mappings/cifar10_recipe", "wide_resnet/cifar_recipe", "stochastic_depth/cifar10_recipe"),
    *("densenet/cifar_recipe", "highway/cifar_recipe", "identity_mappings/imagenet_recipe"),
    *("wide_resnet/imagenet_recipe", "densenet/imagenet_recipe"),
)
RUNNABLE = [(key, row) for key in later_tables() for row in load_table(key).rows if row.run is not None]


def test_a_family_is_an_entry_here_and_one_there() -> None:
    assert set(NETS) == {name for name, family in FAMILIES.items() if not family.own and not family.is_body}
    assert set(FAMILIES) <= set(choices("model"))
    for family in FAMILIES.values():
        assert load_recipe(family.recipe).fields["optim.lr"] == (0.025 if family.prefix == "Highway" else 0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_every_science_field_but_those_of_the_row(name: str) -> None:
    fields = set(plan(["model.depth=20"]).runs[0].science.flat())
    named = set(load_recipe(name).fields)
    assert fields - {"model.depth", "model.shortcut"} - set(later_defaults()) <= named < fields


@pytest.fixture(scope="module")
def plans() -> dict[str, list[RunConfig]]:
    return {name: plan(f"exp={name}".split()).runs for name in {row.experiment for _, row in RUNNABLE}}


@pytest.mark.slow
@pytest.mark.parametrize(("key", "row"), RUNNABLE, ids=[f"{key}-{row.label}" for key, row in RUNNABLE])
def test_the_experiment_of_a_row_holds_the_run_that_fills_it(key, row, plans) -> None:
    wanted = {**later_defaults(), **load_recipe(load_table(key).recipe).fields, **row.run}
    found = [run for run in plans[row.experiment] if run.science.flat() == wanted]
    assert found
    assert {run.model.label for run in found} == {row.label.partition(" (")[0]}
    assert row.layers == found[0].model.depth


def test_papers_print_what_the_copies_agree_on() -> None:
    published = {(key, row.label): row.paper["top1_error"] for key in later_tables() for row in load_table(key).rows}
    assert published["identity_mappings/2", "PreResNet-164"].median == 5.46
    assert published["identity_mappings/1", "ResNet-110 shortcut dropout 0.5"].above == 20
    assert published["identity_mappings/3", "PreResNet-1001"].mean == 4.89
    batch_64 = published["identity_mappings/4", "PreResNet-1001 (batch 64)"]
    assert (batch_64.median, batch_64.mean, batch_64.std) == (4.62, 4.69, 0.2)
    assert published["identity_mappings/5", "PreResNet-200"].single == 20.7
    assert published["wide_resnet/2", "WRN-31-2 B(3,1,3)"].median == 5.78
    assert published["wide_resnet/3", "WRN-40-2 B(3,3,3,3)"].median == 5.93
    assert published["wide_resnet/4", "WRN-28-10"].median == 4.17
    assert published["wide_resnet/5", "WRN-28-10"].median == 4.0
    assert published["wide_resnet/5", "WRN-28-10 (CIFAR-100)"].median == 19.25
    assert published["wide_resnet/6", "WRN-16-4 dropout 0.3"].median == 5.24
    assert published["wide_resnet/7", "WRN-34-2 B"].single == 23.39
    assert published["wide_resnet/8", "WRN-50-2"].single == 21.9
    assert published["stochastic_depth/1", "ResNet-1202 stochastic depth 0.5"].single == 4.91
    assert published["densenet/2", "DenseNet-BC-190-40"].single == 3.46
    assert published["densenet/2", "DenseNet-BC-250-24 dropout 0.2 (CIFAR-100, no augmentation)"].single == 19.64
    assert published["densenet/2", "DenseNet-100-24 dropout 0.2 (SVHN)"].single == 1.59
    assert published["densenet/3", "DenseNet-121"].single == 25.02
    assert published["densenet/3", "DenseNet-264 (ten crops)"].single == 20.8
    assert (published["highway/2", "Highway-19 dropout 0.2"].best, published["highway/2", "FitNet A"].single) == (
        7.54,
        10.99,
    )
    assert published["highway/3", "Highway-19 dropout 0.2 (CIFAR-100)"].mean == 32.39
    arxiv = ["1608.06993", "1507.06228", "1603.05027", "1605.06431", "1603.09382", "1701.02362", "1605.07146"]
    assert [paper.arxiv for paper in later_papers().values()] == arxiv


def test_a_table_of_a_later_paper_has_its_own_runs_and_the_first_papers(tmp_path: Path) -> None:
    for seed, error in enumerate((6.5, 6.7, 7.3)):
        plant(tmp_path, 110, seed=seed, error=error)
        plant(tmp_path, 110, seed=seed, error=error + 2, science={"model.gate": "exclusive", "model.gate_bias": -6.0})
    frame = table("identity_mappings/1", read_records([tmp_path]))
    rows = {row["Method"].text: row for row in frame.rows}
    assert rows["ResNet-110"]["Measured"].text == "6.83 ± 0.42 (n=3)"
    assert rows["ResNet-110"]["Difference"].text == "+0.09", "of the medians"
    assert rows["ResNet-110 exclusive gate -6"]["Measured"].text == "8.83 ± 0.42 (n=3)"
    assert rows["ResNet-110 shortcut dropout 0.5"]["Paper"].text == ">20.00"
    first = table(6, read_records([tmp_path]))
    (own,) = [row for row in first.rows if row["Method"].text == "ResNet-110"]
    assert own["Measured"].text.startswith("6.83 ± 0.42 (n=3)"), "a gated net is another net, not a proxy of this one"
    assert first.header == table(6, read_records([tmp_path / "nowhere"])).header
    assert [row["paper_aggregate"] for row in frame.values][:2] == ["median of 5", "above"]
    assert all(text_of(frame) for text_of in FORMATS.values())


def test_a_run_that_fills_one_row_is_a_proxy_of_no_other(tmp_path: Path) -> None:
    for words, error in (("data=cifar100", 28.0), ("data.pad=0 data.flip=false", 14.0)):
        for config in plan(f"exp=stochastic_depth {words} model.survival=none seed=0,1".split()).runs:
            if config.model.depth == 110:
                plant_planned(tmp_path, config, error)
    frame = table("stochastic_depth/1", read_records([tmp_path]))
    assert not [name for name in frame.header if name.startswith("Proxy")]
    measured = {row["Method"].text: row["Measured"].text for row in frame.rows}
    assert measured["ResNet-110"] == "–"
    assert measured["ResNet-110 (CIFAR-100)"] == "28.00 ± 0.00 (n=2)"
    assert measured["ResNet-110 (no augmentation)"] == "14.00 ± 0.00 (n=2)"


def test_a_row_on_other_images_needs_all_of_those(tmp_path: Path) -> None:
    config = plan(["exp=densenet_svhn", "model.depth=40", "model.block=single", "seed=0"]).runs[0]
    for images, shown in ((10000, "–"), (26032, "1.75 (n=1)")):
        plant_planned(tmp_path, config, 1.75, images=images)
        rows = {row["Method"].text: row["Measured"].text for row in table("densenet/2", read_records([tmp_path])).rows}
        assert rows["DenseNet-40-12 dropout 0.2 (SVHN)"] == shown
        assert rows["DenseNet-40-12 dropout 0.2 (no augmentation)"] == "–"


def test_a_row_shows_its_own_test_of_a_run_that_fills_two(tmp_path: Path) -> None:
    config = plan(["exp=identity_mappings_imagenet", "model.depth=152", "model.order=original"]).runs[0]
    untested = plan(["exp=identity_mappings_imagenet", "model.depth=152", "model.order=original", "seed=1"]).runs[0]
    for run, views in ((config, {"large_crop": (21.5, 5.6)}), (untested, {})):
        folder = plant_planned(tmp_path, run, 23.1, images=50000)
        final = {"split": "val", "loss": 1.2, "step": run.optim.steps, **counts(23.1, 6.9, 50000)}
        edit(folder, "result", "final", value=final)
        tested = [{"view": view, "split": "val", **counts(*values, 50000)} for view, values in views.items()]
        edit(folder, "result", "views", value=tested)
    frame = table("identity_mappings/5", read_records([tmp_path]))
    measured = {row["Method"].text: row["Measured top-1 error (%)"].text for row in frame.rows}
    assert (measured["ResNet-152 (224x224)"], measured["ResNet-152"]) == ("23.10 (n=1)", "21.50 (n=1)")
    assert measured["PreResNet-152"] == measured["PreResNet-200 (scale and aspect ratio)"] == "–"
    assert f"Left out: {untested.run_id}: it has no test large_crop." in frame.notes
    with pytest.raises(InputError, match="shows the test large_crop"):
        table("identity_mappings/5", read_records([tmp_path]), "common")
    line = Summary("paper").line(read_record(tmp_path / config.run_id / "record.json"))
    assert "(paper 23.00, difference +0.10)" in line, "the final error is that of one crop of 224x224"


@pytest.mark.parametrize("scale", ["paper", "tenth", "demo"])
def test_a_run_of_one_papers_recipe_is_no_proxy_of_another_papers(tmp_path: Path, scale: str) -> None:
    for config in plan(f"exp=stochastic_depth scale={scale} model.survival=none seed=0".split()).runs:
        plant_planned(tmp_path, config, 7.0)
    before = table(6, read_records([tmp_path / "nowhere"]))
    assert table(6, read_records([tmp_path])).texts == before.texts
    if scale != "paper":  # its views and schedule are of an experiment's own budget (conf/fitted_exp)
        for config in plan(f"exp=identity_mappings_imagenet scale={scale} seed=0".split()).runs:
            plant_planned(tmp_path / "photos", config, 30.0)
        for number in (3, 4):
            nothing = table(number, read_records([tmp_path / "nowhere"]))
            assert table(number, read_records([tmp_path / "photos"])).texts == nothing.texts
    plant(tmp_path, 110, error=9.0, science={"optim.nesterov": True})
    (name,) = [name for name in table(6, read_records([tmp_path])).header if name.startswith("Proxy")]
    assert "optim.nesterov=true" in name, "a choice of one's own is shown"


def test_the_command_line_takes_a_papers_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]
    assert main(["table", "wide_resnet/4", *folders]) == 0
    assert "Wide ResNet: Wide nets of different depth and width" in capsys.readouterr().out
    assert main(["table", "wide_resnet/9", *folders]) == 2
    assert "wide_resnet/4" in capsys.readouterr().err
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "identity_mappings/1" in listed and "arXiv:1605.07146" in listed


@pytest.mark.parametrize("key", ["wide_resnet/x", "densenet/1", "../1", "identity_mappings/"])
def test_a_table_that_there_is_none_of_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"there is no table {key} here.*identity_mappings/1"):
        load_table(key)
