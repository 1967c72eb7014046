"""Palette, weights and dashes of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from repro.papers import Curve

# Okabe and Ito's palette, told apart with any colour vision. A depth has one colour in every panel and figure; the
# ImageNet depths, which never stand beside the CIFAR ones, take those of shallow and deep.
COLOURS = {
    20: "#0072B2",
    32: "#E69F00",
    44: "#009E73",
    56: "#D55E00",
    110: "#000000",
    1202: "#CC79A7",
    18: "#0072B2",
    34: "#D55E00",
    50: "#009E73",
    101: "#E69F00",
    152: "#000000",
}
SPARE = ("#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#56B4E9", "#000000")
MUTED = "#767676"
INK = "#444444"
WIDTHS = {"thin": 1.0, "bold": 1.7}
DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (3.2, 1.6)), "dotted": (0, (1.0, 1.4))}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.framealpha": 0.92,
    "legend.edgecolor": "#CCCCCC",
    "legend.fancybox": False,
    "svg.hashsalt": "repro",
}
METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


def colours(curves: Sequence[Curve]) -> dict[str, str]:
    """Choose the colours of a panel's curves, by label: the depth's, or a spare one where depth and dash are taken."""
    by_depth = {curve.label: COLOURS.get(curve.run.get("model.depth", 0), "") for curve in curves}
    taken: set[tuple[str, str | None]] = set()
    chosen: dict[str, str] = {}
    for curve in curves:
        colour = by_depth[curve.label]
        if not colour or (colour, curve.style) in taken:
            used = {*by_depth.values(), *chosen.values()}
            colour = next((spare for spare in SPARE if spare not in used), MUTED)
        taken.add((colour, curve.style))
        chosen[curve.label] = colour
    return chosen
