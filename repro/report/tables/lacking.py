"""Reasons why a record by the recipe of a table does not count as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.papers import PaperTable
from repro.results.detection_record import DetectionRecord
from repro.results.localization_record import PROPOSALS_OF, LocalizationRecord
from repro.results.read import AnyRecord
from repro.results.select import departures, improvements_of, net_of, view_of


def lacking_of(record: AnyRecord, paper: PaperTable, recipe: Mapping[str, Any], every: Sequence[AnyRecord]) -> str:
    """Return why a record of the recipe was not tested as the table requires; empty if it was.

    Args:
        every: All records of the task, with those of an ensemble's further nets and of localizers that propose.
    """
    filled = [row for row in paper.rows if row.run is not None and not departures(record, recipe, row.run)]
    if not filled:
        return ""
    known = {one.run_id: one for one in every}
    reason = _lacking_member(record, known, recipe, filled[0].run or {}) or _lacking_proposer(record, known, recipe)
    if reason:
        return reason
    if isinstance(record, DetectionRecord):
        images = record.detection.images
    elif isinstance(record, LocalizationRecord):
        images = record.localization.images
    else:
        views = [*dict.fromkeys(map(paper.view_of, filled))]
        tested = [view_of(record, view) if view else record.result.reported for view in views]
        if None in tested:
            return f"it has no test {views[tested.index(None)]}"
        images = min(counted.images for counted in tested if counted is not None)
    all_images = filled[0].eval_images or paper.eval_images or 0
    return "" if images == all_images else f"it was tested on {images:,} images instead of all {all_images:,}"


def _lacking_member(
    record: AnyRecord, known: Mapping[str, AnyRecord], recipe: Mapping[str, Any], run: Mapping[str, Any]
) -> str:
    """Return why a further net of an ensemble does not count, as its id does not tell its training."""
    settings = record.science.detection or record.science.localization
    for name in settings.members if settings else ():
        member = known.get(name)
        kept = ("detection.context", "localization.method")
        own = {key: value for key, value in improvements_of(member).items() if key not in kept} if member else {}
        own |= net_of(member) if member else {}
        reason = _departing(f"{name}, a net of its ensemble,", member, recipe, {**run, **own})
        if not reason and member:
            reason = _lacking_proposer(member, known, recipe)
        if reason:
            return reason
    return ""


def _lacking_proposer(record: AnyRecord, known: Mapping[str, AnyRecord], recipe: Mapping[str, Any]) -> str:
    """Return why the localizer whose proposals an R-CNN takes does not count, as its id does not tell its code."""
    own = record.science.localization
    if own is None or own.method == "rpn":
        return ""
    digests = record.provenance.data_digests or {}
    names = [key.removeprefix(PROPOSALS_OF) for key in digests if key.startswith(PROPOSALS_OF)]
    if not names:
        return f"the record of {record.run_id} does not name the localizer whose proposals it takes"
    run = {**net_of(record), "localization.method": "rpn", "localization.members": []}
    reasons = (
        _departing(f"{name}, whose proposals {record.run_id} takes,", known.get(name), recipe, run) for name in names
    )
    return next(filter(None, reasons), "")


def _departing(what: str, record: AnyRecord | None, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Return why ``what``, the run of ``record``, is not by the recipe with ``run`` on top, from a clean tree."""
    if record is None:
        return f"{what} is not among the records"
    if found := departures(record, recipe, run):
        return f"{what} departs from the recipe in {', '.join(sorted(found))}"
    return f"{what} was made from a tree with uncommitted changes" if record.provenance.dirty else ""
