"""Logging of lines for the user."""

import logging
import sys
from collections.abc import Callable

LOGGER = logging.getLogger("repro")  # the parent of every module's logger


class Lines(logging.Handler):
    """A handler that passes every message to ``write``, without level and time."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(record.getMessage())
        except Exception:
            self.handleError(record)


def send_to(write: Callable[[str], None]) -> None:
    """Send the messages of all modules to ``write`` only; call this once at the start of a process."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # a library may add a handler to the root logger
    LOGGER.handlers = [Lines(write)]


def notice(text: str) -> None:
    """Announce a short wait on a terminal; files and pipes get nothing."""
    if sys.stderr.isatty():
        print(f"{text}…", file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Print a line on the standard output, above a progress bar if there is one."""
    if "tqdm" not in sys.modules:  # an import would slow every command down
        print(text, flush=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode():
        print(text, flush=True)
