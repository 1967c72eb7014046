"""Progress of runs, as a bar or plain lines."""

import contextlib
import dataclasses
import logging
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.parse import build, require
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.runtime.provenance import now, read_json, write_json

log = logging.getLogger(__name__)
FILE = "progress.json"  # in a run's folder
LINE_SECONDS = 10.0  # between two plain lines
BAR_SECONDS = 0.5
SPEED_SECONDS = 2.0  # the least time of training for a measured speed
BAR_COLUMNS = 10  # the least width of a bar; with less there is only text

_seconds_after = 0.0
"""The time of the plan's runs after the current one."""


def set_seconds_after(seconds: float) -> None:
    """Set the time of the plan's runs after the next one, for the progress of the whole plan."""
    global _seconds_after  # noqa: PLW0603  # a run does not know of other runs
    _seconds_after = seconds


def duration(seconds: float) -> str:
    """Format seconds as ``45 s``, ``3 min 05 s``, ``2 h 10 min`` or ``3 d 4 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def fitted(parts: Sequence[str], width: int) -> str:
    """Join the first parts that fit into ``width`` characters."""
    text = parts[0][:width]
    for part in parts[1:]:
        if len(text) + len(part) + 2 > width:
            break
        text += f", {part}"
    return text


class Display:
    """A display of progress every few seconds: for the ``style`` ``auto`` a bar on a terminal and lines elsewhere."""

    def __init__(self, style: str, total: float, done: float = 0.0) -> None:
        if style == "auto":
            style = "bar" if sys.stderr.isatty() else "lines"
        self._seconds = {"bar": BAR_SECONDS, "lines": LINE_SECONDS}.get(style, math.inf)
        self._shown = time.monotonic()
        self._bar: Any = None
        if style == "bar":
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, bar_format="{desc}", dynamic_ncols=True, leave=False)

    def is_due(self) -> bool:
        if time.monotonic() - self._shown < self._seconds:
            return False
        self._shown = time.monotonic()
        return True

    def show(self, done: float, parts: Sequence[str], lines: Sequence[str]) -> None:
        """Show the lines, or in a bar as many of the parts as fit, the most important first."""
        if self._bar is None:
            for line in lines:
                log.info(f"  {line}")
            return
        width = shutil.get_terminal_size().columns - 1
        text = fitted(parts, width)
        self._bar.n = done
        self._bar.bar_format = "{desc} {bar}" if width - len(text) > BAR_COLUMNS else "{desc}"
        self._bar.set_description_str(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@dataclass(frozen=True)
class Told:
    """The progress of a run: errors in percent, speed, and the seconds left; a detector has a loss and no error."""

    step: int
    steps: int
    train_error: float | None
    images_per_second: float
    seconds_left: float
    loss: float | None = None

    def text(self, eval_error: str = "") -> str:
        speed = f"{self.images_per_second:,.0f} images/s, " if self.images_per_second else ""
        errors = f"loss {self.loss or 0:.3f}" if self.train_error is None else f"train error {self.train_error:.2f} %"
        errors += eval_error
        return f"step {self.step:,} of {self.steps:,}, {speed}{errors}, {duration(self.seconds_left)} left"

    def parts(self, name: str, eval_error: str = "") -> list[str]:
        """Return the parts of a line on a terminal, the most important first."""
        known = f"loss {self.loss or 0:.3f}" if self.train_error is None else f"train {self.train_error:.2f}%"
        errors = [known, *([eval_error] if eval_error else [])]
        after = [f"plan {duration(self.seconds_left + _seconds_after)}"] if _seconds_after else []
        speed = [f"{self.images_per_second:,.0f} images/s"] if self.images_per_second else []
        done = f"{name} {100 * self.step // max(self.steps, 1)}%"
        return [done, *errors, f"{duration(self.seconds_left)} left", *after, *speed]


class Progress:
    """The progress of one run, which this process trains from ``step`` on."""

    def __init__(self, config: RunConfig, step: int, train_seconds: float) -> None:
        self.config = config
        self.images_per_second = 0.0
        self._eval_error, self._eval_part = "", ""
        self._first_step, self._start = step, time.monotonic()
        self._last_step, self._last_seconds = step, train_seconds
        self._display = Display(config.execution.progress, config.optim.steps, step)

    def evaluated(self, split: str, top1_error: float) -> None:
        self._eval_error, self._eval_part = f", {split} error {top1_error:.2f} %", f"{split} {top1_error:.2f}%"

    def update(self, step: int, train_seconds: float, train_error: float) -> Told:
        """Return the progress, and show it if an update is due.

        Args:
            train_seconds: The time of training steps alone.
        """
        optim, seconds = self.config.optim, train_seconds - self._last_seconds
        if seconds >= SPEED_SECONDS:
            self.images_per_second = (step - self._last_step) * optim.batch_size / seconds
            self._last_step, self._last_seconds = step, train_seconds
        # Use the pace of this process so far, including evaluations.
        pace = (time.monotonic() - self._start) / max(step - self._first_step, 1)
        told = Told(step, optim.steps, train_error, self.images_per_second, (optim.steps - step) * pace)
        if self._display.is_due():
            after = f", {duration(told.seconds_left + _seconds_after)} for all" if _seconds_after else ""
            parts = told.parts(name_of(self.config), self._eval_part)
            self._display.show(step, parts, [f"{told.text(self._eval_error)}{after}"])
        return told

    def close(self) -> None:
        self._display.close()


def name_of(config: RunConfig) -> str:
    return f"{config.model.label} s{config.seed}"


def write_progress(folder: Path, told: Told) -> None:
    write_json(folder / FILE, dataclasses.asdict(told) | {"written": now()})


def read_progress(folder: Path) -> Told | None:
    """Read the progress of the run in ``folder``; return None if it has not begun.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    values = read_json(path)
    try:
        told: Told = build(Told, {f.name: values[f.name] for f in dataclasses.fields(Told) if f.name in values})
        require(0 <= told.step <= told.steps, f"step={told.step} is not from 0 to steps={told.steps}")
        require(told.train_error is not None or told.loss is not None, "it has no train_error and no loss")
    except (InputError, OverflowError) as error:
        raise InputError(f"{path} has no valid progress ({error})") from None
    return told


def progress_of(config: RunConfig) -> Told | None:
    """Read the progress of a run; return None also if its file cannot be read."""
    with contextlib.suppress(InputError):
        return read_progress(config.work_dir)
    return None
