"""Figures as pictures and files."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.errors import InputError
from repro.papers import Curve
from repro.report.figures.axes import fit
from repro.report.figures.numbers import Plot, PlottedPanel, Series, csv_text
from repro.report.figures.style import DASHES, INK, METADATA, MUTED, STYLE, WIDTHS, colours
from repro.results.scales import scale_of
from repro.runtime.files import make_folder, write_asked_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

BAND = 0.18
"""Opacity of the range over seeds."""
MARK: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": "white"}
BELOW = 3
"""Nets on a line of a legend below the panels."""
NOTE_LINE, KEY_LINE = 0.145, 0.22
"""Heights of a line, in inches."""
RUN_IDS = re.compile(r"[\w.-]+-s\d+-[0-9a-f]{8}(?:, [\w.-]+-s\d+-[0-9a-f]{8})*")
SERIES = "_series"
"""Begins the labels of lines and bands of series; matplotlib leaves labels with an underscore out of legends."""


def draw(plot: Plot, out_dir: Path) -> list[Path]:
    """Write the figure as ``.svg`` and ``.png``, and its numbers as ``.csv``; return their paths.

    The same records give the same bytes.
    """
    import matplotlib

    drawn = picture(plot)
    contents: dict[str, str | bytes] = {}
    with matplotlib.rc_context(STYLE):
        for kind, metadata in METADATA.items():
            out = io.BytesIO()
            drawn.savefig(out, format=kind, dpi=160, metadata=metadata)
            contents[kind] = out.getvalue()
    contents["csv"] = csv_text(plot)
    file = out_dir / plot.file_name
    make_folder(file.parent, InputError)
    return [write_asked_for(file.with_name(f"{file.name}.{kind}"), content) for kind, content in contents.items()]


def picture(plot: Plot, columns: int | None = None, show_notes: bool = True) -> Figure:
    """Draw a figure in the paper's layout, or in ``columns`` of panels for narrow pages."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wanted = columns or plot.paper.columns or len(plot.panels)
    across = min(wanted, len(plot.panels))
    down = math.ceil(len(plot.panels) / across)
    width = 3.9 if across > 1 or len(plot.panels) == 1 else 6.2
    size = (0.6 + width * across, 0.7 + (3.4 if down == 1 else 2.9) * down)
    shown = [RUN_IDS.sub(_count_ids, note) for note in plot.notes] if show_notes else []
    notes = "\n".join(_wrapped(note, 15 * size[0]) for note in shown)
    handles = [*_named_below(plot), *_key(plot)]
    rows = 0 if across > 2 else len(handles) if across == 1 else min(1, len(handles))
    rows = rows if plot.paper.legend == "inside" else math.ceil(len(handles) / (1 if across == 1 else BELOW))
    # Inches below the panels, from the bottom: the notes, then the key.
    room = (NOTE_LINE * (1 + notes.count("\n")) + 0.08 if notes else 0.0, KEY_LINE * rows + 0.08 if rows else 0.0)
    height = size[1] + sum(room)
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(size[0], height))
        FigureCanvasAgg(drawn)
        foot = sum(room) / height
        drawn.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06, rect=(0, foot, 1, 1 - foot))
        grid = list(drawn.subplots(down, across, squeeze=False).flat)
        axes = grid[: len(plot.panels)]
        for ax in grid[len(plot.panels) :]:
            ax.remove()
        drawn.suptitle(_wrapped(plot.title, 11.5 * size[0]), fontsize=10.5, x=0.01, ha="left")
        for ax, panel in zip(axes, plot.panels, strict=True):
            _draw_panel(ax, plot, panel)
        fit(axes, plot)
        if handles:
            # Beside the title if the figure is wide enough, otherwise below the panels and above the notes.
            place: Literal["lower center", "upper right"] = "lower center" if rows else "upper right"
            box = (0, room[0] / height, 1, 1 - room[0] / height)
            columns = math.ceil(len(handles) / max(1, rows))
            drawn.legend(
                handles=handles, loc=place, bbox_to_anchor=box, ncols=columns, frameon=False, borderaxespad=0.3
            )
        if notes:
            label = drawn.supxlabel(notes, fontsize=7.5, color=MUTED, x=0.01, y=0.05 / height, ha="left")
            label.set(va="bottom", in_layout=False)
        _settle(drawn)
    return drawn


def _settle(drawn: Figure) -> None:
    """Compute the layout once and round it, since the last digits of the solver vary."""
    engine = drawn.get_layout_engine()
    assert engine is not None
    engine.execute(drawn)
    drawn.set_layout_engine("none")
    for ax in drawn.axes:
        left, bottom, width, height = (round(side, 4) for side in ax.get_position().bounds)
        ax.set_position((left, bottom, width, height))


def _count_ids(ids: re.Match[str]) -> str:
    count = ids[0].count(",") + 1
    return f"{count} run{'' if count == 1 else 's'}"


def _wrapped(text: str, columns: float) -> str:
    return textwrap.fill(text, max(20, int(columns)))


