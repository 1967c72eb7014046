"""Training and test error of one run as inline SVG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 34, 350, 8, 148
"""Edges of the axes."""
LINES = {"train_error": "training", "eval_error": "evaluated"}
"""Columns of a curve, and their CSS classes."""
LIMITS = (5, 10, 20, 40, 60, 80, 100)
"""Possible upper limits of the axis, in percent."""
TABLE_ROWS = 12


def chart(curve: pandas.DataFrame, name: str, split: str) -> dict[str, Any]:
    """Return a curve of ``read_curve`` in user units, and as a table of at most a dozen rows.

    Errors are in percent, on an axis from 0 to a round limit. ``panels`` is for the script of the page, as in
    ``inline_svg``; the ids of the lines begin with ``name``.
    """
    last = int(curve["step"].iloc[-1])
    highest = curve[list(LINES)].max().fillna(0).max()
    top = next(limit for limit in LIMITS if limit >= highest)

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / max(1, last)

    def y(error: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * error / top

    points = {}
    for column, line in LINES.items():
        shown = curve[["step", column]].dropna().itertuples(index=False, name=None)
        # Four decimals, since the page's script reads step and error from the points.
        points[line] = " ".join(f"{x(step):.4f},{y(error):.4f}" for step, error in shown)
    table = curve.iloc[thinned(len(curve), TABLE_ROWS)][["step", *LINES]]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "edges": (LEFT, RIGHT, BOTTOM),
        "ids": {line: f"{name}-{line}" for line in points},
        "panels": json.dumps([_panel(name, split, max(1, last), top)]),
        "x_ticks": [(round(x(step), 1), thousands(step)) for step in (0, last // 2, last)],
        "y_ticks": [(round(y(error), 1), f"{error:g}") for error in (0, top / 2, top)],
        "points": points,
        "rows": [(int(step), *map(_percent, errors)) for step, *errors in table.itertuples(index=False, name=None)],
        "evaluations": len(curve),
    }


def _panel(name: str, split: str, last: int, top: int) -> dict[str, Any]:
    series = [
        {"net": "", "line": f"{text} error", "ids": [f"{name}-{line}"], "colour": f"var(--{line})"}
        for line, text in zip(LINES.values(), ("training", split), strict=True)
    ]
    box = (LEFT, TOP, RIGHT, BOTTOM)
    return {"box": box, "x": (0, last), "y": (0, top), "log": False, "name": "step", "series": series}


def thinned(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spread positions from 0 to count-1, including the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def thousands(steps: int) -> str:
    return f"{steps / 1000:g}k" if steps >= 10_000 else str(steps)


def _percent(error: float) -> str:
    return "" if error != error else f"{error:.2f}"  # NaN: not measured
