"""Finished runs by name, or by the beginning of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repro.errors import InputError, nearest
from repro.results.read import read_record
from repro.results.record import RECORD, Record
from repro.results.settings import differing


def find_record(name: str, roots: Sequence[Path]) -> Record:
    """Read the record of a run; the first of ``roots`` that has it counts.

    Args:
        name: A run id, or the beginning of one, up to a dash: ``cifar10-resnet20-s0``. Of several runs that begin so
            the one of its scale's own recipe is meant.

    Raises:
        InputError: There is no such run, or several, or its record is invalid.
    """
    found = {file.parent.name: file for root in reversed(roots) for file in root.glob(f"*/{RECORD}")}
    alike = [name] if name in found else sorted(run_id for run_id in found if run_id.startswith(f"{name}-"))
    if len(alike) > 1:
        usual = [run_id for run_id in alike if not is_other(_read(found[run_id]))]
        alike = usual if len(usual) == 1 else alike
    if len(alike) > 1:
        raise InputError(f"{name!r} begins the names of {len(alike)} runs: {', '.join(alike)}")
    if not alike:
        known = nearest(name, found) if found else "there is none"
        raise InputError(f"{name!r} is not a finished run of {' or '.join(map(str, roots))}: {known}")
    return _read(found[alike[0]])


def is_other(record: Record) -> bool:
    """Tell whether a run departs from the recipe of its scale."""
    return bool(differing(record.science, record.scale, record.exp))


def _read(file: Path) -> Record:
    try:
        return read_record(file)
    except InputError as error:
        raise InputError(f"the record {file} is invalid: {error}") from None
