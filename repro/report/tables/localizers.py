"""Rows of localizers, whose classes are given or predicted by other nets, and of detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from repro.papers import PaperRow
from repro.results.read import AnyRecord
from repro.results.scales import known_classes
from repro.results.select import Selection, run_ids

SETTINGS = {"1crop": "1 crop", "dense": "dense, several scales"}
"""Descriptions of the views of localizers."""


def views_of(record: AnyRecord) -> tuple[Any, ...]:
    """Return the views of a localizer's test, each of which has a row; other runs have one row."""
    if record.science.localization is None:
        return ("",)
    return ("1crop", "dense") if record.science.localization.method == "rpn" else ("dense",)


def counted(selection: Selection[AnyRecord], rows: Sequence[PaperRow]) -> Selection[AnyRecord]:
    """Keep the localizers whose classes are predicted as each row says; of them and of detectors one of each seed.

    Two runs of a seed that differ in the nets that predict their classes are one localizer, trained twice. Detectors of
    one seed can start from different files of the same net.
    """
    notes: dict[str, None] = {}
    groups = []
    for group, row in zip(selection.groups, rows, strict=True):
        right = [record for record in group if _is_predicted_as(row, record)]
        wrong = [record for record in group if record not in right and not _without_classes(record)]
        if wrong:
            wanted = " and ".join(row.classes_of)
            notes[f"not counted with predicted classes, which are not those of {wanted}: {run_ids(wrong)}"] = None
        kept = _one_of_each_seed(right)
        if again := [record for record in right if record not in kept]:
            notes[f"not counted, as another run of the same seed is: {run_ids(again)}"] = None
        groups.append(tuple(kept))
    return replace(selection, groups=tuple(groups), notes=(*selection.notes, *notes))


def _is_predicted_as(row: PaperRow, record: AnyRecord) -> bool:
    """Tell whether a run is counted in a row that may name the nets that predict classes."""
    own = record.science.localization
    if own is None or not row.classes_of:
        return True
    if not own.classes_of:
        return row.own  # it has the error with the class given
    known = known_classes(record.science)
    # The label of a column names nets that are not the paper's.
    return not known or known == tuple(sorted(row.classes_of))


def _one_of_each_seed(group: Sequence[AnyRecord]) -> list[AnyRecord]:
    """Keep one run of each seed, of localizers one with predicted classes if there is one."""
    seeds: dict[int, AnyRecord] = {}
    for record in sorted(group, key=_without_classes):
        seeds.setdefault(record.seed, record)
    return [record for record in group if seeds[record.seed] is record]


def _without_classes(record: AnyRecord) -> bool:
    """Tell whether a run predicts no classes."""
    return record.science.localization is None or not record.science.localization.classes_of


def apart_by_classes(rows: Sequence[PaperRow]) -> list[PaperRow]:
    """Join the rows of a net with one kind of predicted classes, and name the kinds of one with several."""
    found: list[PaperRow] = []
    for row in rows:
        alike = [replace(one, classes_of=()) == replace(row, classes_of=()) for one in rows]
        kinds = [one.classes_of for one, is_alike in zip(rows, alike, strict=True) if is_alike and one.classes_of]
        if len(kinds) < 2:
            joined = replace(row, classes_of=())
            found += [] if joined in found else [joined]
        elif row.classes_of:
            setting = f"{row.setting}, class predicted by {' and '.join(row.classes_of)}"
            found.append(replace(row, setting=setting))
    return found
