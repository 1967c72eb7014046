"""Numbers of a figure, with the records behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from repro.config.run import later_defaults, slug
from repro.errors import InputError
from repro.papers import (
    Curve,
    LineStyle,
    Panel,
    PaperFigure,
    Run,
    figure_names,
    later_figures,
    load_figure,
    load_recipe,
)
from repro.report.figures.values import lesion_images, step_of, values_of
from repro.report.tables import size_of
from repro.results.read import Reading, Record
from repro.results.scales import scale_of
from repro.results.select import APART, Selection, proxy_scales, select

if TYPE_CHECKING:
    import pandas

CSV_COLUMNS = ("figure", "panel", "curve", "line", "x", "mean", "low", "high", "n")


@dataclass(frozen=True)
class Series:
    """One line: ``points`` has ``mean``, ``low`` and ``high`` over the seeds ``records``, indexed by x."""

    curve: Curve
    line: LineStyle
    label: str
    points: pandas.DataFrame
    records: tuple[Record, ...]

    @property
    def n(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class PlottedPanel:
    panel: Panel
    x_label: str
    curves: tuple[Curve, ...]
    series: tuple[Series, ...]

    def n(self, curve: Curve) -> int:
        return max((series.n for series in self.series if series.curve is curve), default=0)

    @property
    def missing(self) -> tuple[Curve, ...]:
        """The curves without runs."""
        return tuple(curve for curve in self.curves if not self.n(curve))


@dataclass(frozen=True)
class Plot:
    """A figure as numbers; ``notes`` are shown below it."""

    paper: PaperFigure
    scale: str
    title: str
    panels: tuple[PlottedPanel, ...]
    notes: tuple[str, ...]

    @property
    def is_proxy(self) -> bool:
        return self.scale != "paper"

    @property
    def series(self) -> list[Series]:
        return [series for panel in self.panels for series in panel.series]

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind the figure."""
        return tuple(dict.fromkeys(record.run_id for series in self.series for record in series.records))

    @property
    def file_name(self) -> str:
        """``figure6``, ``figure_warmup``, ``figure6-demo``, ``wide_resnet/figure_width-demo``."""
        return f"{self.paper.stem}-{slug(self.scale)}" if self.is_proxy else self.paper.stem

    @property
    def compares(self) -> bool:
        """True if a panel has at least two nets with runs, or one net beside itself without blocks."""
        return any(len(p.curves) - len(p.missing) > (0 if p.panel.of_lesions else 1) for p in self.panels)


def shown_plots(reading: Reading) -> list[Plot]:
    """Return every figure at the paper's budget, each followed by its proxies, the largest budget first."""
    shown = []
    for name in figure_names():
        proxies = [plot(name, reading, scale) for scale in proxies_of(load_figure(name), reading)]
        shown += [plot(name, reading), *(proxy for proxy in proxies if proxy.series and _says_something(proxy))]
    return shown


def _says_something(proxy: Plot) -> bool:
    """Return false where only nets of reduced panels are drawn and no panel compares two of them."""
    return proxy.compares or not all(panel.panel.reduced for panel in proxy.panels)


def later_plots(reading: Reading) -> list[Plot]:
    """Return the figures of later papers at every budget at which runs compare nets, the largest first."""
    drawn = []
    for name in later_figures():
        scales = ["paper", *proxies_of(load_figure(name), reading)]
        drawn += [plot(name, reading, scale) for scale in scales]
    return [shown for shown in drawn if shown.compares]


def proxies_of(paper: PaperFigure, reading: Reading) -> list[str]:
    """List the reduced scales at which nets of a figure have records, the largest budget first."""
    labels = proxy_scales(reading.records, load_recipe(paper.recipe).fields, _runs(paper), _experiments(paper))
    return [scale for scale in dict.fromkeys(map(scale_of, labels)) if scale != "paper"]


def plot(name: int | str, reading: Reading, scale: str = "paper") -> Plot:
    """Select the records of a figure and compute its numbers: mean, minimum and maximum over seeds.

    Args:
        name: The paper's number, or one of ``figure_names``.
        scale: ``paper`` for runs of the paper's full recipe; another label, such as ``demo``, for proxies.
    """
    paper = load_figure(name)
    recipe = load_recipe(paper.recipe).fields
    runs = _complete(_runs(paper), recipe)
    unique = [run for position, run in enumerate(runs) if run not in runs[:position]]
    selection = select(reading.records, recipe, unique, scale, _experiments(paper))
    notes = [f"{note[0].upper()}{note[1:]}." for note in (*selection.notes, *selection.apart)]
    data = [record.science.data for record in selection.records]
    if splits := {d.eval_split for d in data if not d.photos} - {"test"}:
        notes.append(f"Evaluated on {', '.join(sorted(splits))}, not on the test set.")
    groups = (selection.groups[unique.index(run)] for run in runs)
    panels = [_panel(paper, panel, [next(groups) for _ in panel.curves], scale, notes) for panel in paper.panels]
    damaged = [series for panel in panels if panel.panel.of_lesions for series in panel.series]
    if note := lesion_images(record for series in damaged for record in series.records):
        notes.append(note)
    if scale == "paper":
        panels = [shown for shown in panels if not shown.panel.reduced]
    else:
        # A proxy shows only existing runs; the figure at the paper's budget also names missing ones.
        shown = [panel for panel in panels if panel.series]
        panels = [replace(p, curves=tuple(curve for curve in p.curves if p.n(curve))) for p in shown] or panels
    return Plot(paper, scale, _title(paper, selection), tuple(panels), tuple(dict.fromkeys(notes)))


