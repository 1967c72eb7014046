"""Reading of records and curves of finished runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.config.parse import require
from repro.errors import InputError
from repro.results.detection_record import DetectionRecord
from repro.results.localization_record import LocalizationRecord
from repro.results.record import Record
from repro.results.stored import DETECTION, LOCALIZATION, RECORD, SCHEMA, read_values
from repro.runtime.provenance import CURVE_COLUMNS

if TYPE_CHECKING:
    import pandas

__all__ = ["LeftOut", "Reading", "Record", "read_curve", "read_record", "read_records", "read_values"]

CURVE = Record.curve_file

AnyRecord = Record | DetectionRecord | LocalizationRecord
KINDS: dict[str, type[AnyRecord]] = {DETECTION: DetectionRecord, LOCALIZATION: LocalizationRecord}
"""Classes of the records that have a key of their own."""


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not counted, and the reason."""

    name: str
    reason: str
    folder: Path = Path()


@dataclass(frozen=True)
class Reading:
    """All valid records, of classification, of ``detectors`` and of ``localizers``, and the invalid ones."""

    records: tuple[Record, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    detectors: tuple[DetectionRecord, ...] = ()
    localizers: tuple[LocalizationRecord, ...] = ()


def read_records(roots: Iterable[Path]) -> Reading:
    """Read ``<root>/<run_id>/record.json`` under every root; a run in two roots counts once.

    A folder without a record is an unfinished run, and a root may be missing.
    """
    found: dict[str, AnyRecord] = {}
    left_out: list[LeftOut] = []
    for file in (file for root in roots for file in sorted(root.glob(f"*/{RECORD}"))):
        name = f"{file.parent.parent.name}/{file.parent.name}"
        try:
            record = read_any(file)
        except InputError as error:
            left_out.append(LeftOut(name, str(error), file.parent))
            continue
        first = found.setdefault(record.run_id, record)
        if first.outcome != record.outcome:
            reason = f"its result differs from the one of {first.folder.parent.name}/{first.run_id}, which counts"
            left_out.append(LeftOut(name, reason, file.parent))
    every = [found[run_id] for run_id in sorted(found)]
    return Reading(
        tuple(record for record in every if isinstance(record, Record)),
        tuple(left_out),
        tuple(record for record in every if isinstance(record, DetectionRecord)),
        tuple(record for record in every if isinstance(record, LocalizationRecord)),
    )


def read_any(file: Path) -> AnyRecord:
    """Read and check the record of any run.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    return _built(read_values(file, SCHEMA), file.parent)


def record_from(values: Any, folder: Path) -> AnyRecord:
    """Check the record of any run, given as the values of its file, that is or was in ``folder``.

    Raises:
        InputError: It is invalid.
    """
    require(isinstance(values, dict), "it is not a JSON object")
    require(values.get("schema") == SCHEMA, f"schema={values.get('schema')!r} must be {SCHEMA}")
    return _built({key: value for key, value in values.items() if key != "schema"}, folder)


def _built(values: dict[str, Any], folder: Path) -> AnyRecord:
    kind = next((kind for key, kind in KINDS.items() if key in values), Record)
    return kind.from_json(values, folder)


def read_record(file: Path) -> Record:
    """Read and check the record of a run of classification.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    values = read_values(file, SCHEMA)
    require(DETECTION not in values, "it is the record of a detector, which has no classification errors")
    require(LOCALIZATION not in values, "it is the record of a localizer, which has no classification errors")
    return Record.from_json(values, file.parent)


def check_curve(record: AnyRecord) -> None:
    """Raise an ``InputError`` if the curve of a run is missing, or does not fit its record."""
    if isinstance(record, Record):
        read_curve(record)
        return
    name = record.curve_file
    try:
        rows = list(csv.DictReader((record.folder / name).read_text(encoding="utf-8").splitlines()))
        updates = [int(row["update"]) for row in rows]
    except OSError:
        raise InputError(f"it has no {name}") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise InputError(f"{name} must have a whole number in the column update of each row") from None
    require(len(updates) > 0, f"{name} has no rows")
    require(all(one < other for one, other in pairwise(updates)), f"the updates of {name} do not increase")
    require(updates[-1] == record.steps, f"{name} ends at update {updates[-1]} instead of {record.steps}")


def read_curve(record: Record) -> pandas.DataFrame:
    """Read the curve of a run: one row per evaluation, ``CURVE_COLUMNS``, errors in percent, NaN for an empty cell.

    Raises:
        InputError: The curve is missing, or does not fit the record.
    """
    import pandas

    try:
        curve = pandas.read_csv(record.folder / CURVE)
    except OSError:
        raise InputError(f"it has no {CURVE}") from None
    except ValueError as error:
        raise InputError(f"{CURVE} cannot be read: {error}") from None
    require(tuple(curve.columns) == CURVE_COLUMNS, f"{CURVE} must have the columns {','.join(CURVE_COLUMNS)}")
    require(len(curve) > 0, f"{CURVE} has no rows")
    numeric = all(pandas.api.types.is_numeric_dtype(kind) for kind in curve.dtypes)
    require(numeric, f"{CURVE} has a cell that is not a number")
    steps = curve["step"]
    require(steps.is_monotonic_increasing and steps.is_unique, f"the steps of {CURVE} do not increase")
    require(steps.iloc[-1] == record.steps, f"{CURVE} ends at step {steps.iloc[-1]} instead of {record.steps}")
    for name in ("train_error", "eval_error"):
        require(bool(curve[name].dropna().between(0, 100).all()), f"{CURVE} has a {name} that is not from 0 to 100")
    return curve
