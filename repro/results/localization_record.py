"""The record of a finished run of a localizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from repro.config.parse import Open, require
from repro.results.stored import SCHEMA, check_identity, read_values
from repro.results.task_record import TaskRecord

PROPOSALS_OF = "proposals of "
"""The beginning of a digest's name in a record of R-CNN, before the id of a localizer that proposed."""


@dataclass(frozen=True, kw_only=True)
class ViewError(Open):
    """Errors of a localizer on one view of the test images, ``1crop`` or ``dense``, in images and in percent.

    ``errors`` are images whose box of the given class is wrong; ``top5_errors`` those of which none of the five
    likeliest classes is right with a right box, where a classification run predicts them.
    """

    view: str
    errors: int
    error: float
    top5_errors: int | None = None
    top5_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class LocalizationResult(Open):
    """The test of a localizer on ``images`` with boxes; ``left_out`` images have none and are not counted.

    ``class_errors`` are images whose class is not among the five likeliest.
    """

    split: str
    images: int
    left_out: int
    views: tuple[ViewError, ...]
    class_errors: int | None = None


@dataclass(frozen=True, kw_only=True)
class LocalizationRecord(TaskRecord):
    """A finished run of a localizer; ``folder`` holds its ``record.json``, ``losses.csv`` and ``boxes.json``."""

    localization: LocalizationResult

    @property
    def outcome(self) -> LocalizationResult:
        """The measured errors."""
        return self.localization

    def value(self, metric: str, view: str) -> float | None:
        """Return a number of Tables 13 and 14 in percent on ``view``; None if the test has no such number."""
        found = next((one for one in self.localization.views if one.view == view), None)
        if found is None or metric == "test_error":  # only its server scores the test set
            return None
        return found.error if metric == "error_class_given" else found.top5_error

    def check(self) -> None:
        """Raise an ``InputError`` if parts of the record contradict each other."""
        check_identity(self)
        require(self.science.localization is not None, "its configuration has no settings of a localizer")
        images = self.localization.images
        require(images > 0, f"localization.images={images} must be above 0")
        for view in self.localization.views:
            for count, share in ((view.errors, view.error), (view.top5_errors, view.top5_error)):
                if count is not None and share is not None:
                    fits = 0 <= count <= images and math.isclose(share, 100 * count / images, abs_tol=1e-9)
                    require(fits, f"{count} errors of {images} images on {view.view} are not {share} %")


def read_localization_record(file: Path) -> LocalizationRecord:
    """Read and check the record of a localizer.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    return LocalizationRecord.from_json(read_values(file, SCHEMA), file.parent)
