"""Finished detectors with their preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from repro.config.parse import require
from repro.data.augment import PixelStats
from repro.data.detection import Detections
from repro.data.imagenet.decode import Photo
from repro.engine.detection.prepared import settings_of
from repro.engine.detection.start import build_net
from repro.engine.detection.testing import as_arrays, find_in
from repro.evaluation.stored_net import detector_net
from repro.evaluation.trained import misfit
from repro.models.detection.detector import Detector
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_detector


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
    """Load the final detector of a run from the work folder, or else that beside its published record.

    Args:
        name: A run id or its beginning (``repro.results.find``).

    Raises:
        InputError: There is no such run, it is not a detector, or its weights do not exist or do not fit.
        RunError: The checkpoint is damaged.
    """
    record = find_detector(name, [work, results / "runs"])
    net = detector_net(record.run_id, work, results)
    model = Detector(build_net(record.science, 1), len(net.classes), settings_of(record.science))
    reason = misfit(model.state_dict(), net.weights)
    require(not reason, f"the weights of {record.run_id} do not fit a {record.label}: {reason}")
    model.load_state_dict(dict(net.weights))
    return StoredDetector(record, model.to(device).eval(), net.stats, net.classes)
