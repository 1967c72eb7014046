"""Palette, weights and dashes of all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from repro.papers import Curve

# The palette of Okabe and Ito, which is distinguishable with any colour vision. A depth has the same colour in every
# figure; ImageNet depths reuse the colours of CIFAR depths, since no figure has both.
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
DARK = {
    "#ffffff": "#14171b",
    "#000000": "#e6e9ed",
    "#333333": "#a2acb8",
    "#444444": "#c5ccd4",
    "#767676": "#a2acb8",
    "#cccccc": "#4a525c",
    "#e4e4e4": "#2d333b",
    "#0072b2": "#4f94ff",
    "#e69f00": "#f0b429",
    "#009e73": "#2fc79a",
    "#d55e00": "#ff7a45",
    "#cc79a7": "#e09ac0",
    "#56b4e9": "#8ad4fa",
}
"""Colours of figures on the page in dark mode, by their colours in light mode."""
METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


def colours(curves: Sequence[Curve]) -> dict[str, str]:
    """Return the colour of each curve by label: its depth's, or a spare one if depth and dash are taken."""
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
