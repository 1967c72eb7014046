"""Published tables filled from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from repro.config.execution import PROTOCOLS
from repro.config.families import FAMILIES
from repro.config.parse import require
from repro.errors import nearest
from repro.papers import PaperRow, PaperTable, Published, load_recipe, load_table
from repro.report.tables import cells, notes
from repro.report.tables.by_class import cells_by_class, is_by_class
from repro.report.tables.cells import EMPTY, ENSEMBLE, PROXY_ENSEMBLE, Comparison, Row
from repro.report.tables.frame import Cell, Frame
from repro.report.tables.lacking import lacking_of
from repro.report.tables.localizers import SETTINGS, apart_by_classes, counted, views_of
from repro.results.detection_record import DetectionRecord
from repro.results.ensembles import Ensemble, EnsembleReading
from repro.results.read import AnyRecord, Reading, Record
from repro.results.scales import DEFAULTS, is_of_detector, kind_of, known_classes, scale_of, word
from repro.results.select import (
    TESTS,
    R,
    Selection,
    departures,
    improvements_of,
    net_of,
    proxy_scales,
    select,
    summarize,
)

WORDS = ("Method", "Setting", "Here", "Value", "Runs")
NO_ENSEMBLES = EnsembleReading()


def table(
    number: int | str,
    reading: Reading,
    protocol: str = "paper",
    ensembles: EnsembleReading = NO_ENSEMBLES,
    scale: str | None = None,
) -> Frame:
    """Fill a table from the records of ``reading``.

    Args:
        number: The first paper's number, or a later paper's folder and number, as ``load_table`` takes them.
        protocol: ``paper`` reads the final error of a run, ``common`` the error of its best epoch.
        ensembles: Our ensembles, shown beside the published ones in Table 5 only.
        scale: Scale of the proxies to show; by default the largest budget of each row.

    Raises:
        InputError: There is no such table or protocol, or the protocol cannot fill the table.
    """
    require(protocol in PROTOCOLS, f"protocol={protocol} is unknown: {nearest(protocol, PROTOCOLS)}")
    paper = with_own_nets(load_table(number), reading)
    require(
        protocol == "paper" or kind_of(recipe_of(paper)) == "classification",
        f"Table {number} shows detectors or localizers, which are tested at the end only: use protocol=paper, since "
        f"protocol={protocol} reads the best epoch",
    )
    views = [view for view in paper.views if view]
    require(
        protocol == "paper" or not views,
        f"Table {number} shows the test {' and '.join(views)}, which only final nets take: use protocol=paper, since "
        f"protocol={protocol} reads the best epoch",
    )
    filled = fill(paper, reading, protocol, scale)
    rows, below, lacking = filled.rows, filled.below, filled.lacking
    own = [(e, _is_proxy(e, reading.records, paper, filled.recipe)) for e in ensembles.ensembles if paper.ensembles]
    proxies = {selection.scale: size_of(selection) for selection in below}
    left_out = [*(reading.left_out if paper.runnable else ()), *(ensembles.left_out if paper.ensembles else ())]
    texts = [
        *notes.paper_notes(paper),
        *notes.measured_notes(paper, filled.measured, protocol),
        *notes.best_notes(rows),
        *(note for selection in below for note in notes.proxy_notes(selection, filled.recipe, views)),
        *(f"Also run at scale={name}: `repro table {number} --scale {name}`." for name in filled.smaller),
        *notes.ensemble_notes(paper, not all(is_proxy for _, is_proxy in own)),
        *(f"Left out: {run_id}: {reason}." for run_id, reason in lacking.items() if reason),
        *(f"Left out: {left.name}: {left.reason}." for left in left_out),
    ]
    values = [cells.values_of(row, paper, [*proxies], protocol) for row in rows]
    values += [cells.ensemble_values(*ensemble) for ensemble in own]
    ids = cells.ids_of(rows, [*proxies])
    ids += [f"Runs of {cells.label_of(ensemble)}: {', '.join(ensemble.run_ids)}." for ensemble, _ in own]
    laid_out = _cells(paper, rows, proxies, protocol, own)
    key = f"{paper.paper}/{paper.number}" if paper.paper else ""
    return Frame(paper.number, paper.full_title, laid_out, values, WORDS, tuple(texts), tuple(ids), key)


@dataclass(frozen=True)
class Filled:
    """The rows of a table with the runs behind them; ``lacking`` says why a record of its recipe does not count."""

    recipe: Mapping[str, Any]
    rows: list[Row]
    measured: Selection[AnyRecord]
    below: list[Selection[AnyRecord]]
    smaller: list[str]
    lacking: Mapping[str, str]


def fill(paper: PaperTable, reading: Reading, protocol: str = "paper", scale: str | None = None) -> Filled:
    """Choose the runs of every row: at the paper's budget, and of each reduced budget that is shown."""
    recipe = recipe_of(paper)
    runs = [row.run for row in paper.rows]
    every = records_of(reading, recipe)
    lacking = {record.run_id: lacking_of(record, paper, recipe, every) for record in every}
    records = [record for record in every if not lacking[record.run_id]]
    measured = counted(select(records, recipe, runs), paper.rows)
    experiments = {row.experiment.partition(" ")[0] for row in paper.rows if row.experiment}
    # A run that fills another row, as one on other data, is no proxy of this one.
    reduced = [record for record in records if all(departures(record, recipe, run) for run in runs if run is not None)]
    labels = [label for label in proxy_scales(reduced, recipe, runs, experiments) if scale in (None, scale_of(label))]
    found = [counted(select(reduced, recipe, runs, label, experiments), paper.rows) for label in labels]
    below = [selection for selection in found if any(selection.groups)]
    below, smaller = (below, []) if scale else _largest_budgets(below)
    rows = [_row(paper, position, (measured, *below), protocol) for position in range(len(paper.rows))]
    return Filled(recipe, rows, measured, below, smaller, lacking)


