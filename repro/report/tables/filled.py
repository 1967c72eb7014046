"""A published table filled from records: like beside like, proxies apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from repro.config.execution import PROTOCOLS
from repro.config.parse import require
from repro.errors import nearest
from repro.papers import PaperRow, PaperTable, Published, Run, load_recipe, load_table
from repro.report.tables.notes import (
    best_notes,
    ensemble_notes,
    left_out_notes,
    measured_notes,
    paper_notes,
    proxy_notes,
    smaller_notes,
)
from repro.results.ensembles import Ensemble, EnsembleReading
from repro.results.read import Reading, Record
from repro.results.scales import scale_of
from repro.results.select import Selection, Summary, departures, proxy_scales, select, summarize, view_of

NO_ENSEMBLES = EnsembleReading()


@dataclass(frozen=True)
class Proxy:
    """A column of runs below the paper's budget: ``scale`` is its label, ``size`` says what these runs were."""

    scale: str
    size: str


@dataclass(frozen=True)
class Comparison:
    """One metric of one row. Differences are measured minus paper, like with like, in percentage points.

    ``difference`` is our mean minus the paper's mean, or minus its single value. ``difference_best`` is best minus
    best, where the paper prints one and the number of runs is the same. ``proxies`` runs along ``Table.proxies``.
    """

    paper: Published
    measured: Summary | None
    proxies: tuple[Summary | None, ...]

    @property
    def difference(self) -> float | None:
        reference = self.paper.single if self.paper.mean is None else self.paper.mean
        return None if self.measured is None or reference is None else self.measured.mean - reference

    @property
    def difference_best(self) -> float | None:
        if self.measured is None or self.paper.best is None or self.measured.n != self.paper.runs:
            return None
        return self.measured.best - self.paper.best


@dataclass(frozen=True)
class Line:
    """A row of the table; ``params`` is counted on the model that was run. A metric that the row lacks is absent."""

    row: PaperRow
    params: int | None
    metrics: Mapping[str, Comparison]


