"""The record of a finished run of a localizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.parse import Open, build, plain, require
from repro.config.science import Science
from repro.errors import InputError
from repro.results.read import LeftOut, is_localizer, read_values
from repro.results.record import RECORD, SCHEMA, Provenance, check_identity


@dataclass(frozen=True, kw_only=True)
class ViewError(Open):
    """Errors of a localizer on one view of the test images, ``1crop`` or ``dense``, in images and in percent.

    ``errors`` are images whose box of the given class is wrong; ``top5_errors`` those of which none of the five
    likeliest classes is right with a right box, where a classification run predicts them.
    """

    view: str
    errors: int
    error: float
    top5_errors: int | None = None
    top5_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class LocalizationResult(Open):
    """The test of a localizer on ``images`` with boxes; ``left_out`` images have none and are not counted.

    ``class_errors`` are images whose class is not among the five likeliest.
    """

    split: str
    images: int
    left_out: int
    views: tuple[ViewError, ...]
    class_errors: int | None = None


@dataclass(frozen=True, kw_only=True)
class LocalizationRecord(Open):
    """A finished run of a localizer; ``folder`` holds its ``record.json``, ``losses.csv`` and ``boxes.json``."""

    run_id: str
    key: str
    label: str
    exp: str
    scale: str
    seed: int
    fingerprint: str
    numerics_version: int
    science: Science
    localization: LocalizationResult
    steps: int
    params: int
    macs: int
    wall_seconds: float
    images_per_second: float
    execution: Mapping[str, Any]
    provenance: Provenance
    folder: Path

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> LocalizationRecord:
        """Build and check the record in ``folder``; raise an ``InputError`` if it is invalid."""
        record: LocalizationRecord = build(cls, {**values, "folder": folder})
        record.check()
        return record

    def to_json(self) -> dict[str, Any]:
        """Return the values of the file."""
        values = {"schema": SCHEMA, **plain(self)}
        del values["folder"]
        return values

    def check(self) -> None:
        """Raise an ``InputError`` if parts of the record contradict each other."""
        check_identity(self)
        require(self.science.localization is not None, "its configuration has no settings of a localizer")
        images = self.localization.images
        require(images > 0, f"localization.images={images} must be above 0")
        for view in self.localization.views:
            for count, share in ((view.errors, view.error), (view.top5_errors, view.top5_error)):
                if count is not None and share is not None:
                    fits = 0 <= count <= images and math.isclose(share, 100 * count / images, abs_tol=1e-9)
                    require(fits, f"{count} errors of {images} images on {view.view} are not {share} %")


def read_localization_record(file: Path) -> LocalizationRecord:
    """Read and check the record of a localizer.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    return LocalizationRecord.from_json(read_values(file, SCHEMA), file.parent)


def read_localization_records(roots: Iterable[Path]) -> tuple[list[LocalizationRecord], list[LeftOut]]:
    """Read the records of all localizers under ``roots``, by run id, and list the invalid ones."""
    records: dict[str, LocalizationRecord] = {}
    left_out: list[LeftOut] = []
    for file in (file for root in roots for file in sorted(root.glob(f"*/{RECORD}"))):
        try:
            if is_localizer(file):
                record = read_localization_record(file)
                records.setdefault(record.run_id, record)
        except InputError as error:
            left_out.append(LeftOut(file.parent.name, str(error), file.parent))
    return [records[run_id] for run_id in sorted(records)], left_out
