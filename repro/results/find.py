"""Finished runs, found by name or prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from repro.errors import InputError, nearest
from repro.results.detection_record import DetectionRecord
from repro.results.read import AnyRecord, read_any
from repro.results.record import Record
from repro.results.settings import differing
from repro.results.stored import RECORD


def find_record(name: str, roots: Sequence[Path]) -> Record:
    """Read the record of a run of classification from the first of ``roots`` that has it (``find_file``).

    Raises:
        InputError: No run or several runs match, the record is invalid, or the run is of another task.
    """
    found = find_any(name, roots)
    if not isinstance(found, Record):
        raise InputError(f"{found.run_id} is not a run of classification: `repro show {found.run_id}` describes it")
    return found


def find_file(name: str, roots: Sequence[Path]) -> Path:
    """Find the record of a run in the first of ``roots`` that has it.

    Args:
        name: A run id, or its beginning up to a dash: ``cifar10-resnet20-s0``. If several runs match, it means the one
            of its scale's own recipe.

    Raises:
        InputError: No run or several runs match, or the record is invalid.
    """
    found = {file.parent.name: file for root in reversed(roots) for file in root.glob(f"*/{RECORD}")}
    alike = [name] if name in found else sorted(run_id for run_id in found if run_id.startswith(f"{name}-"))
    if len(alike) > 1:
        usual = [run_id for run_id in alike if not is_other(_read_any(found[run_id]))]
        alike = usual if len(usual) == 1 else alike
    if len(alike) > 1:
        raise InputError(f"{name!r} matches {len(alike)} runs, name one of them: {', '.join(alike)}")
    if not alike:
        known = f"{nearest(name, found)} (`repro export` lists all)" if found else "there is none"
        raise InputError(f"{name!r} is not a finished run of {' or '.join(map(str, roots))}: {known}")
    return found[alike[0]]


def find_detector(name: str, roots: Sequence[Path]) -> DetectionRecord:
    """Read the record of a detector, found as ``find_file`` finds it.

    Raises:
        InputError: No run or several runs match, the record is invalid, or the run is of classification.
    """
    found = _read_any(find_file(name, roots))
    if not isinstance(found, DetectionRecord):
        raise InputError(
            f"{found.run_id} is not a detector: name a run of exp=voc_detection or exp=coco_detection; `repro predict` "
            "shows the classes that this net sees"
        )
    return found


def find_any(name: str, roots: Sequence[Path]) -> AnyRecord:
    """Read the record of a run of any task, found as ``find_file`` finds it."""
    return _read_any(find_file(name, roots))


def is_other(record: AnyRecord) -> bool:
    """Return whether a run departs from the recipe of its scale."""
    return bool(differing(record.science, record.scale, record.exp))


def _read_any(file: Path) -> AnyRecord:
    with _named(file):
        return read_any(file)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"the record {file} is invalid: {error}") from None
