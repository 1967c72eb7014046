"""Callbacks of a detector's or localizer's training and test."""

from __future__ import annotations

from repro.engine.detection.prepared import Training


class DetectionHooks:
    """Callbacks that do nothing; ``repro.engine.detection.hooks`` has those of a run."""

    def logged(self, net: Training, losses: dict[str, float], lr: float) -> None:
        """Receive the mean losses since the last call."""

    def save_is_due(self) -> bool:
        return False

    def save(self, net: Training) -> None:
        """Save a checkpoint."""

    def saved(self) -> None:
        """Receive that all that was found in images so far is saved."""

    def stop(self) -> bool:
        """Return whether the run shall save and end before its last update or image."""
        return False
