"""Measurements of a finished net, in files beside its record."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from repro.config.parse import build, plain, require
from repro.errors import InputError, RunError
from repro.results.publish import copy_files
from repro.results.read import read_values
from repro.results.record import Record
from repro.results.stored import RECORD
from repro.runtime.files import make_folder
from repro.runtime.provenance import write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A measurement of a run's final net on images of ``split``; ``weights`` is the digest of the net."""

    run_id: str
    fingerprint: str
    weights: str
    split: str
    commit: str
    finished: str


M = TypeVar("M", bound=Measured)


@dataclass(frozen=True)
class Beside(Generic[M]):
    """Files of one kind of measurement, made by ``command``, each in the folder of its run.

    ``check`` raises ``InputError`` for values that do not fit together.
    """

    file: str
    schema: int
    kind: type[M]
    command: str
    check: Callable[[M], None]

    def is_there(self, record: Record) -> bool:
        """Return whether a run's net was measured."""
        return (record.folder / self.file).is_file()

    def read(self, record: Record) -> M:
        """Read the measurement of a run's net.

        Raises:
            InputError: There is none, or the file is invalid or of another net.
        """
        require(self.is_there(record), f"it has no {self.file} ({self.command})")
        found = self.read_file(record.folder / self.file)
        of_run = found.fingerprint == record.fingerprint
        require(of_run, f"{self.file} is of the run with fingerprint {found.fingerprint}")
        return found

    def read_file(self, path: Path) -> M:
        """Read and check a file.

        Raises:
            InputError: The file cannot be read, or is invalid.
        """
        found: M = build(self.kind, read_values(path, self.schema))
        require(found.run_id == path.parent.name, f"{self.file} is of {found.run_id}, not of {path.parent.name}")
        self.check(found)
        return found

    def store(self, folder: Path, measured: M) -> None:
        """Write a measurement into the folder of its run."""
        path = folder / self.file
        make_folder(folder, RunError)
        write_json(path, {"schema": self.schema, **plain(measured)})
        log.info(f"wrote {path}")

    def plan(self, work: Path, results: Path, run_ids: Collection[str], *, replace: bool = False) -> list[str]:
        """Find the measured runs in the work folder that are published, or are in ``run_ids``.

        Raises:
            InputError: A file is invalid, or another one is published and ``replace`` is False.
        """
        new = []
        for path in sorted(work.glob(f"*/{self.file}")):
            run_id = path.parent.name
            published = results / "runs" / run_id
            if run_id not in run_ids and not (published / RECORD).is_file():
                continue
            try:
                found = self.read_file(path)
            except InputError as error:
                raise InputError(f"{path} cannot be published: {error}") from None
            there = published / self.file
            if there.is_file():
                if self._is_same(found, there):
                    continue
                require(replace, f"{there} is not {path}; `repro publish --replace` overwrites it")
            new.append(run_id)
        return new

    def publish(self, run_ids: Collection[str], work: Path, results: Path) -> list[Path]:
        """Copy the files of runs beside their published records; return the copies."""
        return [copy_files(work / name, results / "runs" / name, [self.file]) / self.file for name in run_ids]

    def _is_same(self, measured: M, published: Path) -> bool:
        try:
            other = self.read_file(published)
        except InputError:
            return False
        return dataclasses.replace(measured, commit=other.commit, finished=other.finished) == other
