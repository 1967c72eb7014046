"""Training and test error of one run as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    import pandas

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 8, 22
LINES = (("train_error", "training"), ("eval_error", "evaluated"))
LIMITS = (5, 10, 20, 40, 60, 80, 100)
"""Upper ends of the axis, in percent; no error is above the last."""
TABLE_ROWS = 12


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Polyline:
    """``name`` is a class of the style, ``points`` the value of an SVG attribute."""

    name: str
    points: str


@dataclass(frozen=True)
class Chart:
    """A curve for the template: sizes in user units, and the same numbers as a table, thinned to a dozen rows."""

    width: int
    height: int
    plot: tuple[int, int, int, int]
    """Left, top, right and bottom edge of the axes."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Polyline, ...]
    rows: tuple[tuple[str, str, str], ...]
    evaluations: int


def chart(curve: pandas.DataFrame) -> Chart:
    """Draw a curve of ``results.read.read_curve``; errors in percent from 0 to a round upper end."""
    last = int(curve["step"].iloc[-1])
    errors = curve[[name for name, _ in LINES]].to_numpy(dtype=float)
    highest = errors[~numpy.isnan(errors)].max(initial=0)
    top = next(limit for limit in LIMITS if limit >= highest)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * step / max(1, last)

    def y(error: float) -> float:
        return bottom - (bottom - TOP) * error / top

    lines = []
    for column, name in LINES:
        shown = curve[["step", column]].dropna()
        points = " ".join(f"{x(s):.1f},{y(e):.1f}" for s, e in zip(shown["step"], shown[column], strict=True))
        lines += [Polyline(name, points)] if points else []
    return Chart(
        WIDTH,
        HEIGHT,
        (LEFT, TOP, right, bottom),
        tuple(Tick(round(x(step), 1), thousands(step)) for step in (0, last // 2, last)),
        tuple(Tick(round(y(error), 1), f"{error:g}") for error in (0, top / 2, top)),
        tuple(lines),
        tuple(_row(curve, position) for position in thinned(len(curve), TABLE_ROWS)),
        len(curve),
    )


def thinned(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of the positions 0 to count-1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def thousands(steps: int) -> str:
    return f"{steps / 1000:g}k" if steps >= 10_000 else str(steps)


def _row(curve: pandas.DataFrame, position: int) -> tuple[str, str, str]:
    step, train, test = (curve[name].iloc[position] for name in ("step", *(name for name, _ in LINES)))
    return str(int(step)), _percent(train), _percent(test)


def _percent(error: float) -> str:
    return "" if math.isnan(error) else f"{error:.2f}"
