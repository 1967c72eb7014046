"""Copies what a finished run measured from the work folder to the committed results."""

from __future__ import annotations

from pathlib import Path

from repro.atomic import replacing
from repro.errors import InputError, RunError, nearest
from repro.record import read_json

PUBLISHED = ("curve.csv", "record.json")
"""The record last: a folder that has one is complete."""


def publish(run_ids: list[str], work: Path, results: Path) -> list[Path]:
    """Copies record and curve of the runs (all finished ones where none is named) to ``results/runs``.

    Raises:
        InputError: A run is unknown or not finished, or published with another result; nothing was copied.
        RunError: It cannot be written.
    """
    finished = {path.parent.name: path.parent for path in sorted(work.glob("*/record.json"))}
    for run_id in run_ids:
        if run_id not in finished:
            raise InputError(f"{run_id!r} is not a finished run in {work}: {nearest(run_id, finished)}")
    if not finished:
        raise InputError(f"there is no finished run in {work} to publish")
    chosen = run_ids or list(finished)
    if other := [run_id for run_id in chosen if _differs(finished[run_id], results / "runs" / run_id)]:
        rest = " ".join(run_id for run_id in chosen if run_id not in other)
        way = f"`repro publish {rest}` leaves them out, or " if rest else ""
        raise InputError(
            f"published with another result: {', '.join(other)}; {way}delete their folders in {results / 'runs'} first"
        )
    published = []
    for run_id in chosen:
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


def _differs(mine: Path, published: Path) -> bool:
    """Whether a run is published with another result than ``mine`` has."""
    there = published / "record.json"
    return there.is_file() and read_json(there).get("result") != read_json(mine / "record.json").get("result")
