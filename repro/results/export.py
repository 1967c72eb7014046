"""All runs as one tidy table for analysis elsewhere: one row a run, or one row a run and evaluation."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from repro.errors import InputError
from repro.results.read import Construction, LeftOut, Provenance, Reading, Record, Result, Science, read_curve
from repro.runtime.files import write_asked_for
from repro.runtime.provenance import CURVE_COLUMNS

if TYPE_CHECKING:
    import pandas

IDENTITY = ("run_id", "key", "label", "exp", "scale", "seed", "fingerprint", "numerics_version")
FINGERPRINT = "fp-"
"""Stands before the digits in a table: programs read some of them as numbers (``12e45678`` is infinite)."""
MEASURED = ("steps", "below_80_step", "params", "macs", "wall_seconds", "images_per_second")
VIEWS = ("10crop", "multiscale")
VIEW_VALUES = ("split", "errors", "images", "top1_error", "top5_errors", "top5_error")
CURVE_IDENTITY = ("run_id", "key", "label", "exp", "scale", "seed", "eval_split")


def run_columns() -> list[str]:
    """The columns of ``runs``, which are the same whatever was run."""
    columns = list(IDENTITY)
    for group, kind in get_type_hints(Science).items():
        columns += [f"{group}.{field.name}" for field in dataclasses.fields(kind)] if group != "seed" else []
    for name, hint in get_type_hints(Result).items():
        columns += [f"{name}.{field.name}" for field in dataclasses.fields(_dataclass(hint))] if name != "views" else []
    columns += [f"{view}.{value}" for view in VIEWS for value in VIEW_VALUES]
    columns += [f"construction.{field.name}" for field in dataclasses.fields(Construction)]
    return [*columns, *MEASURED, *(f"provenance.{field.name}" for field in dataclasses.fields(Provenance))]


def curve_columns() -> list[str]:
    """The columns of ``curves``."""
    return [*CURVE_IDENTITY, *CURVE_COLUMNS]


def runs(reading: Reading) -> pandas.DataFrame:
    """One row a run, ``run_columns()``; empty where a run has no such value, lists as JSON."""
    import pandas

    rows = [{name: _cell(value) for name, value in _values(record).items()} for record in reading.records]
    return pandas.DataFrame(rows, columns=run_columns(), dtype=object)


def curves(reading: Reading) -> tuple[pandas.DataFrame, list[LeftOut]]:
    """One row a run and evaluation, ``curve_columns()``; and the runs whose curve cannot be read."""
    import pandas

    parts, left_out = [], []
    for record in reading.records:
        try:
            curve = read_curve(record)
        except InputError as error:
            left_out.append(LeftOut(record.run_id, str(error)))
            continue
        for name in reversed(CURVE_IDENTITY):
            value = record.science.data.eval_split if name == "eval_split" else getattr(record, name)
            curve.insert(0, name, value)
        parts.append(curve)
    return pandas.concat(parts) if parts else pandas.DataFrame(columns=curve_columns()), left_out


def to_csv(frame: pandas.DataFrame) -> str:
    """The text of a CSV file: a header, a line a row, an empty cell for what is not there."""
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def write(frame: pandas.DataFrame, file: Path) -> None:
    """Writes ``frame`` as CSV.

    Raises:
        InputError: It cannot be written.
    """
    write_asked_for(file, to_csv(frame))


def _values(record: Record) -> Mapping[str, Any]:
    values = {name: getattr(record, name) for name in (*IDENTITY, *MEASURED)}
    values |= record.fields | {"fingerprint": f"{FINGERPRINT}{record.fingerprint}"}
    for name in get_type_hints(Result):
        if name != "views":
            values |= _flat(name, getattr(record.result, name))
    for view in record.result.views:
        values |= {f"{view.view}.{name}": getattr(view, name) for name in VIEW_VALUES}
    return {
        **values,
        **_flat("construction", record.construction),
        **_flat("provenance", record.provenance),
    }


def _flat(prefix: str, part: Any) -> dict[str, Any]:
    return {} if part is None else {f"{prefix}.{name}": value for name, value in _items(part)}


def _items(part: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(part):
        yield field.name, getattr(part, field.name)


def _cell(value: Any) -> Any:
    """Lists as JSON and truth as JSON has it: a tidy table has one plain value a cell."""
    return json.dumps(value) if isinstance(value, list | tuple | bool) else value


def _dataclass(hint: Any) -> Any:
    """The dataclass of ``X`` or ``X | None``."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind))
    return hint
