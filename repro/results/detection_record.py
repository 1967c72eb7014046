"""The record of a finished run of a detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repro.config.parse import Open, require
from repro.results.stored import SCHEMA, check_identity, read_values
from repro.results.task_record import TaskRecord

EXAMPLES = "examples.jpg"
"""Pictures of findings in test images, in the folder of a run; they are not published."""
COCO = {"mAP_50": "AP50", "mAP_50_95": "AP"}
"""Names of the tables, and of COCO's evaluation."""


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
class DetectionRecord(TaskRecord):
    """A finished run of a detector; ``folder`` holds its ``record.json``, ``losses.csv`` and ``detections.json``."""

    detection: DetectionResult

    @property
    def outcome(self) -> DetectionResult:
        """Return what was measured."""
        return self.detection

    def value(self, metric: str) -> float | None:
        """Return a number of a table in percent: ``mAP``, ``mAP_50`` and ``mAP_50_95`` of COCO, or that of a class.

        ``val2_mAP`` is that of Table 12, whose recipe is tested on these images.

        None if the test has no such number.
        """
        result = self.detection
        if metric in ("mAP", "val2_mAP"):
            return result.map
        if metric in COCO:
            return (result.coco or {}).get(COCO[metric])
        return next((one.ap for one in result.classes if one.name == metric), None)

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