def records_of(reading: Reading, recipe: Mapping[str, Any]) -> Sequence[AnyRecord]:
    """Return the records of a recipe's task."""
    kinds: dict[str, Sequence[AnyRecord]] = {"detection": reading.detectors, "localization": reading.localizers}
    return kinds.get(kind_of(recipe), reading.records)


def recipe_of(paper: PaperTable) -> Mapping[str, Any]:
    """Return the fields of the recipe of a table; none for a table without runs."""
    return load_recipe(paper.recipe).fields if paper.recipe else {}


def with_own_nets(paper: PaperTable, reading: Reading) -> PaperTable:
    """Add a row for each net of the user's own that was trained with the table's recipe.

    A table of detectors has rows for all bodies that no row of the paper has, as those of reduced budgets.
    """
    recipe = recipe_of(paper)
    if kind_of(recipe) == "localization":
        known = [{**TESTS, **recipe, **row.run} for row in paper.rows if row.run is not None]
        own: Sequence[AnyRecord] = [
            record
            for record in reading.localizers
            if not any((net_of(record) | improvements_of(record)).items() <= run.items() for run in known)
        ]
    elif is_of_detector(recipe):
        own = [record for record in reading.detectors if _is_other(record, paper, recipe)]
    else:
        own = [r for r in reading.records if r.science.model.is_own and _recipe_name(r) == paper.recipe]
    found: dict[tuple[object, ...], PaperRow] = {}
    unpublished = dict.fromkeys(paper.metrics, Published())
    for record in own:
        model, run = record.science.model, net_of(record) | improvements_of(record)
        label = record.marked_label + _improved(run)
        for view in views_of(record):
            classes = known_classes(record.science)
            row = PaperRow(label, unpublished, run=run, own=True, view=view, classes_of=classes)
            setting = SETTINGS.get(view, paper.setting)
            key = (model.name, model.depth, label + view, _words(run), classes)
            found[key] = replace(row, setting=setting, layers=model.depth)
    rows = apart_by_classes([found[key] for key in sorted(found)])
    return replace(paper, rows=(*paper.rows, *_told_apart(rows)))


def _told_apart(rows: Sequence[PaperRow]) -> list[PaperRow]:
    """Add to the labels of rows that are equal the settings of their nets that differ."""
    named = []
    for row in rows:
        alike = [{**DEFAULTS, **(o.run or {})} for o in rows if (o.label, o.setting) == (row.label, row.setting)]
        run = {**DEFAULTS, **(row.run or {})}
        differing = {key: value for key, value in run.items() if any(other[key] != value for other in alike)}
        named.append(replace(row, label=f"{row.label} ({_words(differing)})") if differing else row)
    return named


