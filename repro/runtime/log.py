"""Lines for the user, through Python's logging."""

import logging
import sys
from collections.abc import Callable

LOGGER = logging.getLogger("repro")  # the parent of every module's logger


class Lines(logging.Handler):
    """Hands every message to ``write``, which takes one text, without the level and the time."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(record.getMessage())
        except Exception:
            self.handleError(record)


def send_to(write: Callable[[str], None]) -> None:
    """Send the messages of all modules to ``write`` alone; a process calls it once, as it starts."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # a library may give the root logger a handler of its own
    LOGGER.handlers = [Lines(write)]


def notice(text: str) -> None:
    """Say on a terminal what takes a moment; nothing in files and pipes, whose readers do not wait."""
    if sys.stderr.isatty():
        print(f"{text}…", file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Print a line on the standard output, above a progress bar that is shown."""
    if "tqdm" not in sys.modules:  # importing it for nothing would slow every command down
        print(text, flush=True)
        return
    from tqdm import tqdm

    with tqdm.external_write_mode():
        print(text, flush=True)
