"""Errors as whole counts, divided once at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Wrong predictions among ``images`` and the sum of their losses; top-5 errors where they were counted.

    Nothing is averaged over batches of different size.
    """

    errors: int = 0
    images: int = 0
    loss_sum: float = 0.0
    top5_errors: int | None = None

    def __add__(self, other: Counts) -> Counts:
        """Add both up, without the top-5 errors, which only whole evaluations count."""
        return Counts(self.errors + other.errors, self.images + other.images, self.loss_sum + other.loss_sum)

    @property
    def top1_error(self) -> float:
        """Percent."""
        return 100.0 * self.errors / self.images

    @property
    def top5_error(self) -> float | None:
        """Percent; None where they were not counted."""
        return None if self.top5_errors is None else 100.0 * self.top5_errors / self.images

    @property
    def loss(self) -> float:
        return self.loss_sum / self.images

    def values(self) -> dict[str, Any]:
        """Return errors and images as records name them, in percent too."""
        names = ("errors", "images", "top1_error", "top5_errors", "top5_error")
        return {name: getattr(self, name) for name in names}