def _runs(paper: PaperFigure) -> list[Run]:
    return [curve.run for panel in paper.panels for curve in panel.curves]


def _experiments(paper: PaperFigure) -> set[str]:
    return {panel.experiment for panel in paper.panels}


def _complete(runs: Sequence[Run], recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add to each of ``runs`` the fields that distinguish any of them, at the recipe's value by default."""
    usual = {**later_defaults(), **recipe}
    keys = dict.fromkeys([*APART, *(key for run in runs for key in run)])
    return [{key: run.get(key, usual.get(key)) for key in keys} for run in runs]


def _panel(
    paper: PaperFigure, panel: Panel, groups: Sequence[Sequence[Record]], scale: str, notes: list[str]
) -> PlottedPanel:
    unit = paper.x_unit if scale == "paper" and panel.over_steps else 1
    drawn = [
        _series(curve, group, panel, paper.line(name), unit, notes)
        for curve, group in zip(panel.curves, groups, strict=True)
        for name in panel.lines
    ]
    x_label = "step" if panel.over_steps and scale != "paper" else paper.x_label
    if paper.x_unit > 1 and not panel.over_steps:
        x_label = "layer"
    return PlottedPanel(panel, panel.x_label or x_label, panel.curves, tuple(filter(None, drawn)))


def _series(
    curve: Curve, group: Sequence[Record], panel: Panel, line: LineStyle, unit: int, notes: list[str]
) -> Series | None:
    """Average over the seeds ``group``; None without any. Unreadable records are added to ``notes``."""
    import pandas

    found: list[tuple[Record, pandas.Series]] = []
    for record in group:
        try:
            values = values_of(record, panel, line)
        except InputError as error:
            notes.append(f"Left out: {record.run_id}: {error}.")
            continue
        if len(values):
            found.append((record, values))
    if not found:
        return None
    # Only x values of all seeds count: a mean over different seeds at each x would jump.
    table = pandas.concat([values for _, values in found], axis=1, join="inner").sort_index()
    points = table.agg(["mean", "min", "max"], axis=1).set_axis(["mean", "low", "high"], axis=1)
    points.index = points.index / unit
    records = tuple(record for record, _ in found)
    steps = {step_of(record, panel, line) for record in records}
    step = steps.pop() if len(steps) == 1 else None
    label = line.label if step is None else f"{line.label} (step {step:,})"
    return Series(curve, line, label, points, records)


def _title(paper: PaperFigure, selection: Selection[Record]) -> str:
    numbered = paper.number is not None
    short, title = (f"Figure {paper.number}", f". {paper.title}") if numbered else (paper.full_title, "")
    if selection.scale == "paper":
        return short + title
    size = size_of(selection).replace(" steps, ", " steps at ") if selection.records else "not run yet"
    return f"{short}. Proxy: {selection.scale}, {size} — not the paper's budget"


# --- as text ------------------------------------------------------------------------------------------


def csv_text(shown: Plot) -> str:
    """Return one CSV row per point: ``x`` as on the axis, errors in percent, with six significant digits.

    Six digits are enough to redraw the figure, and rounding differences between machines do not reach them.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for panel in shown.panels:
        for series in panel.series:
            names = [shown.paper.name, panel.panel.title, series.curve.label, series.line.name]
            for x, *values in series.points[["mean", "low", "high"]].itertuples():
                rows.writerow([*names, *(f"{value:.6g}" for value in (x, *values)), series.n])
    return out.getvalue()


def description(shown: Plot) -> str:
    """Describe a figure for readers who cannot see it: title, panels, and the ends of each line."""
    return " ".join([f"{shown.title}.", *map(_panel_in_words, shown.panels)])


def _panel_in_words(panel: PlottedPanel) -> str:
    head = f"{panel.panel.title}, {panel.panel.y_label} over {panel.x_label}"
    if not panel.series:
        return f"{head}: not run yet."
    parts = [_series_in_words(series) for series in panel.series if len(series.points)]
    parts += [f"{curve.label}: not run" for curve in panel.missing]
    return f"{head}: {'; '.join(parts)}."


def _series_in_words(series: Series) -> str:
    means = series.points["mean"]
    first, last = (f"{_short(means.iloc[i])} at {_short(means.index[i])}" for i in (0, -1))
    seeds = f"mean of {series.n} seeds" if series.n > 1 else "one seed"
    name = f"{series.curve.label}, {series.label} ({seeds})"
    return f"{name}: {last}" if len(means) == 1 else f"{name}: from {first} to {last}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
