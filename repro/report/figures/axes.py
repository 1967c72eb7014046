"""Limits and ticks of axes, from the paper or the values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repro.report.figures.numbers import Plot, PlottedPanel

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


def fit(axes: Sequence[Axes], plot: Plot) -> None:
    """Set the axes of all panels; panels with the same quantity or the same kind of x share their limits."""
    by_y: dict[str, list[PlottedPanel]] = defaultdict(list)
    by_x: dict[tuple[bool, str], list[PlottedPanel]] = defaultdict(list)
    for shown in plot.panels:
        by_y[_quantity(shown)].append(shown)
        by_x[shown.panel.over_steps, shown.panel.x_label].append(shown)
    for ax, shown in zip(axes, plot.panels, strict=True):
        panel = shown.panel
        if panel.x is not None and not plot.is_proxy:
            ax.set(xlim=panel.x.limits, xticks=panel.x.ticks)
        else:
            _fit_x(ax, shown, _points(by_x[panel.over_steps, panel.x_label]))
        if panel.y is not None and not plot.is_proxy:
            ax.set(ylim=panel.y.limits, yticks=panel.y.ticks)
        else:
            _fit_y(ax, shown, _points(by_y[_quantity(shown)]))


def _quantity(shown: PlottedPanel) -> str:
    panel = shown.panel
    other = "likeness" if panel.of_channels else "response"
    return panel.quantity or ("error" if panel.shows == "curves" or panel.of_lesions else other)


def _points(panels: Sequence[PlottedPanel]) -> list[pandas.DataFrame]:
    return [series.points for shown in panels for series in shown.series if len(series.points)]


def _fit_x(ax: Axes, shown: PlottedPanel, points: Sequence[pandas.DataFrame]) -> None:
    """Show x from 0 to the last point, or all stages; no ticks without runs."""
    if points and shown.panel.of_channels:
        stages = range(1, 1 + int(max(table.index.max() for table in points)))
        ax.set(xlim=(0.5, len(stages) + 0.5), xticks=stages)
    elif points:
        ax.set_xlim(0, shown.panel.x_part * max(table.index.max() for table in points))
    else:
        ax.set_xticks([])


def _fit_y(ax: Axes, shown: PlottedPanel, points: Sequence[pandas.DataFrame]) -> None:
    if not points:
        ax.set_yscale("linear")
        ax.set_yticks([])
        return
    low, high = min(table["low"].min() for table in points), max(table["high"].max() for table in points)
    # A net that has hardly trained can have responses a million times as large as another: show both, on a log scale.
    log = shown.panel.y_scale == "log" or (_quantity(shown) == "response" and high > 100 * low)
    if log and low > 0:
        ax.set_yscale("log")
        # Whole decades, so that no line seems to vanish at the edge.
        ax.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high) + 1e-9))
        return
    ax.set_yscale("linear")
    if _quantity(shown) == "error":
        margin = max(1.0, 0.06 * (high - low))
        ax.set_ylim(max(0, low - margin), min(100, high + margin))
    else:
        ax.set_ylim(1.06 * min(0, low), 1.06 * high)
