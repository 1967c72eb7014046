"""The paper as data: every number of Table 6, invalid files, recipes that name every science field."""

from __future__ import annotations

import shutil

import pytest

from repro.config.compose import plan
from repro.config.paths import shared_dir
from repro.config.run import later_defaults
from repro.errors import InputError
from repro.papers import Published, figure_numbers, load_figure, load_recipe, load_table, table_numbers
from repro.results.scales import DEFAULTS, compared
from tests.planted import planted_config


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """Return a copy of the data that a test may damage."""
    folder = tmp_path / "experiments" / "resnet"
    shutil.copytree(shared_dir("experiments"), folder.parent)
    monkeypatch.setenv("REPRO_SHARE", str(tmp_path))
    return folder


def replace(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_table_6_is_the_published_one():
    rows = load_table(6).rows
    found = [(r.label, r.layers, r.params_millions, r.paper["top1_error"].headline, r.cited) for r in rows]
    assert found == [
        ("Maxout", None, None, 9.38, True),
        ("NIN", None, None, 8.81, True),
        ("DSN", None, None, 8.22, True),
        ("FitNet", 19, 2.5, 8.39, True),
        ("Highway", 19, 2.3, 7.54, True),
        ("Highway", 32, 1.25, 8.80, True),
        ("ResNet-20", 20, 0.27, 8.75, False),
        ("ResNet-32", 32, 0.46, 7.51, False),
        ("ResNet-44", 44, 0.66, 7.17, False),
        ("ResNet-56", 56, 0.85, 6.97, False),
        ("ResNet-110", 110, 1.7, 6.43, False),
        ("ResNet-1202", 1202, 19.4, 7.93, False),
    ]
    assert rows[10].paper["top1_error"] == Published(best=6.43, mean=6.61, std=0.16, runs=5)
    assert rows[4].paper["top1_error"] == Published(best=7.54, mean=7.72, std=0.16, runs=5)
    assert rows[10].paper["top1_error"].aggregate == "best of 5"
    assert rows[6].paper["top1_error"].aggregate == "single"


@pytest.mark.parametrize("row", [row for row in load_table(6).rows if row.run], ids=lambda row: row.label)
def test_the_run_of_a_row_is_the_net_it_names(row):
    config = planted_config(row.run["model.depth"], row.run["model.shortcut"])
    assert config.model.label == row.label
    assert config.model.depth == row.layers


def test_figure_6_has_the_panels_of_the_paper():
    figure = load_figure(6)
    labels = [[curve.label for curve in panel.curves] for panel in figure.panels]
    assert labels == [
        ["plain-20", "plain-32", "plain-44", "plain-56"],
        ["ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "ResNet-110"],
        ["residual-110", "residual-1202"],
    ]
    assert [panel.x and panel.x.limits for panel in figure.panels] == [(0, 6.4), (0, 6.4), (4, 6.4)]
    assert figure.panels[2].y and figure.panels[2].y.ticks == (0, 1, 5, 10, 20)
    assert (figure.line("train").style, figure.line("test").style) == ("dashed", "solid")
    assert {panel.curves[0].run["model.shortcut"] for panel in figure.panels} == {"A", "none"}


def test_figure_1_shows_training_left_and_test_right():
    panels = load_figure(1).panels
    assert [panel.lines for panel in panels] == [("train",), ("test",)]
    assert all([c.run["model.depth"] for c in panel.curves] == [20, 56] for panel in panels)
    assert all(c.run["model.shortcut"] == "none" for panel in panels for c in panel.curves)


@pytest.mark.parametrize("name", ["cifar10_recipe", "imagenet_recipe"])
def test_the_recipe_names_every_science_field_but_those_of_the_row(name):
    """Fields added later are at their defaults, which keep the behaviour before them."""
    fields = set(plan(["model.depth=20"]).runs[0].science.flat())
    named = set(load_recipe(name).fields)
    assert fields - {"model.depth", "model.shortcut"} - set(later_defaults()) <= named < fields


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("voc_recipe", "exp=voc_detection"),
        ("coco_recipe", "exp=coco_detection"),
        (
            "imagenet_det_recipe",
            "exp=imagenet_detection detection.refine=false detection.context=false detection.scales=[]",
        ),
    ],
)
def test_a_recipe_of_detectors_is_its_experiment(name, words):
    run = plan([*words.split(), "detection.start=weights.pth"]).runs[0]
    net = {"model.depth": 101, "model.shortcut": "B"}
    assert compared(run.science) == {**DEFAULTS, **load_recipe(name).fields, **net}


def test_the_recipe_is_the_papers():
    fields = load_recipe("cifar10_recipe").fields
    assert (fields["optim.steps"], fields["optim.milestones"]) == (64000, [32000, 48000])
    assert (fields["optim.lr"], fields["optim.batch_size"], fields["optim.weight_decay"]) == (0.1, 128, 1e-4)
    assert (fields["data.train_images"], fields["data.split"]) == (None, "train")
    assert planted_config(20).key == "cifar10-resnet20"


