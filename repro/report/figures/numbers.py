"""Numbers of a figure, from records to CSV and words."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repro.config.run import later_defaults
from repro.errors import InputError
from repro.papers import Curve, LineStyle, Panel, PaperFigure, Run, load_figure, load_recipe
from repro.report.figures.series import series, steps_of
from repro.report.tables import size_of
from repro.results.read import Reading, Record
from repro.results.select import APART, Selection, select

if TYPE_CHECKING:
    import pandas

CSV_COLUMNS = ("figure", "panel", "curve", "line", "x", "mean", "low", "high", "n")


@dataclass(frozen=True)
class PlottedLine:
    """A line over ``n`` seeds: ``points`` has ``mean``, ``low`` and ``high`` by what the x axis shows."""

    curve: Curve
    line: LineStyle
    label: str
    n: int
    points: pandas.DataFrame


@dataclass(frozen=True)
class PlottedPanel:
    """``missing`` are the curves that nothing was measured for."""

    panel: Panel
    x_label: str
    curves: tuple[Curve, ...]
    lines: tuple[PlottedLine, ...]
    missing: tuple[Curve, ...]

    def n(self, curve: Curve) -> int:
        return max((line.n for line in self.lines if line.curve is curve), default=0)


@dataclass(frozen=True)
class Plot:
    """A figure in numbers; ``notes`` stand below it."""

    paper: PaperFigure
    scale: str
    title: str
    panels: tuple[PlottedPanel, ...]
    notes: tuple[str, ...]

    @property
    def is_proxy(self) -> bool:
        return self.scale != "paper"


def plot(name: int | str, reading: Reading, scale: str = "paper") -> Plot:
    """The numbers of a figure.

    Args:
        scale: ``paper`` for the runs of the paper's full recipe; another label, as ``demo``, for the proxies of it.

    Raises:
        InputError: There is no such figure.
    """
    paper = load_figure(name)
    selection, groups = selection_of(paper, reading, scale)
    notes = [f"{note[0].upper()}{note[1:]}." for note in (*selection.notes, *selection.apart)]
    data = [record.science.data for record in selection.records]
    if splits := {d.eval_split for d in data if not d.photos} - {"test"}:
        notes.append(f"Evaluated on {', '.join(sorted(splits))}, not on the test set.")
    panels = []
    for panel in paper.panels:
        mine, groups = groups[: len(panel.curves)], groups[len(panel.curves) :]
        panels.append(_panel(paper, panel, mine, scale, notes))
    if scale != "paper":
        # A proxy shows what was run; only the paper's own figure names what is missing from it.
        panels = [_without_missing(panel) for panel in panels if panel.lines] or panels
    return Plot(paper, scale, _title(paper, selection), tuple(panels), tuple(dict.fromkeys(notes)))


def selection_of(paper: PaperFigure, reading: Reading, scale: str) -> tuple[Selection, list[tuple[Record, ...]]]:
    """Choose the records of a figure; a group for each curve of each panel."""
    recipe = load_recipe(paper.recipe).fields
    runs = complete([curve.run for panel in paper.panels for curve in panel.curves], recipe)
    unique = [run for position, run in enumerate(runs) if run not in runs[:position]]
    selection = select(reading.records, recipe, unique, scale, experiments_of(paper))
    return selection, [selection.groups[unique.index(run)] for run in runs]


def experiments_of(paper: PaperFigure) -> set[str]:
    """The experiments whose runs fill a figure."""
    return {panel.experiment for panel in paper.panels}


def complete(runs: Sequence[Run], recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``runs`` with every field that sets one of them apart from the others, at the recipe's value where not named."""
    usual = {**later_defaults(), **recipe}
    keys = dict.fromkeys([*APART, *(key for run in runs for key in run)])
    return [{key: run.get(key, usual.get(key)) for key in keys} for run in runs]


