"""The paper's figures of training curves, drawn from records: the same panels, lines and ticks, as SVG and PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.config import slug
from repro.errors import InputError
from repro.paper import Curve, LineStyle, Panel, PaperFigure, Run, load_figure, load_recipe
from repro.results import Reading, Record, Selection, read_curve, select
from repro.tables import size_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision. A depth has one colour in every panel and figure.
COLOURS = {20: "#0072B2", 32: "#E69F00", 44: "#009E73", 56: "#D55E00", 110: "#000000", 1202: "#CC79A7"}
OTHER_COLOUR = "#56B4E9"
CURVES = ("train_error", "eval_error")
MUTED = "#767676"
WIDTHS = {"thin": 1.0, "bold": 1.7}
DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (3.2, 1.6))}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.framealpha": 0.92,
    "legend.edgecolor": "#CCCCCC",
    "legend.fancybox": False,
    "svg.hashsalt": "repro",
}
METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


@dataclass(frozen=True)
class Drawn:
    """A curve over ``n`` seeds: per column of ``curve.csv``, ``mean``, ``low`` and ``high`` in percent by step."""

    curve: Curve
    n: int
    columns: Mapping[str, pandas.DataFrame]


def figure(number: int, reading: Reading, scale: str = "paper") -> Figure:
    """Figure ``number`` of the paper in its layout: the mean over seeds, a band from the lowest to the highest.

    Args:
        scale: ``paper`` draws the runs of the paper's full recipe on its axes; another label, as ``demo``, draws the
            runs of that scale on axes that fit them, and says that they are a proxy.

    Raises:
        InputError: There is no such figure.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paper = load_figure(number)
    runs: list[Run] = []
    for curve in (curve for panel in paper.panels for curve in panel.curves):
        runs += [curve.run] if curve.run not in runs else []
    selection = select(reading.records, load_recipe(paper.recipe).fields, runs, scale)
    notes = [f"{note}." for note in selection.notes]
    if splits := {r.science.data.eval_split for r in selection.records} - {"test"}:
        notes.append(f"Evaluated on {', '.join(sorted(splits))}, not on the test set.")
    averaged = [_average(group, notes) for group in selection.groups]
    layout = [(panel, [Drawn(c, *averaged[runs.index(c.run)]) for c in panel.curves]) for panel in paper.panels]
    if scale != "paper":
        # A proxy shows what was run; only the paper's own figure names what is missing from it.
        layout = [(p, [d for d in curves if d.n]) for p, curves in layout if any(d.n for d in curves)] or layout
    panels = [curves for _, curves in layout]
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(0.6 + 3.9 * len(panels), 4.3))
        FigureCanvasAgg(picture)
        picture.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06)
        axes = picture.subplots(1, len(panels), squeeze=False)[0]
        picture.suptitle(_title(paper, selection), fontsize=10.5, x=0.01, ha="left")
        for ax, (panel, curves) in zip(axes, layout, strict=True):
            _draw_panel(ax, paper, panel, curves, scale)
        if scale != "paper":
            _fit_axes(list(axes), panels)
        _draw_key(picture, paper, panels)
        if notes:
            text = "\n".join(textwrap.fill(note, 50 * len(panels)) for note in notes)
            picture.supxlabel(text, fontsize=7.5, color=MUTED, x=0.01, ha="left")
    return picture


def draw(number: int, out_dir: Path, reading: Reading, scale: str = "paper") -> list[Path]:
    """Writes ``figure<number>.svg`` and ``.png``, ``figure<number>-<scale>`` for a proxy; returns their paths.

    The same records give the same bytes.

    Raises:
        InputError: There is no such figure, or ``out_dir`` cannot be written.
    """
    import matplotlib

    picture = figure(number, reading, scale)
    name = f"figure{number}" if scale == "paper" else f"figure{number}-{slug(scale)}"
    paths = [out_dir / f"{name}.{kind}" for kind in METADATA]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            for path in paths:
                picture.savefig(path, dpi=160, metadata=METADATA[path.suffix[1:]])
    except OSError as error:
        raise InputError(f"the figure cannot be written to {out_dir}: {error.strerror or error}") from None
    return paths


