"""Figures of later papers: every budget's nets, and the runs of their experiments in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.config.paths import shared_dir
from repro.errors import InputError
from repro.papers import later_figures, load_figure
from repro.report.figures import csv_text, description, later_plots, picture, plot, shown_plots
from repro.results.lesions import LESIONS
from repro.results.read import Reading, read_records
from tests.planted import edit, plant, plant_channels, plant_lesions, plant_planned

EXPERIMENTS = {
    "identity_mappings/shortcuts": ("identity_mappings_shortcuts", 7),
    "identity_mappings/activation": ("identity_mappings_activation", 5),
    "identity_mappings/depth": ("identity_mappings_depth", 6),
    "wide_resnet/width": ("wide_resnet_width", 3),
    "wide_resnet/dropout": ("wide_resnet_dropout", 4),
    "stochastic_depth/survival": ("stochastic_depth", 4),
    "densenet/residual": ("densenet_vs_residual", 4),
    "highway/residual": ("highway_vs_residual", 2),
}


@pytest.mark.parametrize("scale", ["demo", "smoke"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_figure_draws_every_run_of_its_experiment_at_a_reduced_budget(name: str, scale: str, tmp_path: Path) -> None:
    experiment, nets = EXPERIMENTS[name]
    planned = plan([f"exp={experiment}", f"scale={scale}"]).runs
    for config in planned:
        plant_planned(tmp_path, config)
    shown = plot(name, read_records([tmp_path]), scale)
    assert len(planned) == nets
    assert set(shown.run_ids) == {config.run_id for config in planned}
    assert all(panel.panel.reduced and not panel.missing for panel in shown.panels)
    assert not shown.notes


@pytest.mark.parametrize("name", later_figures())
def test_the_experiment_of_a_panel_trains_its_nets_at_the_papers_budget(name: str) -> None:
    figure = load_figure(name)
    for panel in figure.panels:
        if not panel.reduced:
            science = [run.science.flat() for run in plan([f"exp={panel.experiment}"]).runs]
            for curve in panel.curves:
                assert any(curve.run.items() <= fields.items() for fields in science), curve.label
    shown = plot(name, Reading())
    assert not any(panel.panel.reduced for panel in shown.panels)
    assert "not run yet" in description(shown)


def test_a_figure_of_a_later_paper_has_the_colours_and_files_of_its_own(tmp_path: Path) -> None:
    for config in plan(["exp=identity_mappings_shortcuts", "scale=demo"]).runs:
        plant_planned(tmp_path, config)
    shown = plot("identity_mappings/shortcuts", read_records([tmp_path]), "demo")
    assert shown.file_name == "identity_mappings/figure_shortcuts-demo"
    assert shown.title.startswith("Identity Mappings: ")
    left, _ = picture(shown).axes
    lines = [line for line in left.lines if len(np.asarray(line.get_xdata()))]
    assert len({line.get_color() for line in lines}) == len(lines) == 7
    assert csv_text(shown).count("identity_mappings/shortcuts,") == 2 * 7 * 10


def test_a_label_of_several_depths_has_one_colour_in_all_panels(tmp_path: Path) -> None:
    for config in plan(["exp=stochastic_depth", "scale=demo"]).runs:
        plant_planned(tmp_path, config)
    left, right = picture(plot("stochastic_depth/survival", read_records([tmp_path]), "demo")).axes
    pairs = [[line.get_color() for line in axes.lines] for axes in (left, right)]
    assert pairs[0] == pairs[1] and len(set(pairs[0])) == 2


def test_one_net_alone_is_no_figure_of_a_later_paper(tmp_path: Path) -> None:
    first, second, *_ = plan(["exp=stochastic_depth", "scale=demo"]).runs
    plant_planned(tmp_path, first)
    assert not later_plots(read_records([tmp_path]))
    plant_planned(tmp_path, second)
    plant(tmp_path, 110, science={"model.gate": "exclusive", "model.gate_bias": -6.0})
    assert [shown.file_name for shown in later_plots(read_records([tmp_path]))] == [
        "stochastic_depth/figure_survival-demo"
    ]


def test_one_net_of_a_reduced_panel_is_no_figure_of_the_first_paper(tmp_path: Path) -> None:
    one, *others = plan(["exp=cifar_dropout_maxout", "scale=demo"]).runs
    plant_planned(tmp_path, one)
    assert "figure_dropout_maxout-demo" not in [shown.file_name for shown in shown_plots(read_records([tmp_path]))]
    for other in others:
        plant_planned(tmp_path, other)
    (shown,) = [p for p in shown_plots(read_records([tmp_path])) if p.file_name == "figure_dropout_maxout-demo"]
    assert len(shown.run_ids) == 4


def test_the_command_draws_a_figure_of_a_later_paper(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]
    for config in plan(["exp=wide_resnet_width", "scale=demo"]).runs:
        plant_planned(tmp_path / "work", config)
    assert main(["figure", "wide_resnet/width", "--scale", "demo", *folders]) == 0
    names = {Path(line).relative_to(tmp_path).as_posix() for line in capsys.readouterr().out.split()}
    stem = "work/figures/wide_resnet/figure_width-demo"
    assert names == {f"{stem}.{kind}" for kind in ("svg", "png", "csv")}
    assert main(["figure", "wide_resnet/nothing", *folders]) == 2
    assert "wide_resnet/width" in capsys.readouterr().err
    assert main(["figure"]) == 0
    assert "wide_resnet/dropout" in capsys.readouterr().out


def test_a_figure_of_reduced_panels_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiments" / "wide_resnet"
    shutil.copytree(shared_dir("experiments") / "wide_resnet", folder)
    monkeypatch.setenv("REPRO_SHARE", str(tmp_path))
    head, *panels = (folder / "figure_width.toml").read_text(encoding="utf-8").split("[[panels]]")
    (folder / "figure_width.toml").write_text(f"{head}[[panels]]{panels[-1]}", encoding="utf-8")
    with pytest.raises(InputError, match="every panel is reduced"):
        load_figure("wide_resnet/width")


def test_one_net_without_blocks_is_a_figure(tmp_path: Path) -> None:
    folder = plant(tmp_path, 20, exp="")
    assert "shallow_ensembles/figure_lesions" not in [
        shown.file_name for shown in later_plots(read_records([tmp_path]))
    ]
    plant_lesions(folder, 20)
    (shown,) = [one for one in later_plots(read_records([tmp_path])) if one.paper.name == "shallow_ensembles/lesions"]
    assert [series.points["mean"].to_dict() for series in shown.series] == [
        {0: 10.0, 1: pytest.approx(30.0), 2: 90.0},
        {0: 10.0, 1: pytest.approx(29.0), 2: pytest.approx(31.0)},
        {0: 10.0, 1: pytest.approx(30.0)},
    ]
    assert [axes.get_xlabel() for axes in picture(shown).axes] == [panel.panel.x_label for panel in shown.panels]
    assert any("1,000" in note for note in shown.notes), "the number of images"
    other = plant(tmp_path, 20, "none", exp="")
    plant_lesions(other, 70)
    edit(other, "images", value=2000, name=LESIONS.file)
    shown = plot("shallow_ensembles/lesions", read_records([tmp_path]))
    assert any("1,000" in note and "2,000" in note for note in shown.notes)


def test_channels_are_drawn_by_stage(tmp_path: Path) -> None:
    for shortcut, alike in (("A", 0.5), ("none", -0.2)):
        plant_channels(plant(tmp_path, 20, shortcut, exp=""), abs(alike), alike)
    shown = plot("visualizing_residual/channels", read_records([tmp_path]))
    assert [series.points["mean"].to_dict() for series in shown.series] == [
        pytest.approx({1: 0.2, 2: 0.3}),
        {1: 0.05, 2: 0.05},
        pytest.approx({1: 0.5, 2: 0.6}),
        {1: 0.05, 2: 0.05},
        pytest.approx({1: -0.2, 2: -0.1}),
        {1: 0.15, 2: 0.15},
        pytest.approx({1: 0.5, 2: 0.6}),
        {1: 0.15, 2: 0.15},
    ]
    assert {series.line.style for series in shown.series if series.line.others} == {"dashed"}
    drawn = picture(shown).axes
    assert [axes.get_ylim()[0] < -0.2 for axes in drawn] == [True, True], "one scale of both"
    assert [axes.get_xticks().tolist() for axes in drawn] == [[1, 2], [1, 2]]
