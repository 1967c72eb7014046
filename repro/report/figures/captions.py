"""A figure without its picture: the plotted numbers as CSV, and what it shows in words."""

from __future__ import annotations

import csv
import io

from repro.report.figures.numbers import Plot, PlottedLine, PlottedPanel

COLUMNS = ("figure", "panel", "curve", "line", "x", "mean", "low", "high", "n")


def csv_text(plot: Plot) -> str:
    """One row a point; ``x`` as the axis shows it, errors in percent, six significant digits.

    Six digits are more than the eye sees and fewer than another machine's sums differ in.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for panel in plot.panels:
        for line in panel.lines:
            for x, *values in line.points[["mean", "low", "high"]].itertuples():
                numbers = [f"{value:.6g}" for value in (x, *values)]
                rows.writerow([plot.paper.name, panel.panel.title, line.curve.label, line.line.name, *numbers, line.n])
    return out.getvalue()


def description(plot: Plot) -> str:
    """For who cannot see it: title, panels, and where each line begins and ends."""
    return " ".join([f"{plot.title}.", *map(_panel, plot.panels)])


def _panel(panel: PlottedPanel) -> str:
    head = f"{panel.panel.title}, {panel.panel.y_label} over {panel.x_label}"
    if not panel.lines:
        return f"{head}: not run yet."
    parts = [_line(line) for line in panel.lines if len(line.points)]
    parts += [f"{curve.label}: not run" for curve in panel.missing]
    return f"{head}: {'; '.join(parts)}."


def _line(line: PlottedLine) -> str:
    means = line.points["mean"]
    first, last = (f"{_short(means.iloc[i])} at {_short(means.index[i])}" for i in (0, -1))
    seeds = f"mean of {line.n} seeds" if line.n > 1 else "one seed"
    name = f"{line.curve.label}, {line.label} ({seeds})"
    return f"{name}: {last}" if len(means) == 1 else f"{name}: from {first} to {last}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
