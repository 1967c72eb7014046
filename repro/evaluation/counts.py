"""Errors as whole counts, divided once at the end: nothing is averaged over batches of different size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What was seen so far: wrong top-1 answers, images, the sum of their losses; wrong top-5 answers where counted."""

    errors: int = 0
    images: int = 0
    loss_sum: float = 0.0
    top5_errors: int | None = None

    def __add__(self, other: Counts) -> Counts:
        """Both together, without the top-5 errors, which only whole evaluations count."""
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
