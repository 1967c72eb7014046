"""Rows of tables with a number for each class."""

from __future__ import annotations

from collections.abc import Mapping

from repro.papers import PaperTable
from repro.report.tables.cells import EMPTY, Row, published_text, run_ids_of, seeds_text
from repro.report.tables.frame import NOT_RUN, Cell
from repro.results.select import Summary

SEVERAL = 3
"""The most numbers of a row that have columns of their own for the paper's, the measured and the proxy's value."""


def is_by_class(table: PaperTable) -> bool:
    """Return whether runs fill a table with too many numbers for such columns (Table 10)."""
    return table.runnable and len(table.metrics) > SEVERAL


def cells_by_class(row: Row, table: PaperTable, proxies: Mapping[str, str]) -> list[dict[str, Cell]]:
    """Return a line of the paper's values, one of the measured ones, and one of each proxy that has runs.

    Args:
        proxies: Scale of each proxy, and a short description of its runs.
    """
    paper = row.paper
    found = []
    if not paper.own:
        texts = {metric: published_text(one.paper, paper.decimals) for metric, one in row.metrics.items()}
        found.append(line(row, table, "paper", {metric: Cell(text) for metric, text in texts.items()}))
    if paper.cited:
        return found
    measured = {metric: number(one.measured) for metric, one in row.metrics.items()}
    if paper.unfilled:
        measured = {"mAP": Cell(paper.unfilled)}
    found.append(line(row, table, "measured", measured, row.first.measured, shows_runs=paper.run is not None))
    for position, (scale, size) in enumerate(proxies.items()):
        runs = row.first.proxies[position]
        if runs is not None:
            told = {metric: number(one.proxies[position]) for metric, one in row.metrics.items()}
            found.append(line(row, table, f"proxy: {scale} ({size})", told, runs, shows_runs=True))
    return found


def line(
    row: Row,
    table: PaperTable,
    value: str,
    cells: Mapping[str, Cell],
    runs: Summary | None = None,
    *,
    shows_runs: bool = False,
) -> dict[str, Cell]:
    text = Cell(NOT_RUN) if runs is None else Cell(seeds_text(runs), run_ids_of(runs))
    return {
        "Method": Cell(row.paper.label),
        "Setting": Cell(row.paper.setting),
        "Value": Cell(value),
        **{table.label(metric): cells.get(metric, EMPTY) for metric in table.metrics},
        "Runs": text if shows_runs else EMPTY,
    }


def number(summary: Summary | None) -> Cell:
    """Write ``76.43 ± 0.21``, whose number of runs has its own column."""
    return Cell(NOT_RUN) if summary is None else Cell(summary.text, summary.run_ids)
