"""The part of a record that detectors and localizers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.science import Science
from repro.results.stored import Provenance, Stored


@dataclass(frozen=True, kw_only=True)
class TaskRecord(Stored):
    """A finished run of a task other than classification, without its result; ``folder`` holds its files."""

    run_id: str
    key: str
    label: str
    exp: str
    scale: str
    seed: int
    fingerprint: str
    numerics_version: int
    science: Science
    steps: int
    params: int
    macs: int
    wall_seconds: float
    images_per_second: float
    execution: Mapping[str, Any]
    provenance: Provenance
    folder: Path

    @property
    def marked_label(self) -> str:
        """The label of the body, as rows of tables have it."""
        return self.science.model.label