def _panel(
    paper: PaperFigure, panel: Panel, groups: Sequence[Sequence[Record]], scale: str, notes: list[str]
) -> PlottedPanel:
    unit = paper.x_unit if scale == "paper" and panel.over_steps else 1
    lines: list[PlottedLine] = []
    for curve, group in zip(panel.curves, groups, strict=True):
        for name in panel.lines:
            line = paper.line(name)
            found = _seeds(group, panel, line, notes)
            if found:
                points = _mean_and_range(list(found.values()))
                points.index = points.index / unit
                steps = {steps_of(record, panel, line) for record in group if record.run_id in found}
                step = steps.pop() if len(steps) == 1 else None
                label = line.label if step is None else f"{line.label} (step {step:,})"
                lines.append(PlottedLine(curve, line, label, len(found), points))
    drawn = [line.curve for line in lines]
    missing = tuple(curve for curve in panel.curves if curve not in drawn)
    x_label = paper.x_label if scale == "paper" or not panel.over_steps else "step"
    if paper.x_unit > 1 and not panel.over_steps:
        x_label = "layer"
    return PlottedPanel(panel, x_label, panel.curves, tuple(lines), missing)


def _seeds(group: Sequence[Record], panel: Panel, line: LineStyle, notes: list[str]) -> dict[str, pandas.Series]:
    """What each record gives for the line, by its run id; what cannot be read goes to ``notes``."""
    found = {}
    for record in group:
        try:
            values = series(record, panel, line)
        except InputError as error:
            notes.append(f"Left out: the curve of {record.run_id}: {error}.")
            continue
        if len(values):
            found[record.run_id] = values
    return found


def _mean_and_range(seeds: Sequence[pandas.Series]) -> pandas.DataFrame:
    """A place counts where every seed has a value: a mean over other seeds at each place would jump."""
    import pandas

    table = pandas.concat(list(seeds), axis=1, join="inner").sort_index()
    return table.agg(["mean", "min", "max"], axis=1).set_axis(["mean", "low", "high"], axis=1)


def _without_missing(panel: PlottedPanel) -> PlottedPanel:
    curves = tuple(curve for curve in panel.curves if curve not in panel.missing)
    return PlottedPanel(panel.panel, panel.x_label, curves, panel.lines, ())


def _title(paper: PaperFigure, selection: Selection) -> str:
    name = paper.title if paper.number is None else f"Figure {paper.number}. {paper.title}"
    if selection.scale == "paper":
        return name
    size = size_of(selection).replace(" steps, ", " steps at ") if selection.records else "not run yet"
    if paper.number is not None:
        name = f"Figure {paper.number}"
    return f"{name}. Proxy: {selection.scale}, {size} — not the paper's budget"


# --- without the picture ------------------------------------------------------------------------------------------


def csv_text(shown: Plot) -> str:
    """Write one row a point; ``x`` as the axis shows it, errors in percent, six significant digits.

    Six digits are more than the eye sees and fewer than another machine's sums differ in.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for panel in shown.panels:
        for line in panel.lines:
            for x, *values in line.points[["mean", "low", "high"]].itertuples():
                numbers = [f"{value:.6g}" for value in (x, *values)]
                rows.writerow([shown.paper.name, panel.panel.title, line.curve.label, line.line.name, *numbers, line.n])
    return out.getvalue()


def description(shown: Plot) -> str:
    """Describe a figure for readers who cannot see it: title, panels, and where each line begins and ends."""
    return " ".join([f"{shown.title}.", *map(_panel_in_words, shown.panels)])


def _panel_in_words(panel: PlottedPanel) -> str:
    head = f"{panel.panel.title}, {panel.panel.y_label} over {panel.x_label}"
    if not panel.lines:
        return f"{head}: not run yet."
    parts = [_line_in_words(line) for line in panel.lines if len(line.points)]
    parts += [f"{curve.label}: not run" for curve in panel.missing]
    return f"{head}: {'; '.join(parts)}."


def _line_in_words(line: PlottedLine) -> str:
    means = line.points["mean"]
    first, last = (f"{_short(means.iloc[i])} at {_short(means.index[i])}" for i in (0, -1))
    seeds = f"mean of {line.n} seeds" if line.n > 1 else "one seed"
    name = f"{line.curve.label}, {line.label} ({seeds})"
    return f"{name}: {last}" if len(means) == 1 else f"{name}: from {first} to {last}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
