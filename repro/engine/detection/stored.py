"""Finished detectors with their preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repro.config.parse import require
from repro.data.augment import PixelStats
from repro.data.detection import Detections
from repro.data.imagenet.decode import Photo
from repro.engine.detection.prepared import settings_of
from repro.engine.detection.start import build_net
from repro.engine.detection.testing import as_arrays, find_in
from repro.evaluation.trained import misfit
from repro.models.detection.detector import Detector
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_detector
from repro.runtime import checkpoint


@dataclass(frozen=True)
class StoredDetector:
    """The final detector of a run, its pixel statistics and the names of its classes by label."""

    record: DetectionRecord
    model: Detector
    stats: PixelStats
    classes: tuple[str, ...]

    def find(self, photo: Photo) -> Detections:
        """Detect objects in a picture, as in the test of the run."""
        like = next(self.model.parameters()).detach().new_empty(0)
        return as_arrays(find_in(photo, self.model, self.record.science, self.stats, like))


def load_detector(name: str, work: Path, results: Path, device: torch.device) -> StoredDetector:
    """Load the final detector of a run from the work folder.

    Args:
        name: A run id or its beginning (``repro.results.find``).

    Raises:
        InputError: There is no such run, it is not a detector, or its weights do not exist or do not fit.
        RunError: The checkpoint is damaged.
    """
    record = find_detector(name, [work, results / "runs"])
    weights, stats, classes = read_detector(work / record.run_id / checkpoint.FINAL)
    model = Detector(build_net(record.science, 1), len(classes), settings_of(record.science))
    reason = misfit(model.state_dict(), weights)
    require(not reason, f"the weights of {record.run_id} do not fit a {record.label}: {reason}")
    model.load_state_dict(dict(weights))
    return StoredDetector(record, model.to(device).eval(), stats, classes)


def read_detector(path: Path) -> tuple[Mapping[str, Tensor], PixelStats, tuple[str, ...]]:
    """Read weights, pixel statistics and classes from a final checkpoint; those of detectors are not published."""
    remedy = "train the run again with the command in its record"
    require(path.is_file(), f"the weights {path} are missing: {remedy}")
    stored = checkpoint.load(path)
    require("pixels" in stored, f"{path} was written by older code, without pixel statistics and classes: {remedy}")
    return stored["model"], PixelStats(stored["pixels"]["mean"], stored["pixels"]["std"]), tuple(stored["classes"])
