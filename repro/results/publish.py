"""Finished runs copied to the committed results."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from repro.errors import InputError, RunError, nearest
from repro.results.compare import CURVE, is_same
from repro.results.read import read_curve, read_record
from repro.results.record import RECORD, Record
from repro.runtime.files import replacing

FILES = (CURVE, RECORD)
"""The record last: a folder that has one is complete."""


@dataclass(frozen=True)
class Publication:
    """The runs of a command: ``new`` ones are copied, ``equal`` ones are published already, to the bit."""

    new: tuple[Record, ...]
    equal: tuple[Record, ...]

    @property
    def run_ids(self) -> list[str]:
        return [record.run_id for record in (*self.new, *self.equal)]


def plan_publication(run_ids: list[str], work: Path, results: Path, *, replace: bool = False) -> Publication:
    """Read and check the runs (all finished ones where none is named), and compare them with the published ones.

    Raises:
        InputError: A run is unknown or not finished, its record or curve is invalid, or it is published with another
            result and ``replace`` does not allow to overwrite that.
    """
    finished = {path.parent.name: path.parent for path in sorted(work.glob(f"*/{RECORD}"))}
    for run_id in run_ids:
        if run_id not in finished:
            raise InputError(f"{run_id!r} is not a finished run in {work}: {nearest(run_id, finished)}")
    if not finished:
        raise InputError(f"there is no finished run in {work} to publish")
    chosen = list(dict.fromkeys(run_ids)) or list(finished)
    records, invalid = _read([finished[run_id] for run_id in chosen])
    if invalid:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in invalid.items())
        raise InputError(f"nothing is published, since no command would accept {reasons}{_rest(chosen, invalid)}")
    equal = [record for record in records if _is_published(record, results)]
    new = [record for record in records if record not in equal]
    runs = results / "runs"
    if other := [r.run_id for r in new if (runs / r.run_id / RECORD).exists() and not replace]:
        pairs = ", ".join(f"{runs / run_id} is not {work / run_id}" for run_id in other)
        raise InputError(
            f"published with another result: {pairs}; `repro publish --replace` overwrites what is published"
            f"{_rest(chosen, other)}"
        )
    return Publication(tuple(new), tuple(equal))


def publish(planned: Publication, results: Path) -> list[Path]:
    """Copy record and curve of the new runs to ``results/runs``; return their folders.

    Raises:
        RunError: They cannot be written.
    """
    runs = results / "runs"
    return [copy_files(record.folder, runs / record.run_id, FILES) for record in planned.new]


def copy_files(source: Path, target: Path, names: Iterable[str]) -> Path:
    """Copy files into the folder ``target``, each as a whole or not at all; return the folder.

    Raises:
        RunError: They cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            with replacing(target / name) as file:
                file.write((source / name).read_bytes())
    except OSError as error:
        raise RunError(f"{target} cannot be written ({error.strerror})") from error
    return target


def _read(folders: list[Path]) -> tuple[list[Record], dict[str, str]]:
    """Read the runs as every command does that reads results, and why some of them are invalid."""
    records, invalid = [], {}
    for folder in folders:
        try:
            record = read_record(folder / RECORD)
            read_curve(record)
        except InputError as error:
            invalid[folder.name] = str(error)
        else:
            records.append(record)
    return records, invalid


def _is_published(record: Record, results: Path) -> bool:
    """Tell whether a run is published as it is, to the bit."""
    file = results / "runs" / record.run_id / RECORD
    try:
        return file.is_file() and is_same(record, read_record(file))
    except InputError:
        return False


def _rest(chosen: list[str], without: Container[str]) -> str:
    """Name the command that publishes the other runs, as the end of a sentence."""
    rest = " ".join(run_id for run_id in chosen if run_id not in without)
    return f"; `repro publish {rest}` leaves them out" if rest else ""
