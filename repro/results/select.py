"""Groups of seeds for a column of a table.

Runs of different settings are never averaged.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from repro.config.execution import PROTOCOLS
from repro.config.model import NET_FIELDS
from repro.config.parse import require
from repro.config.run import RunConfig
from repro.config.science import Science, later_defaults
from repro.errors import nearest
from repro.papers.recipes import all_recipes
from repro.results.detection_record import DetectionRecord
from repro.results.localization_record import LocalizationRecord
from repro.results.read import AnyRecord
from repro.results.record import Record, ViewResult
from repro.results.scales import DEFAULTS, compared, kind_of, label, scale_of

R = TypeVar("R", bound=AnyRecord)

BUDGETS = ("tenth", "demo", "smoke")
"""Reduced budgets, the largest first; scales of other names come after them."""


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of one net; ``std`` divides by n-1 and is None for one seed.

    ``best`` is the lowest error, of detectors the highest precision.
    """

    n: int
    mean: float
    std: float | None
    best: float
    median: float
    run_ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """``8.61 ± 0.12``."""
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class Selection(Generic[R]):
    """The runs of a column: one group of seeds per row, all of one recipe, each group of one numerics version.

    ``departures`` are the values of the fields that differ from the recipe.
    """

    scale: str
    groups: tuple[tuple[R, ...], ...]
    departures: Mapping[str, Any]
    notes: tuple[str, ...]
    apart: tuple[str, ...] = ()
    """Notes on the other recipes of this scale, for output that has no column for each."""

    @property
    def records(self) -> list[R]:
        return [record for group in self.groups for record in group]


def departures(record: AnyRecord | RunConfig, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the science fields of a record or a planned run, flat, that differ from the recipe with ``run`` on top."""
    return _departures(record.science, recipe, run)


def _departures(science: Science, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {**DEFAULTS, **recipe, **run}
    fields = compared(science)
    return {key: value for key, value in fields.items() if key not in wanted or value != wanted[key]}


def scale_label(
    record: AnyRecord, recipe: Mapping[str, Any], run: Mapping[str, Any], experiments: Collection[str] = ()
) -> str:
    """Return ``paper`` for a run of exactly the recipe, otherwise its scale and its departures from that."""
    return label(record.science, record.scale, recipe, run, experiments) if departures(record, recipe, run) else "paper"


def proxy_scales(
    records: Sequence[AnyRecord],
    recipe: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any] | None],
    experiments: Collection[str] = (),
) -> list[str]:
    """List the labels of proxies from the largest budget to the smallest, each scale's own recipe first."""
    labels = [_labels(records, recipe, run, experiments) for run in runs if run is not None]
    found = {name for named in labels for name in named.values()}

    def rank(name: str) -> tuple[int, str, int, str]:
        scale = scale_of(name)
        return [*BUDGETS, scale].index(scale), scale, name.count(", "), name

    return sorted(found - {"paper"}, key=rank)


def select(
    records: Sequence[R],
    recipe: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any] | None],
    scale: str = "paper",
    experiments: Collection[str] = (),
) -> Selection[R]:
    """Select the records of one column, all of one recipe.

    Args:
        recipe: The flat science fields of ``Recipe.fields``.
        runs: For each row the fields that override the recipe, or None for a row without runs.
        scale: ``paper`` for measured values, otherwise a label of ``proxy_scales``. A scale alone means its own recipe,
            preferably on the paper's data; ``custom`` means the recipe nearest the paper's.
        experiments: The experiments of the column, which may have their own budgets at a scale.
    """
    notes: list[str] = []
    groups: list[list[R]] = []
    labels = [_labels(records, recipe, run, experiments) if run else {} for run in runs]
    matching = [[r for r in records if r.run_id in named] for named in labels]
    there = {name for named in labels for name in named.values()}
    asked, scale = scale, _label_for(scale, there)
    for named, candidates in zip(labels, matching, strict=True):
        group = [r for r in candidates if named[r.run_id] == scale]
        if scale == "paper" and (dirty := [r for r in group if r.provenance.dirty]):
            # A measured value must be repeatable; a proxy claims less.
            notes.append(f"not counted, made from a tree with uncommitted changes: {run_ids(dirty)}")
            group = [r for r in group if not r.provenance.dirty]
        newest = max((r.numerics_version for r in group), default=0)
        groups.append([r for r in group if r.numerics_version == newest])
        if older := [r for r in group if r.numerics_version != newest]:
            versions = ", ".join(sorted({str(r.numerics_version) for r in older}))
            notes.append(f"not averaged in, numerics version {versions} instead of {newest}: {run_ids(older)}")
    chosen = tuple(tuple(sorted(group, key=lambda r: r.seed)) for group in groups)
    first = next(((group[0], run) for group, run in zip(chosen, runs, strict=True) if group and run), None)
    apart = []
    others = there - {scale, "paper"} if asked != "paper" else set()
    for name in sorted(name for name in others if scale_of(name) == scale_of(scale)):
        ids = dict.fromkeys(run_id for named in labels for run_id, found in named.items() if found == name)
        apart.append(f"not averaged in, of another recipe ({name}): {', '.join(ids)}")
    departed = departures(first[0], recipe, first[1]) if first else {}
    return Selection(scale, chosen, departed, tuple(notes), tuple(apart))


def _labels(
    records: Sequence[AnyRecord], recipe: Mapping[str, Any], run: Mapping[str, Any], experiments: Collection[str]
) -> dict[str, str]:
    """Return the labels of the runs of a net by their ids, without those of another paper's recipe."""
    alike = [r for r in records if kind_of(recipe) == r.science.kind]
    labels = {r.run_id: scale_label(r, recipe, run, experiments) for r in alike if _matches(r, run)}
    return {
        r.run_id: labels[r.run_id]
        for r in records
        if r.run_id in labels and not of_another_paper(r, labels[r.run_id], recipe)
    }


