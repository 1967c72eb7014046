"""Figures 1 and 6 from planted curves: the paper's axes and lines, what was not run, proxies that say so."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from repro.errors import InputError
from repro.figures import COLOURS, draw, figure
from repro.results import Reading, read_curve, read_records
from tests.planted import DEMO, plant


def drawn_lines(ax):
    """The lines of an axes that hold points (the legend's own hold none)."""
    return [line for line in ax.lines if len(line.get_xdata())]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


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
    assert legend(left) == ["plain-20", "plain-32: not run", "plain-44: not run", "plain-56: not run"]
    assert legend(right) == ["residual-110", "residual-1202: not run"]


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
    assert "Proxy: demo, 200 steps at 16x16 — not the paper's budget" in title
    left, right = proxy.axes
    assert left.get_xlim() == right.get_xlim() == (0, 200)
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
    picture = figure(1, read_records([tmp_path]))
    assert legend(picture.axes[0])[0] == "20-layer"
    assert f"the curve of {bad.name}: it has no curve.csv" in picture.get_supxlabel().replace("\n", " ")
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
    assert [path.name for path in first] == ["figure1-demo.svg", "figure1-demo.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in first[0].read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        draw(1, tmp_path / "file", Reading())
    with pytest.raises(InputError, match="no figure 3 here"):
        draw(3, tmp_path, Reading())


def test_drawing_needs_neither_torch_nor_pyplot():
    code = (
        "import sys; from repro.results import Reading; import repro.figures as f\n"
        "lazy = 'matplotlib' in sys.modules or 'pandas' in sys.modules; f.figure(1, Reading())\n"
        "print(lazy, sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False []\n"
    )
