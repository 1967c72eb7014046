"""The paper's tables for the page: the cells that every format has, each with the runs behind it."""

from __future__ import annotations

from collections.abc import Mapping

from repro.report.html.view_models import Cell, Grid, Row
from repro.report.tables import Grid as TableGrid


def grid(table: TableGrid) -> Grid:
    """A table's text for the page; a row without a name, as further nets in Table 1, has that of the row above."""
    rows, name = [], ""
    for position, cells in enumerate(table.rows, 1):
        name = cells[0].text or name
        # The seeds stand below the first number that rests on them, not below each.
        before = [cell.run_ids for cell in cells]
        listed = [cell.run_ids not in before[:place] for place, cell in enumerate(cells)]
        texts = zip(cells[1:], listed[1:], strict=True)
        shown = (Cell(name), *(Cell(cell.text, cell.run_ids, first) for cell, first in texts))
        rows.append(Row(f"table-{table.number}-row-{position}", shown, name.endswith("(cited)")))
    return Grid(
        f"table-{table.number}",
        f"Table {table.number}",
        table.title,
        table.header,
        tuple(rows),
        table.numeric,
        table.notes,
    )


def grids(tables: Mapping[int, TableGrid]) -> list[Grid]:
    """All tables in the paper's order."""
    return [grid(tables[number]) for number in sorted(tables)]
