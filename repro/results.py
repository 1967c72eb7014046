"""Groups seeds and chooses what may stand in one column. Never averages unlike runs."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repro.config import later_defaults
from repro.errors import nearest
from repro.records import Record, ViewResult
from repro.strict import require

PROTOCOLS = {"paper": "final", "common": "best"}
"""Ways of reading a record: the final iterate, chosen by nothing, or the best epoch on the evaluated split."""


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of one net: mean, std with n-1 (None for one seed), best is the lowest."""

    n: int
    mean: float
    std: float | None
    best: float
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What fills a column: one group of seeds a row, all of one recipe, each group of one numerics version.

    ``departures`` are the recipe's fields that these runs were not made with, and their values.
    """

    scale: str
    groups: tuple[tuple[Record, ...], ...]
    departures: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def records(self) -> list[Record]:
        return [record for group in self.groups for record in group]


def departures(record: Record, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The science fields of ``record`` that differ from the recipe with ``run`` set on top, flat."""
    wanted = {**later_defaults(), **recipe, **run}
    return {key: value for key, value in record.fields.items() if key not in wanted or value != wanted[key]}


def scale_label(record: Record, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """``paper`` for a run that follows the recipe in all; else the name of its scale, ``custom`` without one."""
    if not departures(record, recipe, run):
        return "paper"
    return "custom" if record.scale == "paper" else record.scale


def proxy_scales(
    records: Sequence[Record], recipe: Mapping[str, Any], runs: Sequence[Mapping[str, Any] | None]
) -> list[str]:
    """The scale labels below the paper's that records of these runs carry, ``demo`` and ``smoke`` first."""
    found = {scale_label(r, recipe, run) for run in runs if run is not None for r in records if _matches(r, run)}
    order = ["demo", "smoke"]
    return sorted(found - {"paper"}, key=lambda scale: (order.index(scale) if scale in order else len(order), scale))


def select(
    records: Sequence[Record], recipe: Mapping[str, Any], runs: Sequence[Mapping[str, Any] | None], scale: str = "paper"
) -> Selection:
    """Chooses the records that stand in one column.

    Args:
        recipe: The flat science fields of ``Recipe.fields``.
        runs: One a row: the fields set on top of the recipe; None for a row that no run fills.
        scale: ``paper`` for the measured values, else a label of ``proxy_scales``.
    """
    notes: list[str] = []
    groups: list[list[Record]] = []
    for run in runs:
        group = [r for r in records if run and _matches(r, run) and scale_label(r, recipe, run) == scale]
        if scale == "paper" and (dirty := [r for r in group if r.provenance.dirty]):
            # Nobody can repeat such a run; a proxy claims less.
            notes.append(f"not counted, made from a tree with uncommitted changes: {run_ids(dirty)}")
            group = [r for r in group if not r.provenance.dirty]
        newest = max((r.numerics_version for r in group), default=0)
        groups.append([r for r in group if r.numerics_version == newest])
        if older := [r for r in group if r.numerics_version != newest]:
            versions = ", ".join(sorted({str(r.numerics_version) for r in older}))
            notes.append(f"not averaged in, numerics version {versions} instead of {newest}: {run_ids(older)}")
    kept, others = _one_recipe(groups, runs, recipe)
    if others:
        notes.append(f"not averaged in, trained by another recipe than the rest of {scale}: {run_ids(others)}")
    chosen = tuple(tuple(sorted(group, key=lambda r: r.seed)) for group in kept)
    first = next(((group[0], run) for group, run in zip(chosen, runs, strict=True) if group and run), None)
    return Selection(scale, chosen, departures(first[0], recipe, first[1]) if first else {}, tuple(notes))


def summarize(
    records: Sequence[Record], metric: str = "top1_error", protocol: str = "paper", view: str = ""
) -> Summary | None:
    """``metric`` over the seeds ``records`` as ``protocol`` reads it; None where there are none, or one lacks it.

    Args:
        view: The test of several views that is read instead, where all of the records have it (section 3.4).

    Raises:
        InputError: The protocol is unknown.
    """
    require(protocol in PROTOCOLS, f"protocol={protocol} is unknown: {nearest(protocol, PROTOCOLS)}")
    views = [view_of(record, view) for record in records]
    read = views if None not in views else [getattr(record.result, PROTOCOLS[protocol]) for record in records]
    values = [getattr(result, metric) for result in read]
    if not values or None in values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    ids = tuple(record.run_id for record in records)
    return Summary(len(values), statistics.fmean(values), std, min(values), ids)


def view_of(record: Record, view: str) -> ViewResult | None:
    """What the final net's test ``view`` (``10crop``, ``multiscale``) gave; None where it was not made."""
    return next((result for result in record.result.views if result.view == view), None)


def run_ids(records: Iterable[Record]) -> str:
    return ", ".join(record.run_id for record in records)


APART: Mapping[str, Any] = {"model.constructed_from": None, "eval.gradient_flow": False}
"""What sets a run apart from others of its net at any scale, unless a row or curve asks for it."""


def _matches(record: Record, run: Mapping[str, Any]) -> bool:
    fields = record.fields
    return all(key in fields and fields[key] == value for key, value in {**APART, **run}.items())


def _one_recipe(
    groups: Sequence[Sequence[Record]], runs: Sequence[Mapping[str, Any] | None], paper: Mapping[str, Any]
) -> tuple[list[list[Record]], list[Record]]:
    """Keeps the recipe with most records, among equals the one nearest to the paper's and then the one that finished
    last; and what that leaves out."""
    recipes: dict[str, list[Record]] = defaultdict(list)
    distance: dict[str, int] = {}
    for group, run in zip(groups, runs, strict=True):
        for record in group:
            text = _recipe_text(record, run or {})
            recipes[text].append(record)
            distance[text] = len(departures(record, paper, run or {}))
    if not recipes:
        return [[] for _ in groups], []

    def rank(text: str) -> tuple[int, int, str]:
        group = recipes[text]
        return len(group), -distance[text], max(record.provenance.finished for record in group)

    best = recipes[max(recipes, key=rank)]
    ids = {record.run_id for record in best}
    kept = [[record for record in group if record.run_id in ids] for group in groups]
    return kept, [record for group in recipes.values() if group is not best for record in group]


def _recipe_text(record: Record, run: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in record.fields.items() if key not in run}, sort_keys=True)
