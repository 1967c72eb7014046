"""Finished runs beside their published records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from repro.errors import InputError
from repro.results.read import read_record
from repro.results.record import RECORD, Record

CURVE = "curve.csv"


def is_same(one: Record, other: Record) -> bool:
    """Tell whether two records of a run have the same results and curves, to the bit.

    Time, machine and provenance may differ, and so may the experiment that a run was made for: it is a label.
    """
    apart = {name: getattr(other, name) for name in ("exp", "folder", "provenance", "execution")}
    apart |= {name: getattr(other, name) for name in ("wall_seconds", "images_per_second")}
    curve = curve_text(one)
    return dataclasses.replace(one, **apart) == other and curve is not None and curve == curve_text(other)


def curve_text(record: Record) -> str | None:
    """Read the lines of a run's curve, whatever ends them; None where there are none."""
    try:
        return (record.folder / CURVE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def beside_published(records: Sequence[Record], published: Path) -> str:
    """Say which of ``records`` are published too, and whether they equal those to the bit; empty where none is."""
    equal, lines = 0, []
    for record in records:
        file = published / record.run_id / RECORD
        if not file.is_file() or file.parent.resolve() == record.folder.resolve():
            continue
        try:
            other = read_record(file)
        except InputError as error:
            lines.append(f"the published record of {record.run_id} is invalid: {error}")
            continue
        if is_same(record, other):
            equal += 1
        else:
            lines.append(
                f"{record.run_id} differs from the published run: this one on {machine(record)}, that one on "
                f"{machine(other)}; another machine, number of threads or version of torch rounds otherwise"
            )
    if equal:
        runs = "1 run equals its published record" if equal == 1 else f"{equal} runs equal their published records"
        lines.insert(0, f"{runs} to the bit")
    return "\n".join(lines)


def machine(record: Record) -> str:
    """Name all devices that a run was trained on."""
    count = record.carried.world_size
    return record.machine if count == 1 else f"{count} x {record.machine}"
