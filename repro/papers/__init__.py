"""The content of the papers as frozen dataclasses."""

from repro.papers.figures import (
    Axis,
    Curve,
    LineStyle,
    Panel,
    PaperFigure,
    figure_names,
    figure_numbers,
    later_figures,
    load_figure,
)
from repro.papers.recipes import Recipe, load_recipe
from repro.papers.tables import ALL_NETS, PaperRow, PaperTable, Published, later_tables, load_table, table_numbers
from repro.papers.toml_files import FIRST, LaterPaper, Run, later_papers

__all__ = [
    "ALL_NETS",
    "FIRST",
    "Axis",
    "Curve",
    "LaterPaper",
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
    "later_figures",
    "later_papers",
    "later_tables",
    "load_figure",
    "load_recipe",
    "load_table",
    "table_numbers",
]
