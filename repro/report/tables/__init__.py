"""A published table with what was measured beside it: paper and records in, Markdown, CSV or LaTeX out."""

from __future__ import annotations

from collections.abc import Callable

from repro.report.tables.cells import grid
from repro.report.tables.csv import to_csv
from repro.report.tables.filled import Comparison, EnsembleLine, Line, Proxy, Table, size_of, table
from repro.report.tables.grid import Cell, Grid, grid_to_latex, grid_to_markdown

__all__ = [
    "FORMATS",
    "Cell",
    "Comparison",
    "EnsembleLine",
    "Grid",
    "Line",
    "Proxy",
    "Table",
    "grid",
    "size_of",
    "table",
    "to_csv",
    "to_latex",
    "to_markdown",
]


def to_markdown(table: Table) -> str:
    """The table with its title above, its notes and the run ids below."""
    return grid_to_markdown(grid(table))


def to_latex(table: Table) -> str:
    """A ``table`` environment; run ids stand in comments."""
    return grid_to_latex(grid(table))


FORMATS: dict[str, Callable[[Table], str]] = {"md": to_markdown, "csv": to_csv, "tex": to_latex}
