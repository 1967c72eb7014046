"""Figures from records, as pictures, numbers and text."""

from repro.report.figures.draw import draw, picture
from repro.report.figures.inline import inline_svg
from repro.report.figures.numbers import Plot, csv_text, description, later_plots, plot, shown_plots

__all__ = ["Plot", "csv_text", "description", "draw", "inline_svg", "later_plots", "picture", "plot", "shown_plots"]
