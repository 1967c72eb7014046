"""Standard output and error that cannot end the process."""

import codecs
import contextlib
import io
import os
import select
import sys
from typing import Any

SAME_IN_ASCII = {"−": "-", "–": "-", "±": "+/-", "×": "x", "→": "->", "…": "...", "²": "^2", "≥": ">=", "≤": "<="}
ERRORS = "repro.plain"  # the name of ``plain`` among Python's error handlers


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the stream cannot show by equivalent signs or their codes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = error.object[error.start : error.end]
    return "".join(SAME_IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in shown), error.end


class Outlet(io.RawIOBase):
    """A stream that drops output that cannot be written; ``lost`` is the first error."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            try:
                written = self._raw.write(left)
            except OSError as error:
                self.lost = self.lost or error
                break
            if written is None:  # another process has made the pipe non-blocking, and it is full
                select.select([], [self._raw], [])
            left = left[written or 0 :]
        return size


def steady() -> list[Outlet]:
    """Replace standard output and error by streams without errors, for odd characters and closed pipes; return them."""
    codecs.register_error(ERRORS, plain)
    open_what_is_closed()
    outlets = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        outlet = Outlet(getattr(stream.buffer, "raw", stream.buffer))
        outlets.append(outlet)
        buffer: Any = outlet if stream.write_through else io.BufferedWriter(outlet)
        kept = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        setattr(sys, name, io.TextIOWrapper(buffer, encoding=stream.encoding, errors=ERRORS, **kept))
    return outlets


def unwritten(outlets: list[Outlet]) -> OSError | None:
    """Return the error that lost standard output, unless its reader closed the pipe."""
    with contextlib.suppress(OSError):  # of a stream that a caller has put in its place
        sys.stdout.flush()
    lost = next((outlet.lost for outlet in outlets if outlet.fileno() == 1), None)
    return None if isinstance(lost, BrokenPipeError) else lost


def open_what_is_closed() -> None:
    """Open closed standard streams on the null device: otherwise the next file would get their number and output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number
            if getattr(sys, name) is None:
                mode = "r" if number == 0 else "w"
                setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
