"""The lines for the user that modules log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from repro.runtime.log import LOGGER, Lines


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the lines that are logged in the context."""
    lines: list[str] = []
    handler, level = Lines(lines.append), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
