"""The figures for the page: pictures for a wide and a narrow page, the plotted numbers, and the runs behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from repro.papers import load_figure, load_recipe
from repro.report.figures import file_name, names
from repro.report.figures.draw import inline_svg, picture
from repro.report.figures.numbers import Plot, PlottedPanel, description, experiments_of, plot, selection_of
from repro.report.html.view_models import Drawing
from repro.results.read import Reading
from repro.results.scales import scale_of
from repro.results.select import proxy_scales


def shown_figures(reading: Reading) -> list[tuple[str, str]]:
    """Name and scale of every figure that is shown: each of the paper's budget, then the proxies that there are."""
    shown = []
    for name in names():
        paper = load_figure(name)
        runs = [curve.run for panel in paper.panels for curve in panel.curves]
        labels = proxy_scales(reading.records, load_recipe(paper.recipe).fields, runs, experiments_of(paper))
        scales = dict.fromkeys(map(scale_of, labels))
        shown += [(name, scale) for scale in ("paper", *scales) if scale == "paper" or _lines(name, reading, scale)]
    return shown


def drawings(reading: Reading, pictures: bool = True) -> list[Drawing]:
    """Draw every figure for the page: at the paper's budget, and by the proxies of the largest reduced one.

    Without ``pictures`` only their numbers, which is quick.
    """
    scales: dict[str, list[str]] = {}
    for name, scale in shown_figures(reading):
        scales.setdefault(name, []).append(scale)
    return [
        _drawing(plot(name, reading, scale), reading, pictures, found[2:] if scale != "paper" else [])
        for name, found in scales.items()
        for scale in found[:2]
    ]


def _lines(name: str, reading: Reading, scale: str) -> bool:
    return any(panel.lines for panel in plot(name, reading, scale).panels)


def _drawing(shown: Plot, reading: Reading, pictures: bool, smaller: Sequence[str]) -> Drawing:
    paper = shown.paper
    listed = paper.name.replace("_", " ")
    short, title = (paper.title, "") if paper.number is None else (f"Figure {paper.number}", paper.title)
    anchor = f"figure-{paper.name}" + (f"-{shown.scale}" if shown.is_proxy else "")
    drawn = any(panel.lines for panel in shown.panels)
    wide = narrow = ""
    if drawn and pictures:
        label = description(shown)
        wide = inline_svg(picture(shown), anchor, label)
        narrow = inline_svg(picture(shown, 1), f"{anchor}-narrow", label) if len(shown.panels) > 1 else ""
    rows = tuple(_rows(shown.panels))
    total = sum(len(line.points) for panel in shown.panels for line in panel.lines)
    return Drawing(
        anchor,
        "" if shown.is_proxy else listed,
        short + (f", proxy {shown.scale}" if shown.is_proxy else ""),
        title,
        wide,
        narrow,
        description(shown),
        ("Line", "Panel", "Seeds", "First", "Middle", "Last", "Seeds at the last"),
        rows,
        f"Mean over the seeds at three of the places; all {total} plotted points",
        f"figures/{file_name(paper.name, shown.scale)}.csv",
        _run_ids(shown, reading) if drawn else (),
        (*shown.notes, *_notes(shown), *(f"Drawn too: figures/{file_name(paper.name, s)}.svg." for s in smaller)),
    )


def _rows(panels: Sequence[PlottedPanel]) -> Iterator[tuple[str, ...]]:
    """One row a line: its mean at the first, the middle and the last place, and the range of the seeds at the last."""
    for panel in panels:
        for line in panel.lines:
            points = list(line.points[["mean", "low", "high"]].itertuples(index=True, name=None))
            places = [points[position] for position in (0, len(points) // 2, -1)]
            means = [f"{mean:.4g} at {x:.4g}" for x, mean, _, _ in places]
            _, _, low, high = points[-1]
            name = f"{line.curve.label}, {line.label}"
            yield name, panel.panel.title, str(line.n), *means, f"{low:.4g} to {high:.4g}"


def _notes(shown: Plot) -> list[str]:
    """What kind of figure it is, which curves nobody has run, and the commands that do."""
    if shown.is_proxy:
        return ["A proxy, not the paper's budget."]
    notes = ["The paper argues from this and prints no figure of it."] if shown.paper.number is None else []
    curves = dict.fromkeys(curve.label for panel in shown.panels for curve in panel.missing)
    commands = dict.fromkeys(f"`repro run exp={p.panel.experiment}`" for p in shown.panels if p.missing)
    return notes + ([f"Not run at the paper's budget: {', '.join(curves)}; {', '.join(commands)}."] if curves else [])


def _run_ids(shown: Plot, reading: Reading) -> tuple[str, ...]:
    selection, _ = selection_of(shown.paper, reading, shown.scale)
    return tuple(record.run_id for record in selection.records)
