"""A filled table as text in rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

from repro.report.tables.filled import Comparison, Line, Table
from repro.report.tables.grid import NOT_RUN, Cell, Grid, signed
from repro.results.select import Summary

NOT_ATTEMPTED = "not attempted"
EMPTY = Cell("")


@dataclass(frozen=True)
class Column:
    """One cell a line of the table, then one a line of its ensembles."""

    header: str
    cells: list[Cell]
    numeric: bool = True


def grid(table: Table) -> Grid:
    """All columns that have something to say: settings, layers and parameters only where a row gives them."""
    columns = _descriptions(table)
    for metric in table.paper.metrics:
        columns += _metric_columns(table, metric)
    columns += _ensemble_columns(table)
    columns.append(_last_column(table))
    rows = len(table.lines) + len(table.ensembles)
    filled = [column.cells + [EMPTY] * (rows - len(column.cells)) for column in columns]
    return Grid(
        table.paper.number,
        table.paper.title,
        tuple(column.header for column in columns),
        tuple(zip(*filled, strict=True)),
        frozenset(position for position, column in enumerate(columns) if column.numeric),
        table.notes,
        tuple(_ids(table)),
    )


def _descriptions(table: Table) -> list[Column]:
    rows = [line.row for line in table.lines]
    methods = [Cell(row.label + " (cited)" * row.cited) for row in rows]
    columns = [Column("Method", [*methods, *(Cell(line.label) for line in table.ensembles)], numeric=False)]
    if table.ensembles or any(row.setting != table.paper.setting for row in rows):
        settings = [*(row.setting for row in rows), *(line.setting for line in table.ensembles)]
        columns.append(Column("Setting", [Cell(setting) for setting in settings], numeric=False))
    if any(row.layers is not None for row in rows):
        columns.append(Column("Layers", [Cell("" if row.layers is None else str(row.layers)) for row in rows]))
    params = [_params(line) for line in table.lines]
    if any(params):
        columns.append(Column("Params", [Cell(text) for text in params]))
    return columns


def _params(line: Line) -> str:
    published, counted = line.row.params_millions, line.params
    texts = [] if published is None else [f"{published:g}M"]
    texts += [] if counted is None else [f"({counted:,})" if texts else f"{counted:,}"]
    return " ".join(texts)


def _metric_columns(table: Table, metric: str) -> list[Column]:
    """The published values, and where runs can fill the table what was measured, the difference and the proxies."""
    paper = table.paper
    label = paper.labels[metric]
    name = f" {label}" if len(paper.metrics) > 1 else ""
    comparisons = [line.metrics.get(metric) for line in table.lines]
    published = [_published(line, c) for line, c in zip(table.lines, comparisons, strict=True)]
    if not paper.runnable:
        return [Column(label if name else "Paper", published)]
    best_epoch = table.protocol == "common"
    measured, difference = [], []
    for line, comparison in zip(table.lines, comparisons, strict=True):
        shown = comparison if line.row.run is not None else None
        measured.append(
            Cell(NOT_ATTEMPTED if line.row.not_attempted and comparison else "") if shown is None else _measured(shown)
        )
        difference.append(EMPTY if shown is None else Cell(_difference(shown), _run_ids(shown.measured)))
    columns = [
        Column(f"Paper{name}", published),
        Column(f"Measured{name}" + ", best epoch on the test set" * best_epoch, measured),
        Column(f"Difference{name}", difference),
    ]
    for position, proxy in enumerate(table.proxies):
        cells = [
            EMPTY
            if c is None or line.row.run is None
            else Cell(_summary(c.proxies[position]), _run_ids(c.proxies[position]))
            for line, c in zip(table.lines, comparisons, strict=True)
        ]
        header = f"Proxy{name}: {proxy.scale} ({proxy.size}{', best epoch' * best_epoch})"
        columns.append(Column(header, cells))
    return columns


def _published(line: Line, comparison: Comparison | None) -> Cell:
    if comparison is None:
        return EMPTY
    paper, decimals = comparison.paper, line.row.decimals
    text = f"{paper.headline:.{decimals}f}"
    if paper.best is not None and paper.mean is not None:
        spread = "" if paper.std is None else f"±{paper.std:.{decimals}f}"
        text += f" ({paper.mean:.{decimals}f}{spread})"
    return Cell(text)


def _measured(comparison: Comparison) -> Cell:
    measured = comparison.measured
    text = _summary(measured)
    if measured is not None and measured.n > 1 and comparison.paper.best is not None:
        text += f", best {measured.best:.2f}"
    return Cell(text, _run_ids(measured))


def _difference(comparison: Comparison) -> str:
    difference = signed(comparison.difference)
    if comparison.difference_best is None:
        return difference
    mean = "" if comparison.difference is None else f"mean {difference}, "
    return f"{mean}best {signed(comparison.difference_best)}"


def _summary(summary: Summary | None) -> str:
    if summary is None:
        return NOT_RUN
    spread = "" if summary.std is None else f" ± {summary.std:.2f}"
    return f"{summary.mean:.2f}{spread} (n={summary.n})"


def _run_ids(summary: Summary | None) -> tuple[str, ...]:
    return () if summary is None else summary.run_ids


def _ensemble_columns(table: Table) -> list[Column]:
    """Our ensembles, on the validation set; those below the paper's budget apart."""
    if not table.paper.ensembles:
        return []
    columns = []
    for header, proxy in (("Ensemble, validation set", False), ("Proxy: ensemble, validation set", True)):
        if proxy and not any(line.proxy for line in table.ensembles):
            continue
        cells = [EMPTY] * len(table.lines)
        for line in table.ensembles:
            ids = tuple(member.run_id for member in line.ensemble.members)
            cells.append(Cell(f"{line.ensemble.top5_error:.2f}", ids) if line.proxy == proxy else EMPTY)
        columns.append(Column(header, cells))
    return columns


def _last_column(table: Table) -> Column:
    """The seeds of a row, the full ids of which stand below; or, where no run can fill the table, what was done."""
    if not table.paper.runnable:
        return Column("Here", [Cell(NOT_ATTEMPTED if line.row.not_attempted else "") for line in table.lines], False)
    cells = []
    for line in table.lines:
        measured = next((c.measured for c in line.metrics.values()), None)
        cells.append(EMPTY if line.row.run is None else Cell(_seeds(measured), _run_ids(measured)))
    return Column("Runs", cells, numeric=False)


def _seeds(summary: Summary | None) -> str:
    """The runs of a cell in short, ``5: s0–s4``."""
    if summary is None:
        return NOT_RUN
    seeds = sorted(int(run_id.split("-")[-2].removeprefix("s")) for run_id in summary.run_ids)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{summary.n}: s{seeds[0]}–s{seeds[-1]}"
    return f"{summary.n}: " + ", ".join(f"s{seed}" for seed in seeds)


def _ids(table: Table) -> list[str]:
    """The full ids of the runs behind every cell, the measured ones first, then those of the ensembles."""
    notes: list[str] = []
    for position, kind in enumerate(["", *(f", proxy {proxy.scale}" for proxy in table.proxies)]):
        for line in table.lines:
            comparison = next(iter(line.metrics.values()))
            summary = (comparison.measured, *comparison.proxies)[position]
            if summary is not None:
                notes.append(f"Runs of {line.row.label}{kind}: {', '.join(summary.run_ids)}.")
    for own in table.ensembles:
        notes.append(f"Runs of {own.label}: {', '.join(member.run_id for member in own.ensemble.members)}.")
    return notes
