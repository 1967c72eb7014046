"""Figures as SVG elements of a page, with data for its script."""

from __future__ import annotations

import html
import io
import json
import re
from typing import TYPE_CHECKING, Any

from repro.report.figures.draw import SERIES
from repro.report.figures.style import DARK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONTS = "font-family: 'DejaVu Sans', Verdana, Geneva, sans-serif"
"""The layout was computed with DejaVu Sans, which few devices have; Verdana is as wide."""


def inline_svg(drawn: Figure, name: str, label: str) -> str:
    """Return ``drawn`` as one ``<svg>`` element without a fixed size, whose ids all begin with ``name``.

    Text stays text: smaller, sharp at any size, and found by the browser's search. Colours are variables of the page.
    ``data-panels`` tells the script of the page where each series is drawn. The same figure gives the same text.
    """
    import matplotlib

    out = io.StringIO()
    # Ids of clips and marks are digests; the salt makes them unique to this figure.
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.draw_without_rendering()  # creates the last ticks
        for number, part in enumerate(drawn.findobj(), 1):
            part.set_gid(f"{name}-{number}")
        width, height = (72 * float(inches) for inches in drawn.get_size_inches())
        panels = [_panel(ax, width, height) for ax in drawn.axes]
        drawn.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    # Only the ids of series are needed; the others are there since matplotlib's own are the same in every figure.
    needed = {id for panel in panels for series in panel["series"] for id in series["ids"]}
    text = re.sub(rf' id="({re.escape(name)}-\d+)"', lambda found: found[0] if found[1] in needed else "", text)
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)  # once for all, below
    text = re.sub(r" transform=\"rotate\(-0 [^)]*\)\"", "", text)
    text = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _variable, text)
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{html.escape(label)}" viewBox="0 0 {width:.10g} {height:.10g}" '
        f'data-panels="{html.escape(json.dumps(panels, ensure_ascii=False))}" '
        f'style="width: 100%; max-width: {width:.0f}pt; fill: {variable("#000000")}; {FONTS}">'
    )
    return head + text[text.index(">", text.index("<svg")) + 1 :].rstrip() + "\n"


def variable(colour: str) -> str:
    """Return the page's variable for a colour of figures."""
    return f"var(--fig-{colour[1:]})"


def _variable(style: re.Match[str]) -> str:
    return f"{style[1]}: {variable(style[2])}" if style[2] in DARK else style[0]


def _panel(ax: Axes, width: float, height: float) -> dict[str, Any]:
    """Return where a panel is in a picture of this size, the limits of its axes, and the ids of its series.

    The script reads the points of a series from its path, so paths keep all points.
    """
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D

    left, bottom, right, top = ax.get_position().extents
    series: dict[str, dict[str, Any]] = {}
    for part in ax.get_children():
        mark, *names = str(part.get_label()).split("\t")
        if mark != SERIES:
            continue
        found = series.setdefault(str(names), {"net": names[0], "line": names[1], "ids": []})
        found["ids"].append(part.get_gid())
        if isinstance(part, Line2D):
            part.get_path().should_simplify = False
            colour = to_hex(part.get_color())
            found["colour"] = variable(colour) if colour in DARK else colour
    return {
        "box": [round(side, 3) for side in (left * width, (1 - top) * height, right * width, (1 - bottom) * height)],
        "x": [float(limit) for limit in ax.get_xlim()],
        "y": [float(limit) for limit in ax.get_ylim()],
        "log": ax.get_yscale() == "log",
        "name": ax.get_xlabel(),
        "series": list(series.values()),
    }
