"""Figures from planted records: the paper's axes and lines, missing runs, marked proxies; and their numbers and SVG."""

from __future__ import annotations

import csv
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest

from repro.errors import InputError
from repro.papers import figure_names
from repro.report import figures
from repro.report.channels import draw_channel
from repro.report.figures import csv_text, description, inline_svg, picture, plot
from repro.report.figures.style import COLOURS
from repro.results.read import Reading, read_curve, read_records
from tests.planted import DEMO, plant, scale_science
from tests.planted_figures import plant_constructed, plant_flow, plant_imagenet, plant_responses, with_values
from tests.runs import full_disk


def figure(name, reading, scale="paper"):
    return picture(plot(name, reading, scale))


def draw(name, folder, reading, scale="paper"):
    return figures.draw(plot(name, reading, scale), folder)


def drawn_lines(ax):
    """Return the lines of an axes that have points (those of the legend have none)."""
    return [line for line in ax.lines if len(line.get_xdata())]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def rows(name, reading, scale="paper"):
    return list(csv.DictReader(csv_text(plot(name, reading, scale)).splitlines()))


def texts(picture):
    return " ".join(text.get_text() for ax in picture.axes for text in ax.texts)


def test_figure_6_has_the_papers_axes_lines_and_colours(tmp_path):
    plant(tmp_path, 20, "none", error=9.0)
    plant(tmp_path, 20, "A", error=8.75)
    plant(tmp_path, 110, "A", error=6.5)
    left, middle, right = figure(6, read_records([tmp_path])).axes
    assert [ax.get_xlim() for ax in (left, middle, right)] == [(0, 6.4), (0, 6.4), (4, 6.4)]
    assert [tuple(ax.get_ylim()) for ax in (left, middle, right)] == [(0, 20)] * 3
    assert list(left.get_yticks()) == [0, 5, 10, 20]
    assert list(right.get_yticks()) == [0, 1, 5, 10, 20]
    training, test = drawn_lines(left)
    assert (training.is_dashed(), test.is_dashed()) == (True, False)
    assert test.get_linewidth() > training.get_linewidth()
    assert training.get_color() == test.get_color() == drawn_lines(middle)[0].get_color() == COLOURS[20]
    assert drawn_lines(right)[0].get_color() == COLOURS[110]
    assert legend(left) == ["plain-20 (n=1)", "plain-32: not run", "plain-44: not run", "plain-56: not run"]
    assert legend(right) == ["residual-110 (n=1)", "residual-1202: not run"]


def test_the_lines_are_the_rows_of_the_curve_at_the_papers_unit(tmp_path):
    plant(tmp_path, 20, "none")
    reading = read_records([tmp_path])
    curve = read_curve(reading.records[0])
    left, right = figure(1, reading).axes
    (training,), (test,) = drawn_lines(left), drawn_lines(right)
    assert list(training.get_xdata()) == pytest.approx(list(curve["step"] / 1e4))
    assert list(training.get_ydata()) == pytest.approx(list(curve["train_error"]))
    assert list(test.get_ydata()) == pytest.approx(list(curve["eval_error"]))
    assert not training.is_dashed()
    assert (left.get_ylabel(), right.get_ylabel()) == ("training error (%)", "test error (%)")


def test_seeds_are_a_mean_with_a_band_of_their_range(tmp_path):
    for seed in range(3):
        plant(tmp_path, 20, "none", seed=seed, error=9.0 + seed)
    left, right = figure(1, read_records([tmp_path])).axes
    assert drawn_lines(right)[0].get_ydata()[-1] == pytest.approx(10.0)
    (band,) = right.collections
    outline = np.asarray(band.get_paths()[0].vertices)
    at_end = outline[np.isclose(outline[:, 0], 6.4), 1]
    assert (at_end.min(), at_end.max()) == (pytest.approx(9.0), pytest.approx(11.0))
    assert legend(left)[0] == "20-layer (n=3)"


def test_an_empty_cell_is_dropped_and_a_step_needs_every_seed(tmp_path):
    folders = [plant(tmp_path, 20, "none", seed=seed, scale="demo", science=DEMO) for seed in range(2)]
    file = folders[0] / "curve.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[3] = ",".join([*lines[3].split(",")[:5], "", ""])
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    left, right = figure(1, read_records([tmp_path]), "demo").axes
    assert len(drawn_lines(left)[0].get_xdata()) == 10
    assert 60 not in drawn_lines(right)[0].get_xdata()
    assert len(drawn_lines(right)[0].get_xdata()) == 9


def test_nothing_run_says_which_command_runs_it():
    assert "not run yet:\nrepro run exp=cifar_degradation" in texts(figure(1, Reading()))
    found = texts(figure(6, Reading(), "demo"))
    assert "repro run exp=cifar_plain_sweep scale=demo" in found
    assert "repro run exp=cifar_depth_sweep scale=demo" in found


