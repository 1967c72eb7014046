"""Figures drawn from records, as pictures, numbers and words."""

from repro.report.figures.draw import draw, inline_svg, picture
from repro.report.figures.numbers import Plot, csv_text, description, later_plots, plot, shown_plots

__all__ = ["Plot", "csv_text", "description", "draw", "inline_svg", "later_plots", "picture", "plot", "shown_plots"]