def _draw_panel(ax: Axes, plot: Plot, shown: PlottedPanel) -> None:
    panel = shown.panel
    ax.set(ylabel=panel.y_label, xlabel=shown.x_label, yscale=panel.y_scale)
    if panel.heading:
        ax.set_title(panel.title)
    ax.spines[["top", "right"]].set_visible(False)
    if not shown.series:
        scale = scale_of(plot.scale)
        command = f"repro run exp={panel.experiment}" + ("" if scale in ("paper", "custom") else f" scale={scale}")
        ax.text(0.5, 0.5, f"not run yet:\n{command}", transform=ax.transAxes, ha="center", va="center", color=MUTED)
        ax.grid(visible=False)
        return
    below = plot.paper.legend == "below"
    chosen = colours(_curves(plot) if below or _depths_share_labels(plot) else shown.curves)
    for series in shown.series:
        _draw_series(ax, series, chosen[series.curve.label], marked=shown.panel.of_lesions or shown.panel.of_channels)
    first = next(p for p in plot.panels if (p.panel.shows, p.panel.lines) == (panel.shows, panel.lines))
    if not below and (first is shown or not panel.shows.startswith("flow")):
        _draw_legend(ax, plot, shown, chosen)


def _draw_legend(ax: Axes, plot: Plot, shown: PlottedPanel, chosen: Mapping[str, str]) -> None:
    """Draw the legend: nets with their number of seeds and, in panels of gradient flow, each dash."""
    for curve in shown.curves:
        n = shown.n(curve)
        if n:
            label = f"{curve.label} (n={n})"
            dash = DASHES[curve.style or "solid"]
            ax.plot([], [], color=chosen[curve.label], linewidth=WIDTHS["bold"], linestyle=dash, label=label)
        else:
            ax.plot([], [], color=MUTED, linewidth=0.8, linestyle=":", label=f"{curve.label}: not run")
    if shown.panel.shows.startswith("flow"):
        for series in shown.series:
            if series.curve is shown.series[0].curve:
                dash, width = DASHES[series.line.style], WIDTHS[series.line.weight]
                ax.plot([], [], color=INK, linestyle=dash, linewidth=width, label=series.label)
    ax.legend(loc="upper right" if plot.scale == "paper" and shown.panel.y is not None else "best")


def _draw_series(ax: Axes, series: Series, colour: str, *, marked: bool) -> None:
    points, line = series.points, series.line
    x = points.index.to_numpy()
    dash = DASHES[series.curve.style or line.style]
    # A single point, such as the start of a constructed net, is shown as a mark instead of a line. Marks on a line show
    # that it has values at whole numbers alone.
    mark = {**MARK, "zorder": 5} if len(points) == 1 or marked else {}
    style: dict[str, Any] = {"color": colour, "label": "\t".join((SERIES, series.curve.label, series.label))}
    ax.plot(x, points["mean"], linewidth=WIDTHS[line.weight], linestyle=dash, clip_on=not mark, **style, **mark)
    if series.n > 1:
        ax.fill_between(x, points["low"], points["high"], alpha=BAND, linewidth=0, **style)


def _depths_share_labels(plot: Plot) -> bool:
    """Return whether a label names nets of several depths, one in each panel, which then have one colour."""
    curves = [curve for panel in plot.panels for curve in panel.curves]
    return len({(c.label, c.run.get("model.depth")) for c in curves}) > len({c.label for c in curves})


def _curves(plot: Plot) -> list[Curve]:
    """Return the nets of all panels, each label once."""
    return list({curve.label: curve for panel in plot.panels for curve in panel.curves}.values())


def _named_below(plot: Plot) -> list[Line2D]:
    """Return the legend of all panels together, where it stands below them."""
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    if plot.paper.legend == "inside" or not plot.series:
        return handles
    chosen = colours(_curves(plot))
    for curve in _curves(plot):
        n = max(panel.n(c) for panel in plot.panels for c in panel.curves if c.label == curve.label)
        look = {"color": chosen[curve.label], "linewidth": WIDTHS["bold"]} if n else {"color": MUTED, "linestyle": ":"}
        handles.append(Line2D([], [], label=f"{curve.label} (n={n})" if n else f"{curve.label}: not run", **look))
    return handles


def _key(plot: Plot) -> list[Line2D | Patch]:
    """Return legend entries for the dashes, weights, marks and bands of the figure."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = []
    if not any(panel.panel.shows.startswith("flow") for panel in plot.panels):
        styles = [line for line in plot.paper.lines if not (line.column or "").startswith("start_")]
        if len({(line.style, line.weight) for line in styles}) > 1:
            for line in styles:
                dash, width = DASHES[line.style], WIDTHS[line.weight]
                handles.append(Line2D([], [], color=INK, linestyle=dash, linewidth=width, label=line.label))
        starts = [series.label for series in plot.series if (series.line.column or "").startswith("start_")]
        if starts:
            handles.append(Line2D([], [], color=INK, linestyle="", label=starts[0], **MARK))
    if any(series.n > 1 for series in plot.series):
        handles.append(Patch(color=INK, alpha=BAND, linewidth=0, label="mean and range over n seeds"))
    return handles