def test_a_proxy_says_so_and_never_stands_in_the_papers_figure(tmp_path):
    for depth, error in ((20, 66.0), (56, 87.0)):
        plant(tmp_path, depth, "none", error=error, train_error=error, scale="demo", science=DEMO)
    reading = read_records([tmp_path])
    proxy = figure(1, reading, "demo")
    title = proxy.get_suptitle()
    assert "Proxy: demo, 400 steps at 16x16 — not the paper's budget" in title
    left, right = proxy.axes
    assert left.get_xlim() == right.get_xlim() == (0, 400)
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] > 40
    assert left.get_ylim()[1] > 87
    assert left.get_xlabel() == "step"
    assert not any(drawn_lines(ax) for ax in figure(1, reading).axes)
    assert "Proxy" not in figure(1, reading).get_suptitle()


def test_a_curve_that_does_not_fit_is_left_out_and_named(tmp_path):
    good = plant(tmp_path, 20, "none", seed=0)
    bad = plant(tmp_path, 20, "none", seed=1)
    (bad / "curve.csv").unlink()
    reading = read_records([tmp_path])
    picture = figure(1, reading)
    assert legend(picture.axes[0])[0] == "20-layer (n=1)"
    assert any(bad.name in note and "curve.csv" in note for note in plot(1, reading).notes)
    assert "1 run: it has no curve.csv" in picture.get_supxlabel().replace("\n", " ")
    (good / "curve.csv").unlink()
    assert "not run yet" in texts(figure(1, read_records([tmp_path])))


def test_a_run_on_the_validation_split_is_said_to_be_one(tmp_path):
    plant(tmp_path, 20, "none", science={"data.split": "train45k"})
    assert "Evaluated on val5k" in figure(1, read_records([tmp_path]), "custom").get_supxlabel()


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    for seed in range(2):
        plant(tmp_path / "runs", 20, "none", seed=seed, scale="demo", science=DEMO)
    reading = read_records([tmp_path / "runs"])
    first = draw(1, tmp_path / "a", reading, "demo")
    second = draw(1, tmp_path / "b" / "deep", reading, "demo")
    assert [path.name for path in first] == ["figure1-demo.svg", "figure1-demo.png", "figure1-demo.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in first[0].read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()


def test_a_full_disk_leaves_the_older_figure_as_it_is(tmp_path):
    plant(tmp_path / "runs")
    older = [tmp_path / f"figure6.{kind}" for kind in ("svg", "png", "csv")]
    for path in older:
        path.write_text("older")
    reading = read_records([tmp_path / "runs"])
    with full_disk(), pytest.raises(InputError, match=r"figure6\.svg cannot be written"):
        draw(6, tmp_path, reading)
    assert {path.read_text() for path in older} == {"older"}
    assert draw(6, tmp_path, reading) == older and len(list(tmp_path.glob("figure6*"))) == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="file"):
        draw(1, tmp_path / "file", Reading())
    with pytest.raises(InputError, match="file"):
        draw_channel({"ResNet-20": []}, "channel 0", tmp_path / "file" / "channel0")
    with pytest.raises(InputError, match="no figure 3 here"):
        draw(3, tmp_path, Reading())


def test_drawing_needs_neither_torch_nor_pyplot():
    code = (
        "import sys; from repro.results.read import Reading; import repro.report.figures as f\n"
        "lazy = 'matplotlib' in sys.modules or 'pandas' in sys.modules; f.picture(f.plot(1, Reading()))\n"
        "print(lazy, sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False []\n"
    )


def test_figure_4_is_thin_training_and_bold_validation_on_the_papers_axes(tmp_path):
    for depth, error in ((18, 27.9), (34, 28.5)):
        plant_imagenet(tmp_path, depth, "none", error=error)
    picture = figure(4, read_records([tmp_path]))
    left, right = picture.axes
    assert (left.get_xlim(), left.get_ylim()) == ((0, 50), (20, 60))
    assert list(left.get_yticks()) == [20, 30, 40, 50, 60]
    training, validation, *_ = drawn_lines(left)
    assert not training.is_dashed()
    assert validation.get_linewidth() > training.get_linewidth()
    assert validation.get_xdata()[-1] == pytest.approx(50)
    assert validation.get_ydata()[-1] == pytest.approx(27.9)
    assert legend(left) == ["plain-18 (n=1)", "plain-34 (n=1)"]
    assert len({line.get_color() for line in drawn_lines(left)}) == 2
    assert "repro run exp=imagenet_plain_vs_residual" in texts(picture)
    assert drawn_lines(right) == []
    assert picture.get_supxlabel() == ""


