"""What the paper says, as data: reads ``experiments/*.toml`` into frozen dataclasses, refusing what does not fit."""

from repro.paper.figures import Axis, Curve, LineStyle, Panel, PaperFigure, figure_names, figure_numbers, load_figure
from repro.paper.reading import Run
from repro.paper.recipes import Recipe, load_recipe
from repro.paper.tables import PaperRow, PaperTable, Published, load_table, table_numbers

__all__ = [
    "Axis",
    "Curve",
    "LineStyle",
    "Panel",
    "PaperFigure",
    "PaperRow",
    "PaperTable",
    "Published",
    "Recipe",
    "Run",
    "figure_names",
    "figure_numbers",
    "load_figure",
    "load_recipe",
    "load_table",
    "table_numbers",
]
