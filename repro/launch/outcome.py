"""Outcomes of training a run."""

import contextlib
from dataclasses import dataclass
from typing import Literal

from repro.config.run import RunConfig

FAILURE = "failure.txt"  # the file in a run's folder with the reason of its failure


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt to train a run."""

    state: Literal["done", "stopped", "elsewhere", "failed"]
    """``stopped``: stopped on request, and saved; ``elsewhere``: in training by another process."""
    reason: str = ""
    sound: bool = True  # False after an unforeseen error: its process must train no other run


def is_done(config: RunConfig) -> bool:
    """Return whether a run has its record, which is written last. Published records do not count."""
    return (config.work_dir / "record.json").exists()


def note_failure(config: RunConfig, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not hide the failure
        (config.work_dir / FAILURE).write_text(text, encoding="utf-8")
