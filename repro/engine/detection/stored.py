"""Finished detectors with their preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from repro.data.detection import Detections
from repro.data.imagenet.decode import Photo
from repro.engine.detection.members import load_members, load_net
from repro.engine.detection.prepared import Member
from repro.engine.detection.testing import as_arrays, find_in
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_detector


@dataclass(frozen=True)
class StoredDetector:
    """The detectors of a run's test, its own first, and the names of their classes by label."""

    record: DetectionRecord
    members: tuple[Member, ...]
    classes: tuple[str, ...]

    def find(self, photo: Photo) -> Detections:
        """Detect objects in a picture, as in the test of the run."""
        like = next(self.members[0].model.parameters()).detach().new_empty(0)
        return as_arrays(find_in(photo, self.members, self.record.science, like))


def load_detector(name: str, work: Path, results: Path, device: torch.device) -> StoredDetector:
    """Load the final detector of a run from the work folder, or else that beside its published record.

    So are those that its test joins to an ensemble with it.

    Args:
        name: A run id or its beginning (``repro.results.find``).

    Raises:
        InputError: There is no such run, it is not a detector, or its weights do not exist or do not fit.
        RunError: The checkpoint is damaged.
    """
    record = find_detector(name, [work, results / "runs"])
    like = torch.empty(0, device=device)
    own, classes = load_net(record, work, results, like)
    others = load_members(record.science, classes, work, results, like)
    return StoredDetector(record, (own, *others), classes)