def _average(group: Sequence[Record], notes: list[str]) -> tuple[int, dict[str, pandas.DataFrame]]:
    """The number of seeds that have a curve, and their mean and range; what has no curve goes to ``notes``.

    A step counts where every seed was evaluated: a mean over other seeds at each step would jump.
    """
    import pandas

    curves = []
    for record in group:
        try:
            curves.append(read_curve(record).set_index("step"))
        except InputError as error:
            notes.append(f"Left out: the curve of {record.run_id}: {error}.")
    columns = {}
    for column in CURVES if curves else ():
        seeds = pandas.concat([curve[column].dropna() for curve in curves], axis=1, join="inner")
        columns[column] = seeds.agg(["mean", "min", "max"], axis=1).set_axis(["mean", "low", "high"], axis=1)
    return len(curves), columns


def _title(paper: PaperFigure, selection: Selection) -> str:
    if selection.scale == "paper":
        return f"Figure {paper.number}. {paper.title}"
    size = size_of(selection).replace(" steps, ", " steps at ") if selection.records else "not run yet"
    return f"Figure {paper.number}. Proxy: {selection.scale}, {size} — not the paper's budget"


def _draw_panel(ax: Axes, paper: PaperFigure, panel: Panel, curves: Sequence[Drawn], scale: str) -> None:
    unit = paper.x_unit if scale == "paper" else 1
    ax.set(title=panel.title, ylabel=panel.y_label, xlabel=paper.x_label if scale == "paper" else "step")
    ax.spines[["top", "right"]].set_visible(False)
    if scale == "paper":
        ax.set(xlim=panel.x.limits, ylim=panel.y.limits, xticks=panel.x.ticks, yticks=panel.y.ticks)
    if not any(drawn.n for drawn in curves):
        command = f"repro run exp={panel.experiment}" + ("" if scale in ("paper", "custom") else f" scale={scale}")
        ax.text(0.5, 0.5, f"not run yet:\n{command}", transform=ax.transAxes, ha="center", va="center", color=MUTED)
        ax.grid(visible=False)
        return
    for drawn in curves:
        colour = COLOURS.get(drawn.curve.run.get("model.depth", 0), OTHER_COLOUR)
        label = drawn.curve.label + (f" (n={drawn.n})" if drawn.n > 1 else "")
        if drawn.n:
            for name in panel.lines:
                _draw_line(ax, drawn, paper.line(name), colour, unit)
            ax.plot([], [], color=colour, linewidth=WIDTHS["bold"], label=label)
        else:
            ax.plot([], [], color=MUTED, linewidth=0.8, linestyle=":", label=f"{label}: not run")
    ax.legend(loc="upper right" if scale == "paper" else "best")


def _draw_line(ax: Axes, drawn: Drawn, line: LineStyle, colour: str, unit: int) -> None:
    values = drawn.columns[line.column]
    steps = values.index / unit
    ax.plot(steps, values["mean"], color=colour, linewidth=WIDTHS[line.weight], linestyle=DASHES[line.style])
    if drawn.n > 1:
        ax.fill_between(steps, values["low"], values["high"], color=colour, alpha=0.18, linewidth=0)


def _fit_axes(axes: Sequence[Axes], panels: Sequence[Sequence[Drawn]]) -> None:
    """Gives every panel the same axes, from step 0 to the last and around all errors; no ticks without runs."""
    tables = [table for curves in panels for drawn in curves for table in drawn.columns.values() if len(table)]
    if not tables:
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        return
    low, high = min(t["low"].min() for t in tables), max(t["high"].max() for t in tables)
    margin = max(1.0, 0.06 * (high - low))
    for ax in axes:
        ax.set(xlim=(0, max(t.index.max() for t in tables)), ylim=(max(0, low - margin), min(100, high + margin)))


def _draw_key(picture: Figure, paper: PaperFigure, panels: Sequence[Sequence[Drawn]]) -> None:
    """Says what a dashed and a solid line and a band mean, where the figure has them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = []
    if len({line.style for line in paper.lines}) > 1:
        for line in paper.lines:
            style, width = DASHES[line.style], WIDTHS[line.weight]
            handles.append(Line2D([], [], color="#444444", linestyle=style, linewidth=width, label=line.label))
    if any(drawn.n > 1 for curves in panels for drawn in curves):
        handles.append(Patch(color="#444444", alpha=0.18, linewidth=0, label="mean and range over n seeds"))
    if handles:
        # Beside the title where the figure is wide enough, otherwise below the panels.
        place: Literal["upper right", "outside lower center"]
        place = "upper right" if len(panels) > 2 else "outside lower center"
        picture.legend(handles=handles, loc=place, ncols=len(handles), frameon=False, borderaxespad=0.3)