def of_another_paper(record: AnyRecord, name: str, recipe: Mapping[str, Any]) -> bool:
    """Tell whether a run that departs from ``recipe``, as its label ``name`` says, is nearer to another recipe.

    Such a run, as one of Stochastic Depth's ResNet-110, is no proxy of the first paper's; nor is a detector that was
    trained and scored as on COCO one of PASCAL VOC.
    """
    own = changes(name)
    if not own:
        return False
    recipes = all_recipes()
    others = [place for place, other in enumerate(recipes) if other.fields != recipe]
    others = [place for place in others if kind_of(recipes[place].fields) == kind_of(recipe)]
    return any(_changes_from(place, record.science, record.scale) < own for place in others)


@functools.cache
def _changes_from(place: int, science: Science, scale: str) -> int:
    """Count the settings in which a run differs from the recipe ``all_recipes()[place]`` for its own net."""
    recipe, fields = all_recipes()[place].fields, compared(science)
    net = {key: fields[key] for key in ("model.depth", "model.shortcut", *OTHER_NETS)}
    net |= {key: fields[key] for key in TESTS if key in fields}
    return changes(label(science, scale, recipe, net)) if _departures(science, recipe, net) else 0


def changes(name: str) -> int:
    """Count the settings in a label that make another recipe; the images and an experiment's budget make none."""
    _, *words = name.split(", ")
    return sum(not word.startswith(("exp=", *OTHER_DATA)) for word in words)


OTHER_DATA = ("data=", "data.partial=", "data.skip_corrupt=", "data.decoder=")
"""Settings that name the available images, not the training."""


def _label_for(scale: str, there: Collection[str]) -> str:
    """Choose the existing label that ``scale`` means."""
    if scale in there or scale == "paper":
        return scale
    near = [name for name in there if scale_of(name) == scale]
    if scale != "custom":
        near = [name for name in near if all(word.startswith(OTHER_DATA) for word in name.split(", ")[1:])]
    return min(near, key=lambda name: (name.count(", "), name), default=scale)


def summarize(
    records: Sequence[AnyRecord], metric: str = "top1_error", protocol: str = "paper", view: str = ""
) -> Summary | None:
    """Summarize ``metric`` over the seeds ``records`` that have it under ``protocol``; return None if none has.

    Args:
        view: The test on several views to read instead, if all records have it (section 3.4).
    """
    require(protocol in PROTOCOLS, f"protocol={protocol} is unknown: {nearest(protocol, PROTOCOLS)}")
    detectors = [record for record in records if isinstance(record, DetectionRecord)]
    if detectors:
        return _summary(records, [record.value(metric) for record in detectors], max)
    localizers = [record for record in records if isinstance(record, LocalizationRecord)]
    if localizers:
        return _summary(records, [record.value(metric, view) for record in localizers], min)
    nets = [record for record in records if isinstance(record, Record)]
    views = [view_of(record, view) for record in nets]
    read = views if None not in views else [getattr(record.result, PROTOCOLS[protocol]) for record in nets]
    return _summary(records, [getattr(result, metric) for result in read], min)


def _summary(
    records: Sequence[AnyRecord], values: Sequence[float | None], best: Callable[[Sequence[float]], float]
) -> Summary | None:
    found = {record.run_id: value for record, value in zip(records, values, strict=True) if value is not None}
    if not found:
        return None
    known, ids = [*found.values()], tuple(found)
    std = statistics.stdev(known) if len(known) > 1 else None
    return Summary(len(known), statistics.fmean(known), std, best(known), statistics.median(known), ids)


def view_of(record: AnyRecord, view: str) -> ViewResult | None:
    """Return the final net's result on ``view`` (``10crop``, ``multiscale``), or None if it was not tested."""
    views = record.result.views if isinstance(record, Record) else ()
    return next((result for result in views if result.view == view), None)


def run_ids(records: Iterable[AnyRecord]) -> str:
    return ", ".join(record.run_id for record in records)


OTHER_NETS = {f"model.{name}": later_defaults()[f"model.{name}"] for name in NET_FIELDS}
APART: Mapping[str, Any] = {"model.constructed_from": None, "eval.gradient_flow": False, **OTHER_NETS}
"""Defaults that a run must have at any scale, unless a row or curve asks for other values."""


TESTS: Mapping[str, Any] = {
    "detection.context": False,
    "detection.scales": [],
    "detection.refine": False,
    "detection.members": [],
    "localization.members": [],
    "localization.method": "rpn",
}
"""Improvements of detectors (Table 9) and localizers (Table 13), which only runs of rows that ask for them have."""


def net_of(record: AnyRecord) -> dict[str, Any]:
    """Return the fields that name the net of ``record``, as in a row's ``run``."""
    fields = record.science.flat()
    names = ["model.name", "model.depth", "model.shortcut"]
    return {name: fields[name] for name in names} | {k: fields[k] for k in OTHER_NETS if fields[k] != OTHER_NETS[k]}


def improvements_of(record: AnyRecord) -> dict[str, Any]:
    """Return the improvements of a detector or a localizer, as in a row's ``run``; empty for classification."""
    fields = compared(record.science)
    return {key: fields[key] for key in TESTS if key in fields}


def _matches(record: AnyRecord, run: Mapping[str, Any]) -> bool:
    if record.science.model.is_own and "model.name" not in run:
        return False  # an own net has its own row
    fields = compared(record.science)
    usual = {**APART, **{key: value for key, value in TESTS.items() if key in fields}}
    return all(key in fields and fields[key] == value for key, value in {**usual, **run}.items())
