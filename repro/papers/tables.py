"""The published tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repro.config.parse import build, require
from repro.papers.toml_files import Run, later_papers, numbers, reading, require_flat

OPEN = "not decidable here"
"""The word for what no run here can fill."""
ALL_NETS = "cifar10"
"""The name of the table of all papers' nets on CIFAR-10, which no paper prints."""


OF_LOCALIZERS = ("1crop", "dense")
"""The views of a localizer's test."""


@dataclass(frozen=True)
class Published:
    """A published value: either ``single``, or ``best`` and ``mean`` with ``std`` of several ``runs``."""

    single: float | None = None
    best: float | None = None
    mean: float | None = None
    std: float | None = None
    runs: int | None = None
    median: float | None = None
    above: float | None = None
    """The error of a failed run is above this value."""

    @property
    def headline(self) -> float:
        """The value that the paper puts first."""
        return next(
            value for value in (self.single, self.best, self.median, self.mean, self.above) if value is not None
        )

    @property
    def aggregate(self) -> str:
        """The paper's aggregate behind its headline value: ``single``, ``best of 5``, ``median of 5``, ``above``."""
        if self.single is not None:
            return "single"
        if self.above is not None:
            return "above"
        kind = "best" if self.best is not None else "mean" if self.median is None else "median"
        return f"{kind} of {self.runs}"


@dataclass(frozen=True)
class PaperRow:
    """A row of a published table.

    A row is ``cited`` from other work, filled by the runs of ``run`` (which ``experiment`` trains), counted on the
    model ``net`` (Table 1), or ``undecidable`` here for a reason, since only a server can score it. ``paper`` has the
    published value of each metric, ``decimals`` the number of decimals in print.
    """

    label: str
    paper: Mapping[str, Published]
    run: Run | None = None
    net: Run | None = None
    cited: bool = False
    undecidable: str = ""
    experiment: str = ""
    setting: str = ""
    view: Literal["", "1crop", "dense", "10crop", "large_crop"] = ""
    """The test that the row shows, if not the table's; of a localizer (Table 13) it has one of the table's metrics."""
    classes_of: tuple[str, ...] = ()
    """Keys of the classification runs that predict a localizer's classes here; empty: any, or given classes."""
    note: str = ""
    """A sentence about the row, without its full stop."""
    eval_images: int | None = None
    """Where it is on other images than the table: the size of their whole split."""
    decimals: int = 2
    layers: int | None = None
    params_millions: float | None = None
    stages: Mapping[str, str] = field(default_factory=dict)
    """Table 1: output, layers of a block and number of blocks by stage: ``56x56: 3x3 64, 3x3 64; 2 blocks``."""
    own: bool = False
    """True for a net of the user's own, below the paper's rows; it has no published value."""

    @property
    def unfilled(self) -> str:
        """The word for a row that no run here fills; empty for all others."""
        return OPEN if self.undecidable else ""


@dataclass(frozen=True)
class PaperTable:
    """A published table; ``metrics`` are fields of an evaluation in a record, ``recipe`` is the recipe of its runs.

    ``view`` is the test of the final net that the table shows (``10crop``, ``multiscale``); empty is the final
    evaluation. A run must be tested on ``eval_images`` images, the whole split. ``setting`` describes the paper's test
    for rows without a setting of their own; ``view`` likewise. With ``ensembles``, ensembles of our runs are shown too.
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
    undecidable: str = ""
    undecidable_metrics: Mapping[str, str] = field(default_factory=dict)
    """Metrics that no run here measures, as those of a test set that only a server scores, with the reason."""
    ensembles: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    unlike: str = ""
    """What the paper does otherwise than the runs here that stand beside it."""
    paper: str = ""
    """The folder of a later paper; empty for the first one."""

    @property
    def full_title(self) -> str:
        """The title, preceded by the name of a later paper."""
        return f"{later_papers()[self.paper].short}: {self.title}" if self.paper else self.title

    def label(self, metric: str) -> str:
        return self.labels.get(metric, metric)

    def unfilled(self, row: PaperRow, metric: str) -> str:
        """Return the word for a value of a row that no run here fills; empty for all others."""
        is_open = metric in self.undecidable_metrics and not row.cited
        return OPEN if is_open else row.unfilled

    def view_of(self, row: PaperRow) -> str:
        """Return the test of the final net that a row shows."""
        return row.view or self.view

    @property
    def views(self) -> list[str]:
        """The tests of the final net that the rows of runs show."""
        return [*dict.fromkeys(self.view_of(row) for row in self.rows if row.run is not None)]

    @property
    def runnable(self) -> bool:
        """True if runs can fill a row of the table."""
        return any(row.run is not None for row in self.rows)


def table_numbers() -> list[int]:
    """List the numbers of the first paper's tables in ``experiments/``."""
    return numbers("table")


