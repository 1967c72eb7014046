"""The published tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repro.config.parse import build, require
from repro.papers.toml_files import Run, numbers, reading, require_flat


@dataclass(frozen=True)
class Published:
    """A value as the paper prints it: ``single`` alone, or ``best`` with the mean and std of ``runs`` runs."""

    single: float | None = None
    best: float | None = None
    mean: float | None = None
    std: float | None = None
    runs: int | None = None

    @property
    def headline(self) -> float:
        """The value that the paper puts first."""
        return next(value for value in (self.single, self.best, self.mean) if value is not None)

    @property
    def aggregate(self) -> str:
        """The paper's aggregate behind its headline value: ``single``, ``best of 5`` or ``mean of 5``."""
        if self.single is not None:
            return "single"
        return f"{'mean' if self.best is None else 'best'} of {self.runs}"


@dataclass(frozen=True)
class PaperRow:
    """A row of a published table.

    It is cited from other work, or the authors' own: then it is filled by the runs of ``run`` (trained by
    ``experiment``), counted on the model ``net`` (Table 1), or ``not_attempted`` here, which says why. ``paper`` has a
    value for each metric that the row prints; ``decimals`` are those in print.
    """

    label: str
    paper: Mapping[str, Published]
    run: Run | None = None
    net: Run | None = None
    cited: bool = False
    not_attempted: str = ""
    experiment: str = ""
    setting: str = ""
    decimals: int = 2
    layers: int | None = None
    params_millions: float | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    """Table 1: output, layers of a block and number of blocks by stage: ``56x56: 3x3 64, 3x3 64; 2 blocks``."""


@dataclass(frozen=True)
class PaperTable:
    """A published table; ``metrics`` are fields of an evaluation in a record, ``recipe`` what its runs must follow.

    ``view`` is the test of the final net that is read (``10crop``, ``multiscale``), empty for the final evaluation.
    A run is measured only on ``eval_images`` images, the whole split. ``setting`` says in a few words on what and how
    the paper tested, for the rows that name no setting of their own. ``ensembles``: ours, of runs that follow
    ``recipe`` too, stand beside it.
    """

    number: int
    title: str
    metrics: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    setting: str
    recipe: str = ""
    experiment: str = ""
    view: Literal["", "10crop", "multiscale"] = ""
    eval_images: int | None = None
    decimals: int = 2
    not_attempted: str = ""
    ensembles: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def label(self, metric: str) -> str:
        """Return the heading of a metric."""
        return self.labels.get(metric, metric)

    @property
    def runnable(self) -> bool:
        """True where runs can fill any of its rows."""
        return any(row.run is not None for row in self.rows)


def table_numbers() -> list[int]:
    """List the numbers of the published tables that there is data for."""
    return numbers("table")


def load_table(number: int) -> PaperTable:
    """Return table ``number`` of the paper.

    Raises:
        InputError: There is no such table, or its file does not fit.
    """
    known = numbers("table")
    made = ", ".join(map(str, known)) or "none"
    require(number in known, f"there is no table {number} here; tables that can be made: {made}")
    with reading(f"table{number}") as values:
        rows = [_with_defaults(row, values) for row in values.get("rows", [])]
        table: PaperTable = build(PaperTable, {**values, "rows": rows})
        require(table.number == number, f"number={table.number} is not the number in the file's name")
        unknown = [name for name in table.labels if name not in table.metrics]
        require(not unknown, f"labels names what is no metric: {', '.join(unknown)}")
        for row in table.rows:
            _check(table, row)
        if table.runnable or table.ensembles:
            for name in ("recipe", "eval_images"):
                require(bool(getattr(table, name)), f"{name} is missing")
    return table


def _with_defaults(row: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Fill in what the table says for all its rows where the row says nothing; a plain number is printed alone."""
    inherited = ["setting", "decimals"]
    if "run" in row:
        inherited.append("experiment")
    elif "net" not in row and not row.get("cited"):
        inherited.append("not_attempted")
    values = {**{name: table[name] for name in inherited if name in table}, **row}
    paper = row.get("paper", {})
    if isinstance(paper, dict):
        values["paper"] = {name: v if isinstance(v, dict) else {"single": v} for name, v in paper.items()}
    return values


def _check(table: PaperTable, row: PaperRow) -> None:
    where = row.label
    require_flat(row.run, f"{where}: run")
    require_flat(row.net, f"{where}: net")
    needed = set(table.metrics) if row.run is not None else set()
    fits = bool(row.paper) and needed <= set(row.paper) <= set(table.metrics)
    require(fits, f"{where}: paper must give {', '.join(table.metrics)}")
    ways = [row.cited, row.run is not None, row.net is not None, bool(row.not_attempted)]
    require(sum(ways) == 1, f"{where}: a row is either cited or has a run, a net, or a reason why it is not_attempted")
    require(row.run is None or bool(row.experiment), f"{where}: experiment is missing")
    for value in row.paper.values():
        alone = value.single is not None and value == Published(single=value.single)
        of_runs = value.single is None and value.runs is not None and (value.best, value.mean) != (None, None)
        require(alone or of_runs, f"{where}: a published value is single alone, or best or mean with its runs")
