"""Copies what a finished run measured from the work folder to the committed results."""

from __future__ import annotations

from pathlib import Path

from repro.atomic import replacing
from repro.errors import InputError, RunError, nearest

PUBLISHED = ("curve.csv", "record.json")
"""The record last: a folder that has one is complete."""


def publish(run_ids: list[str], work: Path, results: Path) -> list[Path]:
    """Copies record and curve of the runs (all finished ones where none is named) to ``results/runs``.

    Raises:
        InputError: A run is unknown or not finished; nothing was copied.
        RunError: It cannot be written.
    """
    finished = {path.parent.name: path.parent for path in sorted(work.glob("*/record.json"))}
    for run_id in run_ids:
        if run_id not in finished:
            raise InputError(f"{run_id!r} is not a finished run in {work}: {nearest(run_id, finished)}")
    if not finished:
        raise InputError(f"there is no finished run in {work} to publish")
    published = []
    for run_id in run_ids or finished:
        target = results / "runs" / run_id
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in PUBLISHED:
                with replacing(target / name) as file:
                    file.write((finished[run_id] / name).read_bytes())
        except OSError as error:
            raise RunError(f"{target} cannot be written ({error.strerror})") from error
        published.append(target)
    return published