def later_tables() -> list[str]:
    """List the tables of later papers in ``experiments/``, as in ``wide_resnet/4``."""
    return [f"{paper}/{number}" for paper in later_papers() for number in numbers("table", paper)]


def load_table(key: int | str) -> PaperTable:
    """Read a table of the first paper by number, or of a later paper by folder and number (``wide_resnet/4``).

    Raises:
        InputError: There is no such table, or its file is invalid.
    """
    paper, _, number = str(key).rpartition("/")
    known = numbers("table", paper) if paper in later_papers() else [] if paper else numbers("table")
    made = ", ".join([*map(str, table_numbers()), *(later_tables() if isinstance(key, str) else [])]) or "none"
    is_known = number.isdecimal() and int(number) in known
    require(is_known, f"there is no table {key} here: known tables are {made}")
    with reading(f"{paper}/table{number}" if paper else f"table{number}") as values:
        rows = [_with_defaults(row, values) for row in values.get("rows", [])]
        table: PaperTable = build(PaperTable, {**values, "rows": rows}, paper=paper)
        require(table.number == int(number), f"number={table.number} differs from the number in the file's name")
        for key in ("labels", "undecidable_metrics"):
            unknown = [name for name in getattr(table, key) if name not in table.metrics]
            require(not unknown, f"{key} has unknown metrics: {', '.join(unknown)}")
        for row in table.rows:
            _check(table, row)
        if table.runnable or table.ensembles:
            for name in ("recipe", "eval_images"):
                require(bool(getattr(table, name)), f"{name} is missing")
    return table


def _with_defaults(row: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Add the table's values that the row does not set itself; a plain number becomes a ``single`` value."""
    inherited = ["setting", "decimals"]
    if "run" in row:
        inherited.append("experiment")
    elif "net" not in row and not row.get("cited"):
        inherited.append("undecidable")
    values = {**{name: table[name] for name in inherited if name in table}, **row}
    paper = row.get("paper", {})
    if isinstance(paper, dict):
        values["paper"] = {name: v if isinstance(v, dict) else {"single": v} for name, v in paper.items()}
    return values


def _check(table: PaperTable, row: PaperRow) -> None:
    where = row.label
    require_flat(row.run, f"{where}: run")
    require_flat(row.net, f"{where}: net")
    needed = set(table.metrics) if row.run is not None and row.view not in OF_LOCALIZERS else set()
    fits = bool(row.paper) and needed <= set(row.paper) <= set(table.metrics)
    require(fits, f"{where}: paper must have {', '.join(table.metrics)}")
    ways = [row.cited, row.run is not None, row.net is not None, bool(row.undecidable)]
    require(sum(ways) == 1, f"{where}: a row needs exactly one of cited, run, net and undecidable")
    require(row.run is None or bool(row.experiment), f"{where}: experiment is missing")
    for value in row.paper.values():
        alone = value.single is not None and value == Published(single=value.single)
        of_runs = (
            value.single is None
            and value.runs is not None
            and (value.best, value.mean, value.median) != (None, None, None)
        )
        failed = value == Published(above=value.above)
        require(alone or of_runs or failed, f"{where}: a published value is either single, or best or mean with runs")
