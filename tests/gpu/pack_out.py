"""The runs of a work folder in a few tar files, most important runs first."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from repro.engine.identity_construction import REPORT
from repro.runtime.checkpoint import FINAL, checkpoints

LARGEST = 15 * 2**20
"""Bytes in an archive."""
EVIDENCE = ("config.json", "record.json", "curve.csv", REPORT)
HEADER = 1024
"""The most bytes that a tar file adds to a member: its header and the rest of its last block."""
CLOSING = 10240
"""The most bytes at the end of a tar file."""


def worth(run: Path, path: Path) -> int | None:
    """Rank a file of the folder ``run``, the most important 0; None for a file that is not packed.

    A finished run has its record, weights and charts packed, an unfinished one its newest checkpoint, to resume from.
    """
    finished = (run / "record.json").is_file()
    if path.name == FINAL:
        return 1
    if path.name.startswith("step_"):
        newest = checkpoints(run)[-1]
        return None if finished or path != newest else 4
    if path.name.startswith("events."):
        return 3 if finished else 6
    if not finished:
        return 5
    return 0 if path.name in EVIDENCE else 7


def ranked(work: Path) -> list[Path]:
    """List the files of all runs in ``work`` to be packed, the most important first."""
    found = []
    for run in sorted(config.parent for config in work.glob("*/config.json")):
        for path in sorted(run.rglob("*")):
            top = path.relative_to(run).parts[0]
            if not path.is_file() or path.suffix == ".tmp" or top == "shallow" or top.startswith("."):
                continue
            rank = worth(run, path)
            if rank is not None:
                found.append((rank, path))
    return [path for _, path in sorted(found)]


def pack(work: Path, out: Path, archives: int, largest: int = LARGEST) -> list[Path]:
    """Pack the runs in ``work`` into at most ``archives`` tar files in ``out``; return the files without a place."""
    places: list[list[Path]] = [[] for _ in range(archives)]
    sizes = [CLOSING] * archives
    left = []
    for path in ranked(work):
        size = path.stat().st_size + HEADER
        fitting = [number for number in range(archives) if sizes[number] + size <= largest]
        if fitting:
            places[fitting[0]].append(path)
            sizes[fitting[0]] += size
        else:
            left.append(path)
    for number, paths in enumerate(places, 1):
        if paths:
            write(out / f"runs-{number}.tar", work, paths)
    return left


def write(archive: Path, work: Path, paths: Sequence[Path]) -> None:
    """Write files of ``work`` into a tar file, under their paths in that folder."""
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in paths:
            tar.add(path, str(path.relative_to(work)))
    print(f"{archive.name}: {len(paths)} files, {archive.stat().st_size / 2**20:.1f} MiB")


def main(work: str, out: str, archives: str) -> None:
    """Run ``pack_out.py WORK OUT ARCHIVES``."""
    for path in pack(Path(work), Path(out), int(archives)):
        print(f"left out: {path.relative_to(work)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