def test_figure_7_shows_every_layer_in_order_and_sorted(tmp_path):
    for seed in range(2):
        plant_responses(tmp_path, 20, "none", seed)
        plant_responses(tmp_path, 110, "A", seed)
    reading = read_records([tmp_path])
    top, bottom = figure(7, reading).axes
    assert top.get_position().y0 > bottom.get_position().y0
    assert list(top.get_yticks()) == [1, 2, 3]
    plain, residual = drawn_lines(top)
    assert (plain.is_dashed(), residual.is_dashed()) == (True, False)
    assert (len(plain.get_xdata()), len(residual.get_xdata())) == (19, 109)
    means = np.mean(
        [[layer.std or 0.0 for layer in r.responses] for r in reading.records if r.label == "plain-20"], axis=0
    )
    assert plain.get_ydata() == pytest.approx(means)
    ordered = drawn_lines(bottom)[1].get_ydata()
    assert all(above >= below for above, below in pairwise(ordered))
    # Each seed is sorted by itself and then averaged: the mean of the largest, not the largest mean.
    largest = np.mean(
        [max(layer.std or 0.0 for layer in r.responses) for r in reading.records if r.label == "ResNet-110"]
    )
    assert ordered[0] == pytest.approx(largest)


def test_a_run_without_responses_is_named_and_left_out(tmp_path):
    plant_responses(tmp_path, 20, "none")
    without = plant(tmp_path, 56, "none").name
    picture = figure(7, read_records([tmp_path]))
    assert any(without in note and "responses" in note for note in plot(7, read_records([tmp_path])).notes)
    assert "1 run: it has no layer responses" in picture.get_supxlabel().replace("\n", " ")
    assert "plain-56: not run" in legend(picture.axes[0])


def test_responses_far_apart_are_all_seen_in_a_proxy(tmp_path):
    small = plant_responses(tmp_path, 20, "A", scale="demo", science=DEMO)
    plant_responses(tmp_path, 20, "none", scale="demo", science=DEMO)
    assert figure(7, read_records([tmp_path]), "demo").axes[0].get_yscale() == "linear"
    with_values(small, responses=[{"layer": f"layer{i}", "std": 1e-4 * (i + 1)} for i in range(19)])
    assert figure(7, read_records([tmp_path]), "demo").axes[0].get_yscale() == "log"


def test_gradient_flow_by_layer_and_through_training(tmp_path):
    for depth, shortcut in ((20, "none"), (56, "none"), (56, "A")):
        plant_flow(tmp_path, depth, shortcut)
    reading = read_records([tmp_path])
    flow = next(record.flow for record in reading.records if record.label == "plain-56")
    forward, backward, nets, _, forward_steps, _ = axes = figure("gradient_flow", reading).axes
    assert {ax.get_yscale() for ax in axes} == {"log"}
    assert forward.get_ylim() == nets.get_ylim() != backward.get_ylim()
    first, middle, last = drawn_lines(backward)
    for line, there in ((first, flow[0]), (middle, flow[2]), (last, flow[4])):
        assert list(line.get_ydata()) == pytest.approx([layer.activation_gradient_norm for layer in there.layers])
    assert "middle evaluation (step 38,400)" in legend(forward)
    assert legend(nets) == ["plain-20 (n=1)", "plain-56 (n=1)", "ResNet-56 (n=1)", "last evaluation (step 64,000)"]
    assert len({line.get_color() for line in drawn_lines(nets)}) == 3
    deepest = drawn_lines(forward_steps)[2]
    assert list(deepest.get_xdata()) == pytest.approx([there.step / 1e4 for there in flow])
    assert list(deepest.get_ydata()) == pytest.approx([there.layers[-1].forward_std for there in flow])


def test_a_constructed_net_is_marked_where_it_started(tmp_path):
    plant(tmp_path, 20, "none", error=9.1)
    plant(tmp_path, 56, "none", error=11.0)
    plant_constructed(tmp_path, error=9.3)
    reading = read_records([tmp_path])
    training, test = figure("constructed_solution", reading).axes
    (mark,) = (line for line in drawn_lines(training) if len(line.get_xdata()) == 1)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0, 1.5)
    (mark,) = (line for line in drawn_lines(test) if len(line.get_xdata()) == 1)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0, pytest.approx(9.1))
    ends = {line.get_color(): line.get_ydata()[-1] for line in drawn_lines(test) if len(line.get_xdata()) > 1}
    assert len(ends) == 3, "three nets, three colours, though two have the same depth"
    assert sorted(ends.values()) == pytest.approx([9.1, 9.3, 11.0])


