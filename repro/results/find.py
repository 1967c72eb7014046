"""Finished runs, found by name or prefix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repro.errors import InputError, nearest
from repro.results.read import read_record
from repro.results.record import RECORD, Record
from repro.results.settings import differing


def find_record(name: str, roots: Sequence[Path]) -> Record:
    """Read the record of a run from the first of ``roots`` that has it.

    Args:
        name: A run id, or its beginning up to a dash: ``cifar10-resnet20-s0``. If several runs match, it means the one
            of its scale's own recipe.

    Raises:
        InputError: No run or several runs match, or the record is invalid.
    """
    found = {file.parent.name: file for root in reversed(roots) for file in root.glob(f"*/{RECORD}")}
    alike = [name] if name in found else sorted(run_id for run_id in found if run_id.startswith(f"{name}-"))
    if len(alike) > 1:
        usual = [run_id for run_id in alike if not is_other(_read(found[run_id]))]
        alike = usual if len(usual) == 1 else alike
    if len(alike) > 1:
        raise InputError(f"{name!r} matches {len(alike)} runs, name one of them: {', '.join(alike)}")
    if not alike:
        known = f"{nearest(name, found)} (`repro export` lists all)" if found else "there is none"
        raise InputError(f"{name!r} is not a finished run of {' or '.join(map(str, roots))}: {known}")
    return _read(found[alike[0]])


def is_other(record: Record) -> bool:
    """Return whether a run departs from the recipe of its scale."""
    return bool(differing(record.science, record.scale, record.exp))


def _read(file: Path) -> Record:
    try:
        return read_record(file)
    except InputError as error:
        raise InputError(f"the record {file} is invalid: {error}") from None
