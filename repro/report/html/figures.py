"""Figures of the page: pictures, plotted numbers, runs behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repro.report.figures import Plot, description, inline_svg, picture

RUNNING = "Training errors are counted over augmented batches during training, so they can be above test errors."


def figure_views(plots: Sequence[Plot], pictures: bool = True) -> list[dict[str, Any]]:
    """Draw every figure for the page: at the paper's budget, and at the largest reduced budget.

    Figures of later papers may exist at a reduced budget alone.
    """
    by_name: dict[str, list[Plot]] = {}
    for plot in plots:
        by_name.setdefault(plot.paper.name, []).append(plot)
    views = []
    for found in by_name.values():
        shown = found[:1] if found[0].is_proxy else found[:2]
        views += [_view(plot, pictures, found[len(shown) :] if plot.is_proxy else []) for plot in shown]
    return views


def _view(plot: Plot, pictures: bool, smaller: Sequence[Plot]) -> dict[str, Any]:
    """Return the values for the template; ``narrow`` is a picture for narrow pages if there are several panels."""
    paper = plot.paper
    short, title = (paper.full_title, "") if paper.number is None else (f"Figure {paper.number}", paper.title)
    anchor = f"figure-{paper.name.replace('/', '-')}" + (f"-{plot.scale}" if plot.is_proxy else "")
    caption = description(plot)
    svg = narrow = ""
    if plot.series and pictures:
        # Without notes, which the page shows below.
        svg = inline_svg(picture(plot, show_notes=False), anchor, caption)
        if len(plot.panels) > 1:
            narrow = inline_svg(picture(plot, 1, show_notes=False), f"{anchor}-narrow", caption)
    return {
        "anchor": anchor,
        "number": None if paper.paper else paper.number,
        "listed": "" if plot.is_proxy else paper.name.replace("_", " "),
        "short": short + (f", proxy {plot.scale}" if plot.is_proxy else ""),
        "title": title,
        "svg": svg,
        "narrow": narrow,
        "caption": caption,
        "rows": list(_rows(plot)),
        "points": sum(len(series.points) for series in plot.series),
        "data_file": f"figures/{plot.file_name}.csv",
        "run_ids": plot.run_ids,
        "notes": [*plot.notes, *_notes(plot), *_smaller(smaller)],
    }


def _smaller(plots: Sequence[Plot]) -> list[str]:
    return [f"Also run at scale={p.scale}: `repro figure {p.paper.name} --scale {p.scale}`." for p in plots]


def _rows(plot: Plot) -> Iterator[tuple[str, ...]]:
    """Yield one row per line: its mean at the first, middle and last point, and the range of seeds at the last."""
    for panel in plot.panels:
        for series in panel.series:
            points = list(series.points[["mean", "low", "high"]].itertuples(name=None))
            means = [f"{mean:.4g} at {x:.4g}" for x, mean, *_ in (points[0], points[len(points) // 2], points[-1])]
            _, _, low, high = points[-1]
            name = f"{series.curve.label}, {series.label}"
            yield name, panel.panel.title, str(series.n), *means, f"{low:.4g} to {high:.4g}"


def _notes(plot: Plot) -> list[str]:
    """Return notes on the kind of figure, and on missing curves with the commands that train them."""
    running = [RUNNING] if any(series.line.column == "train_error" for series in plot.series) else []
    if plot.is_proxy:
        return ["This is a proxy, not the paper's budget.", *running]
    argued = plot.paper.number is None and not plot.paper.paper
    notes = ["The paper speaks of this but prints no figure of it."] if argued else []
    notes += running
    curves = dict.fromkeys(curve.label for panel in plot.panels for curve in panel.missing)
    commands = dict.fromkeys(f"`repro run exp={p.panel.experiment}`" for p in plot.panels if p.missing)
    return notes + ([f"Not run at the paper's budget: {', '.join(curves)}; {', '.join(commands)}."] if curves else [])
