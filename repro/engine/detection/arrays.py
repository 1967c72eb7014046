"""Arrays that a detector's run keeps for its next process."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; none if it is missing or damaged, so that they are made again."""
    try:
        with np.load(path) as stored:
            return dict(stored)
    except Exception:  # a damaged file surfaces as many kinds of error
        return {}