def test_the_recipe_for_imagenet_is_the_papers():
    """From section 3.4 and the authors' release."""
    stated, chosen = load_recipe("imagenet_recipe").stated, load_recipe("imagenet_recipe").chosen
    assert (stated["optim.lr"], stated["optim.batch_size"], stated["optim.decay_factor"]) == (0.1, 256, 10)
    assert (stated["optim.momentum"], stated["optim.weight_decay"]) == (0.9, 1e-4)
    assert (stated["data.image_size"], stated["data.resize"], stated["data.colour"]) == (224, [256, 480], "pca")
    assert (stated["data.mean"], stated["eval.scales"]) == ("per_pixel", [224, 256, 384, 480, 640])
    assert chosen["optim.steps"] <= 600000
    assert chosen["model.bn_group_size"] * 8 == stated["optim.batch_size"]
    assert (chosen["model.stride_in"], chosen["eval.bn_stats"], chosen["data.eval_resize"]) == (
        "1x1",
        "recomputed",
        256,
    )


def test_a_number_without_data_names_those_that_exist():
    assert table_numbers() == list(range(1, 15))
    assert {1, 6} <= set(figure_numbers())
    with pytest.raises(InputError, match=r"table 15 .* 1, 2, .*, 14$"):
        load_table(15)
    with pytest.raises(InputError, match=r"figure 2 .* 1, "):
        load_figure(2)
    with pytest.raises(InputError, match=r"no experiments/resnet/nothing\.toml"):
        load_recipe("nothing")


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("table6", "layers = 19", "layrs = 19", "table6.toml: unknown key 'rows[3].layrs': did you mean 'layers'"),
        ("table6", "layers = 19", 'layers = "many"', "table6.toml: rows[3].layers='many'"),
        ("table6", "std = 0.16", "sdt = 0.16", "unknown key 'rows[4].paper.top1_error.sdt'"),
        ("table6", "{ single = 9.38 }", "{ single = 9.38, runs = 3 }", "Maxout: a published value is"),
        ("table6", "{ single = 9.38 }", "{ runs = 3 }", "Maxout: a published value is"),
        ("table6", "cited = true", "cited = false", "Maxout: a row needs exactly one of"),
        ("table6", "number = 6", "number = 5", "number=5"),
        ("table6", "number = 6", "number = ", "table6.toml is not TOML"),
        ("table6", 'title = "', 'titel = "', "did you mean 'title'"),
        ("table6", 'experiment = "cifar_depth_sweep"', "", "experiment is missing"),
        ("table2", 'view = "10crop"', 'view = "9crop"', "view=9crop is unknown: did you mean '10crop'"),
        ("table2", "eval_images = 50000\n", "", "eval_images is missing"),
        ("table3", 'experiment = "imagenet_shortcuts"\n', "", "ResNet-34 A: experiment is missing"),
        (
            "table3",
            "{ top1_error = 24.52, top5_error = 7.46 }",
            "{ top1_error = 24.52 }",
            "ResNet-34 B: paper must have",
        ),
        ("table3", "{ top5_error = 9.15 }", "{ top2_error = 9.15 }", "GoogLeNet: paper must have top1_error, top5"),
        ("table3", "{ top5_error = 9.15 }", "{}", "GoogLeNet: paper must have top1_error, top5_error"),
        (
            "table3",
            'cited = true\nnote = "',
            'cited = true\nundecidable = "no"\nnote = "',
            "VGG-16: a row needs",
        ),
        ("table5", "labels = { top5_error", "labels = { top_error", "labels has unknown metrics: top_error"),
        (
            "table11",
            'undecidable = "the objects of the VOC 2012 test set are not public, its server scores detections"\n',
            "",
            "a row needs",
        ),
        ("table1", '"model.depth" = 18', "depth = 18", "18-layer: net: depth must read"),
        ("table6", '"model.depth" = 20', "depth = 20", "depth must read"),
        ("figure6", 'lines = ["train", "test"]', 'lines = ["train", "tset"]', "unknown line 'tset'"),
        ("figure6", 'style = "dashed"', 'style = "wavy"', "style=wavy is unknown"),
        ("figure6", 'label = "plain-20"', 'lable = "plain-20"', "panels[0].curves[0].lable'"),
        ("cifar10_recipe", '"optim.lr" = 0.1', '"optim.lr" = 0.1\n"data.std" = "none"', "data.std is named more than"),
        ("cifar10_recipe", "title = ", "titel = ", "unknown key 'titel'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(experiments, name, old, new, sentence):
    replace(experiments / f"{name}.toml", old, new)
    digits = name.lstrip("tablefigur")
    number = int(digits) if digits.isdigit() else None
    with pytest.raises(InputError) as error:
        load_recipe(name) if number is None else load_table(number) if name[0] == "t" else load_figure(number)
    assert sentence in str(error.value)
