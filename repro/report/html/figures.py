"""Figures of the page: pictures, plotted numbers, runs behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repro.report.figures import Plot, description, inline_svg, picture


def figure_views(plots: Sequence[Plot], pictures: bool = True) -> list[dict[str, Any]]:
    """Draw every figure for the page: at the paper's budget, and by the proxies of the largest reduced one.

    A figure that stands there only with runs, of a later paper, may have no plot at the paper's budget.
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
    """Return what the template shows; ``narrow`` is a picture for narrow pages, where ``svg`` has several panels."""
    paper = plot.paper
    short, title = (paper.full_title, "") if paper.number is None else (f"Figure {paper.number}", paper.title)
    anchor = f"figure-{paper.name.replace('/', '-')}" + (f"-{plot.scale}" if plot.is_proxy else "")
    caption = description(plot)
    svg = narrow = ""
    if plot.series and pictures:
        svg = inline_svg(picture(plot), anchor, caption)
        narrow = inline_svg(picture(plot, 1), f"{anchor}-narrow", caption) if len(plot.panels) > 1 else ""
    return {
        "anchor": anchor,
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
        "notes": [*plot.notes, *_notes(plot), *(f"Drawn too: figures/{other.file_name}.svg." for other in smaller)],
    }


def _rows(plot: Plot) -> Iterator[tuple[str, ...]]:
    """Yield one row a line: its mean at the first, middle and last place, and the range of the seeds at the last."""
    for panel in plot.panels:
        for series in panel.series:
            points = list(series.points[["mean", "low", "high"]].itertuples(name=None))
            means = [f"{mean:.4g} at {x:.4g}" for x, mean, *_ in (points[0], points[len(points) // 2], points[-1])]
            _, _, low, high = points[-1]
            name = f"{series.curve.label}, {series.label}"
            yield name, panel.panel.title, str(series.n), *means, f"{low:.4g} to {high:.4g}"


def _notes(plot: Plot) -> list[str]:
    """Say which kind of figure it is, which curves nobody has run, and with which commands to run them."""
    if plot.is_proxy:
        return ["A proxy, not the paper's budget."]
    paper = plot.paper
    argued = paper.number is None and not paper.paper
    notes = ["The paper argues from this and prints no figure of it."] if argued else []
    curves = dict.fromkeys(curve.label for panel in plot.panels for curve in panel.missing)
    commands = dict.fromkeys(f"`repro run exp={p.panel.experiment}`" for p in plot.panels if p.missing)
    return notes + ([f"Not run at the paper's budget: {', '.join(curves)}; {', '.join(commands)}."] if curves else [])
