"""Progress of one run, or of several at once: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 10.0
"""Between two plain lines."""

SPEED_SECONDS = 2.0
"""Of training that a speed is taken over."""


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def shown_as(style: str) -> str:
    """``bar``, ``lines`` or ``none``, where ``auto`` looks for a terminal."""
    if style == "auto":
        return "bar" if sys.stderr.isatty() else "lines"
    return style


class Progress:
    """Shows step, images/s, errors and the time left, at most every few seconds."""

    def __init__(self, label: str, step: int, steps: int, batch_size: int, style: str, train_seconds: float) -> None:
        self.label, self.steps, self.batch_size = label, steps, batch_size
        self.style = style = shown_as(style)
        self.eval_text = ""
        self.images_per_second = 0.0
        self._first_step, self._start = step, time.monotonic()
        self._last_step, self._last_seconds = step, train_seconds
        self._shown = self._start
        self._bar: Any = None
        if style == "bar":
            self._bar = tqdm(total=steps, initial=step, desc=label, unit="step", dynamic_ncols=True, leave=False)

    def evaluated(self, split: str, top1_error: float) -> None:
        self.eval_text = f", {split} error {top1_error:.2f} %"

    def update(self, step: int, train_seconds: float, train_error: float) -> None:
        """``train_seconds`` is the time spent in training steps alone, from which the speed is taken."""
        if train_seconds - self._last_seconds >= SPEED_SECONDS:
            self.images_per_second = (step - self._last_step) * self.batch_size / (train_seconds - self._last_seconds)
            self._last_step, self._last_seconds = step, train_seconds
        speed = f"{self.images_per_second:,.0f} images/s, " if self.images_per_second else ""
        text = f"{speed}train error {train_error:.2f} %{self.eval_text}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self.style == "lines" and time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            print(f"  step {step:,} of {self.steps:,}, {text}, {duration(self.seconds_left(step))} left", flush=True)

    def seconds_left(self, step: int) -> float:
        """Return the time left at the pace that this process has had so far, evaluations included."""
        pace = (time.monotonic() - self._start) / max(step - self._first_step, 1)
        return (self.steps - step) * pace

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