def _words(run: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={word(run[key])}" for key in sorted(run))


def _recipe_name(record: AnyRecord) -> str:
    return FAMILIES[record.science.model.name].recipe


def _is_other(record: DetectionRecord, paper: PaperTable, recipe: Mapping[str, Any]) -> bool:
    """Return whether a detector has the metric and the improvements of a row, but the body or the ensemble of none."""
    runs = [{**DEFAULTS, **recipe, **row.run} for row in paper.rows if row.run is not None]
    improved = improvements_of(record)
    alone = {**improved, "detection.members": []}
    net = {**net_of(record), "detection.members": improved["detection.members"]}
    alike = [run for run in runs if alone.items() <= run.items()]
    is_known = any(net.items() <= run.items() for run in runs)
    return record.detection.metric == recipe["detection.metric"] and bool(alike) and not is_known


def _improved(run: Mapping[str, Any]) -> str:
    """Return `` + box refinement + context`` for the improvements of a detector or a localizer."""
    names = {"refine": "box refinement", "context": "context", "scales": "multi-scale testing"}
    improved = "".join(f" + {text}" for name, text in names.items() if run.get(f"detection.{name}"))
    improved += " + R-CNN" if run.get("localization.method") == "rcnn" else ""
    members = run.get("detection.members") or run.get("localization.members")
    return f"{improved}, ensemble of {len(members) + 1}" if members else improved


def _cells(
    paper: PaperTable,
    rows: Sequence[Row],
    proxies: Mapping[str, str],
    protocol: str,
    own: Sequence[tuple[Ensemble, bool]],
) -> list[dict[str, Cell]]:
    """Return the cells of all rows; settings, layers and parameters have a column only if it is informative."""
    ours = [ENSEMBLE] if paper.ensembles else []
    ours += [PROXY_ENSEMBLE] if any(is_proxy for _, is_proxy in own) else []
    if is_by_class(paper):
        found = [cell for row in rows for cell in cells_by_class(row, paper, proxies)]
    else:
        found = [cells.cells_of(row, paper, proxies, protocol, ours) for row in rows]
    found += [dict.fromkeys(found[0], EMPTY) | cells.ensemble_cells(*ensemble) for ensemble in own]
    silent = [name for name in ("Layers", "Params") if not any(row.get(name, EMPTY).text for row in found)]
    if not own and all(row.setting == paper.setting for row in paper.rows):
        silent.append("Setting")
    return [{name: cell for name, cell in row.items() if name not in silent} for row in found]


def _largest_budgets(below: Sequence[Selection[AnyRecord]]) -> tuple[list[Selection[AnyRecord]], list[str]]:
    """Keep each row only in the column of its largest budget, and drop columns that become empty.

    Returns:
        The remaining columns in their order (largest budget first), and the scales of which a row was left out.
    """
    shown: set[int] = set()
    kept: list[Selection[AnyRecord]] = []
    smaller: list[str] = []
    for selection in below:
        if selection.scale != scale_of(selection.scale):  # another recipe is no budget
            kept.append(selection)
            continue
        groups = tuple(() if row in shown else group for row, group in enumerate(selection.groups))
        smaller += [selection.scale] if groups != selection.groups else []
        shown |= {row for row, group in enumerate(groups) if group}
        kept += [replace(selection, groups=groups)] if any(groups) else []
    return kept, smaller


def _row(paper: PaperTable, position: int, columns: Sequence[Selection[AnyRecord]], protocol: str) -> Row:
    row = paper.rows[position]
    groups = [selection.groups[position] for selection in columns]
    comparisons = {}
    for metric in paper.metrics:
        if metric in row.paper:
            first, *rest = (summarize(group, metric, protocol, paper.view_of(row)) for group in groups)
            comparisons[metric] = Comparison(row.paper[metric], first, tuple(rest))
    return Row(row, next((group[0].params for group in groups if group), None), comparisons)


def _is_proxy(ensemble: Ensemble, records: Sequence[Record], paper: PaperTable, recipe: Mapping[str, Any]) -> bool:
    """Return whether it was tested on part of the validation set, or a member departs from the paper's recipe."""
    members = [record for record in records if record.run_id in ensemble.run_ids]
    follow = len(members) == len(ensemble.members)
    for record in members:
        model = record.science.model
        net = {"model.depth": model.depth, "model.shortcut": model.shortcut}
        follow = follow and not record.provenance.dirty and not departures(record, recipe, net)
    return not follow or (ensemble.data, ensemble.images) != (recipe["data.name"], paper.eval_images)


def size_of(selection: Selection[R]) -> str:
    """Return a short description of the runs of a proxy: ``200 steps, 16x16``."""
    science = selection.records[0].science
    size = science.data.image_size
    if science.detection is not None:
        return f"{science.optim.steps} updates, shorter side {size}"
    return f"{science.optim.steps} steps, {size}x{size}"
