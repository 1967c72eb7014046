"""Stop requests: time limits, signals, other processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

LATER = 75  # exit code if the time is up or other processes train the rest: the same command resumes

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2") if hasattr(signal, name))
"""The signals that ask a command to save and end; schedulers announce a time limit with SIGUSR2."""


class Stopped(Exception):
    """A test ends before its last image, because a stop was requested."""


class Stopper:
    """A stop request by a first signal, the time limit or ``stop``; a second SIGINT or SIGTERM ends at once."""

    def __init__(self, max_minutes: float | None) -> None:
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.signal: signal.Signals | None = None
        self.end_children: Callable[[], None] | None = None  # called before a second signal ends this process
        self._told = False

    def __enter__(self) -> Stopper:
        self._handlers = {s: signal.signal(s, self._request) for s in SIGNALS}
        return self

    def __exit__(self, *failure: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        again = self.signal == number
        self.signal = signal.Signals(number)
        if number not in (signal.SIGINT, signal.SIGTERM):
            return  # a scheduler's warning, which is not urgent and may be repeated
        if self.end_children is None:
            signal.signal(number, signal.SIG_DFL)  # so that the next one ends even a step that takes minutes
        elif again:
            self.end_children()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def stop(self) -> None:
        """Request a stop, from any thread of the process."""
        self._told = True

    def asked(self) -> bool:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return self._told or self.signal is not None or late

    @property
    def exit_code(self) -> int:
        return LATER if self.signal is None else 128 + self.signal

    @property
    def reason(self) -> str:
        return "the time is up" if self.signal is None else self.signal.name
