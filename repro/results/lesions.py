"""Stored errors of damaged nets, read without torch."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from repro.config.parse import build, require
from repro.errors import InputError
from repro.results.publish import copy_files
from repro.results.read import read_values
from repro.results.record import RECORD, Record

SCHEMA = 1
FILE = "lesions.json"
"""The name of the file, in the folder of its run."""


@dataclass(frozen=True)
class Lesion:
    """The errors of a net with the blocks ``deleted``, or with its blocks in another ``order``.

    Blocks are numbered from 0. ``order`` names the block in each place after ``swaps`` swaps of two blocks of a stage;
    ``tau`` is its rank correlation with the trained order. With no deleted blocks and no order the net is undamaged.
    """

    errors: int
    deleted: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    swaps: int = 0
    tau: float = 1.0


@dataclass(frozen=True)
class Lesions:
    """The damaged forms of a run's final net, tested on the first ``images`` of ``split``.

    ``errors`` are those of the undamaged net. ``stages`` are the numbers of blocks, of which those with equal input and
    output shapes, ``removable``, can be deleted or moved. ``draws`` is the most random choices per number of blocks.
    """

    run_id: str
    fingerprint: str
    weights: str
    split: str
    images: int
    errors: int
    stages: tuple[int, ...]
    removable: tuple[int, ...]
    draws: int
    seed: int
    places: tuple[Lesion, ...]
    counts: tuple[Lesion, ...]
    orders: tuple[Lesion, ...]
    commit: str
    finished: str

    @property
    def error(self) -> float:
        """The error of the undamaged net in percent."""
        return 100 * self.errors / self.images

    def by_place(self) -> dict[int, list[float]]:
        """Return the error without one block, in percent, by its place from 1."""
        return {lesion.deleted[0] + 1: [self._error(lesion)] for lesion in self.places}

    def by_count(self) -> dict[int, list[float]]:
        """Return the errors of all draws, in percent, by the number of deleted blocks; 0 is the undamaged net."""
        found = defaultdict(list, {0: [self.error]})
        for lesion in (*self.places, *self.counts):
            found[len(lesion.deleted)].append(self._error(lesion))
        return dict(found)

    def by_swaps(self) -> dict[int, list[float]]:
        """Return the errors of all draws, in percent, by the number of swaps; 0 is the undamaged net."""
        found = defaultdict(list, {0: [self.error]})
        for lesion in self.orders:
            found[lesion.swaps].append(self._error(lesion))
        return dict(found)

    def tau_by_swaps(self) -> dict[int, float]:
        """Return the mean rank correlation of the order with the trained one, by the number of swaps."""
        found = defaultdict(list)
        for lesion in self.orders:
            found[lesion.swaps].append(lesion.tau)
        return {swaps: math.fsum(taus) / len(taus) for swaps, taus in found.items()}

    def deletion_rise(self) -> float:
        """Return by how many points the error rises without one block, on average over its places.

        Raises:
            InputError: No block can be deleted.
        """
        return self._rise(self.places, "no block can be deleted")

    def reordering_rise(self) -> float:
        """Return by how many points the error rises in another order, on average over all orders.

        Raises:
            InputError: No two blocks can be swapped.
        """
        return self._rise(self.orders, "no two blocks can be swapped")

    def _rise(self, lesions: tuple[Lesion, ...], otherwise: str) -> float:
        require(len(lesions) > 0, otherwise)
        return math.fsum(map(self._error, lesions)) / len(lesions) - self.error

    def _error(self, lesion: Lesion) -> float:
        return 100 * lesion.errors / self.images


def has_lesions(record: Record) -> bool:
    """Return whether damaged forms of a run's net were tested."""
    return (record.folder / FILE).is_file()


def read_lesions(record: Record) -> Lesions:
    """Read the damaged forms of a run's net.

    Raises:
        InputError: They were not tested, or the file is invalid or of another net.
    """
    require(has_lesions(record), "it has no lesions (repro lesion)")
    found = read_file(record.folder / FILE)
    require(found.fingerprint == record.fingerprint, f"{FILE} is of the run with fingerprint {found.fingerprint}")
    return found


def read_file(file: Path) -> Lesions:
    """Read and check a file of lesions.

    Raises:
        InputError: The file cannot be read, or is invalid.
    """
    found: Lesions = build(Lesions, read_values(file, SCHEMA))
    require(found.run_id == file.parent.name, f"{FILE} is of {found.run_id}, not of {file.parent.name}")
    require(found.images > 0, f"images={found.images} must be above 0")
    blocks = sum(found.stages)
    for errors in (found.errors, *(one.errors for one in (*found.places, *found.counts, *found.orders))):
        require(0 <= errors <= found.images, f"{errors} errors among {found.images} images")
    for one in (*found.places, *found.counts):
        require(len(one.deleted) > 0 and set(one.deleted) <= set(found.removable), f"deleted={one.deleted} is invalid")
    for one in found.orders:
        require(sorted(one.order) == list(range(blocks)), f"order={one.order} is not an order of {blocks} blocks")
    return found


def plan_lesions(work: Path, results: Path, run_ids: Collection[str], *, replace: bool = False) -> list[str]:
    """Find the runs with lesions in the work folder that are published, or are in ``run_ids``.

    Raises:
        InputError: A file is invalid, or another one is published and ``replace`` is False.
    """
    new = []
    for file in sorted(work.glob(f"*/{FILE}")):
        run_id = file.parent.name
        published = results / "runs" / run_id
        if run_id not in run_ids and not (published / RECORD).is_file():
            continue
        try:
            found = read_file(file)
        except InputError as error:
            raise InputError(f"{file} cannot be published: {error}") from None
        if (published / FILE).is_file():
            if _is_same(found, published / FILE):
                continue
            require(replace, f"{published / FILE} is not {file}; `repro publish --replace` overwrites it")
        new.append(run_id)
    return new


def publish_lesions(run_ids: Collection[str], work: Path, results: Path) -> list[Path]:
    """Copy the lesions of runs beside their published records; return the files."""
    return [copy_files(work / name, results / "runs" / name, [FILE]) / FILE for name in run_ids]


def _is_same(lesions: Lesions, published: Path) -> bool:
    try:
        other = read_file(published)
    except InputError:
        return False
    return dataclasses.replace(lesions, commit=other.commit, finished=other.finished) == other