@dataclass(frozen=True)
class EnsembleLine:
    """An ensemble of our own, beside a table of the test set. Nothing of it is compared with a published value.

    It is a ``proxy`` unless it was tested on the whole validation set and all its members follow the paper's recipe.
    """

    ensemble: Ensemble
    proxy: bool

    @property
    def label(self) -> str:
        """``ensemble of 3: ResNet-50, ResNet-152 (2)``."""
        names = [member.label for member in self.ensemble.members]
        counted = [f"{name} ({names.count(name)})" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
        return f"ensemble of {len(names)}: {', '.join(counted)}"

    @property
    def setting(self) -> str:
        """Views, images and split."""
        views = ", ".join(sorted({member.view for member in self.ensemble.members}))
        return f"{views}, {self.ensemble.images:,} images of {self.ensemble.data} {self.ensemble.split}"


@dataclass(frozen=True)
class Table:
    """A table ready to be written; ``notes`` stand below it."""

    paper: PaperTable
    protocol: str
    lines: tuple[Line, ...]
    proxies: tuple[Proxy, ...]
    notes: tuple[str, ...]
    ensembles: tuple[EnsembleLine, ...] = ()


def table(
    number: int,
    reading: Reading,
    protocol: str = "paper",
    ensembles: EnsembleReading = NO_ENSEMBLES,
    scale: str | None = None,
) -> Table:
    """Fill table ``number`` of the paper from the records of ``reading``.

    Args:
        protocol: ``paper`` reads the final error of a run, ``common`` the error of its best epoch.
        ensembles: Stand beside the published ones in Table 5; no other table takes them.
        scale: The one whose proxies are shown; by default the largest budget of each row.

    Raises:
        InputError: There is no such table or protocol, or the table is of a test that only the final net took.
    """
    require(protocol in PROTOCOLS, f"protocol={protocol} is unknown: {nearest(protocol, PROTOCOLS)}")
    paper = load_table(number)
    require(
        protocol == "paper" or not paper.view,
        f"Table {number} is of the test {paper.view}, which only the final net takes: protocol={protocol} reads the "
        "best epoch and cannot fill it",
    )
    recipe: Mapping[str, Any] = load_recipe(paper.recipe).fields if paper.recipe else {}
    runs = [row.run for row in paper.rows]
    records, incomplete = _whole(reading.records, paper, recipe)
    measured = select(records, recipe, runs)
    labels = [label for label in proxy_scales(records, recipe, runs) if scale in (None, scale_of(label))]
    below = [select(records, recipe, runs, label) for label in labels]
    below, smaller = (below, []) if scale else _largest_budgets(below)
    lines = [_line(paper, position, (measured, *below), protocol) for position in range(len(paper.rows))]
    notes = [*paper_notes(paper), *measured_notes(paper, measured, protocol)]
    notes += best_notes([(line.row, c.paper, c.measured) for line in lines for c in line.metrics.values()])
    for selection in below:
        notes += proxy_notes(selection, recipe, paper.view)
    notes += smaller_notes(number, smaller)
    own = [_ensemble_line(e, reading.records, paper, recipe) for e in ensembles.ensembles if paper.ensembles]
    notes += ensemble_notes(paper, any(not line.proxy for line in own))
    takes_runs = any(row.run is not None for row in paper.rows)
    left_out = [*(reading.left_out if takes_runs else ()), *(ensembles.left_out if paper.ensembles else ())]
    notes += left_out_notes([*incomplete, *(f"{left.name}: {left.reason}" for left in left_out)])
    proxies = tuple(Proxy(selection.scale, size_of(selection)) for selection in below)
    return Table(paper, protocol, tuple(lines), proxies, tuple(notes), tuple(own))


def _largest_budgets(below: Sequence[Selection]) -> tuple[list[Selection], list[str]]:
    """Leave out of each scale's own column the rows that a larger budget fills, and columns that are then empty.

    Returns:
        The columns, the largest budget first as they are given, and the scales that some row was left out of.
    """
    shown: set[int] = set()
    kept: list[Selection] = []
    smaller: list[str] = []
    for selection in below:
        if selection.scale != scale_of(selection.scale):  # of another recipe, which stands for no budget
            kept.append(selection)
            continue
        groups = tuple(() if row in shown else group for row, group in enumerate(selection.groups))
        smaller += [selection.scale] if groups != selection.groups else []
        shown |= {row for row, group in enumerate(groups) if group}
        kept += [replace(selection, groups=groups)] if any(groups) else []
    return kept, smaller


def _line(paper: PaperTable, position: int, columns: Sequence[Selection], protocol: str) -> Line:
    row = paper.rows[position]
    groups = [selection.groups[position] for selection in columns]
    comparisons = {}
    for metric in paper.metrics:
        if metric in row.paper:
            first, *rest = (summarize(group, metric, protocol, paper.view) for group in groups)
            comparisons[metric] = Comparison(row.paper[metric], first, tuple(rest))
    return Line(row, next((group[0].params for group in groups if group), None), comparisons)


def _whole(records: Sequence[Record], paper: PaperTable, recipe: Mapping[str, Any]) -> tuple[list[Record], list[str]]:
    """The records without those that follow the recipe in all but were not tested on the whole split; and why."""
    runs = [row.run for row in paper.rows if row.run is not None]
    kept, notes = [], []
    for record in records:
        lacking = _lacking(record, paper, recipe, runs)
        if lacking:
            notes.append(f"{record.run_id}: {lacking}")
        else:
            kept.append(record)
    return kept, notes


def _lacking(record: Record, paper: PaperTable, recipe: Mapping[str, Any], runs: Sequence[Run]) -> str:
    if not any(not departures(record, recipe, run) for run in runs):
        return ""
    tested = view_of(record, paper.view) if paper.view else record.result.final
    if tested is None:
        return f"it holds no test {paper.view}"
    if tested.images != paper.eval_images:
        return f"it was tested on {tested.images:,} images instead of all {paper.eval_images or 0:,}"
    return ""


def _ensemble_line(
    ensemble: Ensemble, records: Sequence[Record], paper: PaperTable, recipe: Mapping[str, Any]
) -> EnsembleLine:
    ids = {member.run_id for member in ensemble.members}
    members = [record for record in records if record.run_id in ids]
    nets = [{"model.depth": r.science.model.depth, "model.shortcut": r.science.model.shortcut} for r in members]
    follows = len(members) == len(ids) and not any(
        record.provenance.dirty or departures(record, recipe, net) for record, net in zip(members, nets, strict=True)
    )
    whole = (ensemble.data, ensemble.images) == (recipe["data.name"], paper.eval_images)
    return EnsembleLine(ensemble, proxy=not (whole and follows))


def size_of(selection: Selection) -> str:
    """Describe the runs of a proxy in short: ``200 steps, 16x16``."""
    science = selection.records[0].science
    return f"{science.optim.steps} steps, {science.data.image_size}x{science.data.image_size}"
