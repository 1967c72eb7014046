"""Counts of errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Wrong predictions among ``images``, the sum of the losses, and the top-5 errors if they were counted.

    Counts of batches of any size add up exactly, and are divided only once.
    """

    errors: int = 0
    images: int = 0
    loss_sum: float = 0.0
    top5_errors: int | None = None

    def __add__(self, other: Counts) -> Counts:
        """Return the sum, without top-5 errors, which are counted in whole evaluations only."""
        return Counts(self.errors + other.errors, self.images + other.images, self.loss_sum + other.loss_sum)

    @property
    def top1_error(self) -> float:
        """Percent."""
        return 100.0 * self.errors / self.images

    @property
    def top5_error(self) -> float | None:
        """Percent; None if they were not counted."""
        return None if self.top5_errors is None else 100.0 * self.top5_errors / self.images

    @property
    def loss(self) -> float:
        return self.loss_sum / self.images

    def values(self) -> dict[str, Any]:
        """Return errors and images, as counts and in percent, under the names of a record."""
        names = ("errors", "images", "top1_error", "top5_errors", "top5_error")
        return {name: getattr(self, name) for name in names}