def test_what_asks_another_question_never_stands_in_for_a_plain_run(tmp_path):
    """Constructed nets and runs with recorded gradient flow are proxies of the same depth and scale."""
    for seed in range(2):
        plant_constructed(tmp_path, seed, scale="demo", science=DEMO, error=40.0)
        plant_flow(tmp_path, 56, seed=seed, scale="demo", science=DEMO, error=50.0)
    plant(tmp_path, 56, "none", scale="demo", science=DEMO, error=60.0)
    picture = figure(1, read_records([tmp_path]), "demo")
    (line,) = drawn_lines(picture.axes[1])
    assert line.get_ydata()[-1] == pytest.approx(60.0)
    assert picture.get_supxlabel() == ""
    drawn = figure("constructed_solution", read_records([tmp_path]), "demo").axes[1]
    assert legend(drawn) == ["plain-56, random start (n=1)", "plain-56 made from plain-20 (n=2)"]


def test_warm_up_is_told_apart_and_shown_from_its_first_steps(tmp_path):
    budget = scale_science("demo", exp="cifar_warmup")
    for warmup, error in (("auto", 6.4), ("none", 6.6)):
        plant(tmp_path, 110, "A", error=error, scale="demo", science={**budget, "optim.warmup": warmup})
    first, whole = figure("warmup", read_records([tmp_path]), "demo").axes
    assert (first.get_xlim(), whole.get_xlim()) == ((0, 125), (0, 500))
    assert legend(whole) == ["with warm-up (n=1)", "without (n=1)"]
    assert {line.get_ydata()[-1] for line in drawn_lines(whole) if not line.is_dashed()} == {6.4, 6.6}


def test_a_plot_keeps_the_records_of_each_line(tmp_path):
    """A record that was selected but cannot be drawn is not among them."""
    for seed in range(2):
        plant(tmp_path, 20, "none", seed=seed)
    without = plant(tmp_path, 56, "none")
    (without / "curve.csv").unlink()
    shown = plot(1, read_records([tmp_path]))
    assert [[r.seed for r in series.records] for series in shown.series] == [[0, 1], [0, 1]]
    assert shown.run_ids == tuple(record.run_id for record in shown.series[0].records)


def test_the_plotted_numbers_are_those_of_the_lines(tmp_path):
    for seed in range(2):
        plant(tmp_path, 20, "none", seed=seed, scale="demo", science=DEMO, error=60.0 + seed)
    reading = read_records([tmp_path])
    found = [row for row in rows(1, reading, "demo") if row["panel"] == "test error"]
    line = drawn_lines(figure(1, reading, "demo").axes[1])[0]
    assert [float(row["x"]) for row in found] == pytest.approx(list(line.get_xdata()))
    assert [float(row["mean"]) for row in found] == pytest.approx(list(line.get_ydata()), rel=1e-5)
    end = found[-1]
    assert (end["figure"], end["curve"], end["line"], end["n"]) == ("1", "20-layer", "test", "2")
    assert (end["x"], end["mean"], end["low"], end["high"]) == ("400", "60.5", "60", "61")


def test_every_figure_is_there_in_every_form_without_a_run(tmp_path):
    assert [name for name in figure_names() if name.isdigit()] == ["1", "4", "6", "7"]
    assert {"constructed_solution", "gradient_flow", "warmup"} <= set(figure_names())
    for name in figure_names():
        shown = plot(name, Reading())
        assert csv_text(shown) == "figure,panel,curve,line,x,mean,low,high,n\n"
        assert "not run yet" in description(shown)
        assert "not run yet" in texts(picture(shown))


def test_svg_of_several_figures_stand_in_one_page(tmp_path):
    plant_responses(tmp_path, 20, "none")
    plant(tmp_path, 20, "none", scale="demo", science=DEMO)
    reading = read_records([tmp_path])
    one, seven = plot(1, reading), plot(7, reading)

    def svg(shown, name, columns=None):
        return inline_svg(picture(shown, columns), name, description(shown))

    pieces = [svg(one, "a"), svg(plot(1, reading, "demo"), "b"), svg(seven, "c"), svg(seven, "d", 2)]
    assert pieces[0] == svg(one, "a")
    page = ElementTree.fromstring(f"<div>{''.join(pieces)}</div>")
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    used = {v.split("#")[1].rstrip(")") for e in page.iter() for v in e.attrib.values() if v.startswith(("#", "url(#"))}
    assert used
    assert used <= set(ids)
    first = page[0]
    assert first.get("role") == "img"
    assert first.get("aria-label") == description(one)
    assert first.get("width") is None
    written = [element.text for element in first.iter("{http://www.w3.org/2000/svg}text")]
    assert "training error (%)" in written, "text is text, not outlines"


def test_the_description_says_where_lines_end(tmp_path):
    for seed in range(2):
        plant(tmp_path, 20, "none", seed=seed, error=9.0 + seed)
    found = description(plot(1, read_records([tmp_path])))
    assert "20-layer, test error (mean of 2 seeds): from" in found
    assert "to 9.5 at 6.4" in found
    assert "56-layer: not run" in found
