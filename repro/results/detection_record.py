"""The record of a finished run of a detector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.parse import Open, build, plain, require
from repro.config.science import Science
from repro.errors import InputError
from repro.results.read import LeftOut, is_detector, read_values
from repro.results.record import RECORD, SCHEMA, Provenance, check_identity


@dataclass(frozen=True, kw_only=True)
class ClassPrecision(Open):
    """Average precision of a class in percent; None if the test images have no object of it."""

    name: str
    ap: float | None


@dataclass(frozen=True, kw_only=True)
class DetectionResult(Open):
    """The test of a detector: ``map`` in percent is the mean over the ``classes`` that have an average precision.

    ``coco`` has the twelve numbers of COCO in percent, by name, with ``metric=coco``; then ``map`` is its AP.
    """

    split: str
    images: int
    metric: str
    map: float | None
    classes: tuple[ClassPrecision, ...] = ()
    coco: Mapping[str, float | None] | None = None
    detections: int


@dataclass(frozen=True, kw_only=True)
class DetectionRecord(Open):
    """A finished run of a detector; ``folder`` holds its ``record.json``, ``losses.csv`` and ``detections.json``."""

    run_id: str
    key: str
    label: str
    exp: str
    scale: str
    seed: int
    fingerprint: str
    numerics_version: int
    science: Science
    detection: DetectionResult
    steps: int
    params: int
    macs: int
    wall_seconds: float
    images_per_second: float
    execution: Mapping[str, Any]
    provenance: Provenance
    folder: Path

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> DetectionRecord:
        """Build and check the record in ``folder``; raise an ``InputError`` if it is invalid."""
        record: DetectionRecord = build(cls, {**values, "folder": folder})
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
        settings, result = self.science.detection, self.detection
        assert settings is not None or self.science.detection is None
        require(settings is not None, "its configuration has no settings of a detector")
        metric = "" if settings is None else settings.metric
        require(result.metric == metric, f"detection.metric={result.metric} is not that of its configuration, {metric}")
        require(result.images > 0, f"detection.images={result.images} must be above 0")
        known = [one.ap for one in result.classes if one.ap is not None]
        for value in (*known, *([] if result.map is None else [result.map])):
            require(0 <= value <= 100, f"an average precision of {value} is not from 0 to 100")
        if result.coco is None:
            mean = sum(known) / len(known) if known else None
            is_mean = result.map == mean or (None not in (result.map, mean) and math.isclose(result.map, mean))  # type: ignore[arg-type]
            require(is_mean, f"detection.map={result.map} is not {mean}, the mean of its classes")


def read_detection_record(file: Path) -> DetectionRecord:
    """Read and check the record of a detector.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    return DetectionRecord.from_json(read_values(file, SCHEMA), file.parent)


def read_detection_records(roots: Iterable[Path]) -> tuple[list[DetectionRecord], list[LeftOut]]:
    """Read the records of all detectors under ``roots``, by run id, and list the invalid ones."""
    records: dict[str, DetectionRecord] = {}
    left_out: list[LeftOut] = []
    for file in (file for root in roots for file in sorted(root.glob(f"*/{RECORD}"))):
        try:
            if is_detector(file):
                record = read_detection_record(file)
                records.setdefault(record.run_id, record)
        except InputError as error:
            left_out.append(LeftOut(file.parent.name, str(error), file.parent))
    return [records[run_id] for run_id in sorted(records)], left_out
