"""When a run is asked to save and end: a time limit or a signal."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

TIME_IS_UP = 75
"""Exit code of a command that ``execution.max_minutes`` ended: the same command goes on."""


class Stopper:
    """Turns the first SIGINT or SIGTERM, and the end of the time, into a request; a second signal ends at once."""

    def __init__(self, max_minutes: float | None) -> None:
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.signal: signal.Signals | None = None

    def __enter__(self) -> Stopper:
        self._handlers = {s: signal.signal(s, self._request) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)

    def asked(self) -> bool:
        return self.signal is not None or (self.deadline is not None and time.monotonic() >= self.deadline)

    @property
    def exit_code(self) -> int:
        return TIME_IS_UP if self.signal is None else 128 + self.signal

    @property
    def reason(self) -> str:
        return "the time is up" if self.signal is None else self.signal.name
