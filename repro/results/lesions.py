"""Stored errors of damaged nets, read without torch."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from repro.config.parse import require
from repro.results.beside import Beside, Measured


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
class Lesions(Measured):
    """The damaged forms of a run's final net, tested on the first ``images``.

    ``errors`` are those of the undamaged net. ``stages`` are the numbers of blocks, of which those with equal input and
    output shapes, ``removable``, can be deleted or moved. ``draws`` is the most random choices per number of blocks.
    """

    images: int
    errors: int
    stages: tuple[int, ...]
    removable: tuple[int, ...]
    draws: int
    seed: int
    places: tuple[Lesion, ...]
    counts: tuple[Lesion, ...]
    orders: tuple[Lesion, ...]

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


def _check(found: Lesions) -> None:
    require(found.images > 0, f"images={found.images} must be above 0")
    blocks = sum(found.stages)
    for errors in (found.errors, *(one.errors for one in (*found.places, *found.counts, *found.orders))):
        require(0 <= errors <= found.images, f"{errors} errors among {found.images} images")
    for one in (*found.places, *found.counts):
        require(len(one.deleted) > 0 and set(one.deleted) <= set(found.removable), f"deleted={one.deleted} is invalid")
    for one in found.orders:
        require(sorted(one.order) == list(range(blocks)), f"order={one.order} is not an order of {blocks} blocks")


LESIONS = Beside("lesions.json", 1, Lesions, "repro lesion", _check)
"""The files, each in the folder of its run."""
