"""The note in a run's folder about its failure."""

import contextlib

from repro.config.run import RunConfig

FAILURE = "failure.txt"  # the file in a run's folder with the reason of its failure
REMEDY = "move or delete its folder to train it again"


def note_failure(config: RunConfig, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not hide the failure
        (config.work_dir / FAILURE).write_text(text, encoding="utf-8")
