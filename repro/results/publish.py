"""Publication of finished runs, and comparison with published ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.errors import InputError, RunError, nearest
from repro.results.read import AnyRecord, check_curve, read_any
from repro.results.stored import RECORD
from repro.runtime.files import replacing

APART = ("exp", "folder", "provenance", "execution", "wall_seconds", "images_per_second")
"""Fields of a record that may differ between equal runs: time, machine, provenance, and the label of an experiment."""


@dataclass(frozen=True)
class Publication:
    """The runs to publish: ``new`` ones are copied, ``equal`` ones are already published, to the bit."""

    new: tuple[AnyRecord, ...]
    equal: tuple[AnyRecord, ...]

    @property
    def run_ids(self) -> list[str]:
        return [record.run_id for record in (*self.new, *self.equal)]


def plan_publication(run_ids: list[str], work: Path, results: Path, *, replace: bool = False) -> Publication:
    """Check the runs (all finished ones if none is named) and compare them with the published ones.

    Raises:
        InputError: A run is unknown or not finished, its record or curve is invalid, or it is published with another
            result and ``replace`` is False.
    """
    finished = {path.parent.name: path for path in sorted(work.glob(f"*/{RECORD}"))}
    if not finished:
        raise InputError(f"there is no finished run in {work} to publish")
    for run_id in run_ids:
        if run_id not in finished:
            raise InputError(f"{run_id!r} is not a finished run in {work}: {nearest(run_id, finished)}")
    chosen = list(dict.fromkeys(run_ids)) or list(finished)
    records: list[AnyRecord] = []
    invalid = {}
    for run_id in chosen:
        try:
            record = read_any(finished[run_id])
            check_curve(record)
        except InputError as error:
            invalid[run_id] = f"{run_id}: {error}"
        else:
            records.append(record)
    if invalid:
        reasons = "; ".join(invalid.values())
        raise InputError(f"nothing is published, because a run is invalid: {reasons}{_rest(chosen, invalid)}")
    runs = results / "runs"
    equal = [record for record in records if _is_published(record, runs)]
    new = [record for record in records if record not in equal]
    if other := [r.run_id for r in new if (runs / r.run_id / RECORD).exists() and not replace]:
        pairs = ", ".join(f"{runs / run_id} is not {work / run_id}" for run_id in other)
        raise InputError(
            f"published with another result: {pairs}; `repro publish --replace` overwrites it{_rest(chosen, other)}"
        )
    return Publication(tuple(new), tuple(equal))


def publish(planned: Publication, results: Path) -> list[Path]:
    """Copy record and curve of the new runs to ``results/runs``; return their folders."""
    runs = results / "runs"
    # The record comes last: a folder with a record is complete.
    return [copy_files(r.folder, runs / r.run_id, (r.curve_file, RECORD)) for r in planned.new]


def copy_files(source: Path, target: Path, names: Iterable[str]) -> Path:
    """Copy files into the folder ``target``, each as a whole or not at all; return the folder."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            with replacing(target / name) as file:
                file.write((source / name).read_bytes())
    except OSError as error:
        raise RunError(f"{target} cannot be written ({error.strerror})") from error
    return target


def is_same(one: AnyRecord, other: AnyRecord) -> bool:
    """Return whether two records of a run have the same results and curves, to the bit."""
    curve, apart = _curve_text(one), {name: getattr(other, name) for name in APART}
    return dataclasses.replace(one, **apart) == other and curve is not None and curve == _curve_text(other)


def beside_published(records: Sequence[AnyRecord], runs: Path) -> str:
    """Compare ``records`` with their published records; return an empty text if there are none."""
    equal, lines = 0, []
    for record in records:
        file = runs / record.run_id / RECORD
        if not file.is_file() or file.parent.resolve() == record.folder.resolve():
            continue
        try:
            other = read_any(file)
        except InputError as error:
            lines.append(f"the published record of {record.run_id} is invalid: {error}")
            continue
        if is_same(record, other):
            equal += 1
            continue
        here, there = (f"{r.carried.world_size} x {r.machine}".removeprefix("1 x ") for r in (record, other))
        lines.append(
            f"{record.run_id} differs from the published run: it ran on {here}, the published one on {there}; another "
            "machine, number of threads or version of torch can change the rounding"
        )
    if equal:
        text = "1 run equals its published record" if equal == 1 else f"{equal} runs equal their published records"
        lines.insert(0, f"{text} to the bit")
    return "\n".join(lines)


def _is_published(record: AnyRecord, runs: Path) -> bool:
    """Return whether a run is published with the same result, to the bit."""
    file = runs / record.run_id / RECORD
    try:
        return file.is_file() and is_same(record, read_any(file))
    except InputError:
        return False


def _curve_text(record: AnyRecord) -> str | None:
    """Read a run's curve with any kind of line ends; return None if it has none."""
    try:
        return (record.folder / record.curve_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _rest(chosen: list[str], without: Container[str]) -> str:
    """Return the end of a message that names the command to publish the other runs."""
    rest = " ".join(run_id for run_id in chosen if run_id not in without)
    return f"; `repro publish {rest}` leaves them out" if rest else ""
