"""The localization error of ILSVRC, and floors of it without a net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repro.data.localization import BoxedSplit

GRID = 64
"""Positions of corners on each axis, where images have several sizes."""


def flat(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return all boxes (M, 4) of images, and the position (M,) of each one's image."""
    return np.concatenate(boxes), np.repeat(np.arange(len(boxes)), [len(own) for own in boxes])


def are_right(found: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return True (N,) for images whose ``found`` box (N, 4) or (1, 4) covers one of their ``boxes``.

    A box is right if its intersection with a box of the class is at least half of their union, for any of the image's
    boxes of that class (ILSVRC's rule; the paper's appendix C: "an IoU of at least 0.5").
    """
    known, image = flat(boxes)
    found = np.broadcast_to(found, (len(boxes), 4))[image]
    sides = np.minimum(found[:, 2:], known[:, 2:]) - np.maximum(found[:, :2], known[:, :2])
    common = sides.clip(min=0).prod(1)
    areas = (found[:, 2:] - found[:, :2]).prod(1) + (known[:, 2:] - known[:, :2]).prod(1)
    # I / (A + B - I) >= 1/2, exactly for whole numbers.
    right = np.zeros(len(boxes), bool)
    np.logical_or.at(right, image, (3 * common >= areas) & (common > 0))
    return right


def percent_wrong(right: np.ndarray) -> float:
    return 100.0 * float((~right).sum()) / len(right)


# --- floors -------------------------------------------------------------------------------------------------------


def whole_images(split: BoxedSplit) -> np.ndarray:
    """Return the boxes (N, 4) that are whole images."""
    heights, widths = split.sizes.T.astype(np.float64)
    return np.stack([np.zeros_like(widths), np.zeros_like(widths), widths, heights], 1)


def grid_of(split: BoxedSplit) -> tuple[int, int]:
    """Return the positions of corners across and down: the pixels of all images if they have one size."""
    sizes = np.unique(split.sizes, axis=0)
    return (int(sizes[0, 1]), int(sizes[0, 0])) if len(sizes) == 1 else (GRID, GRID)


def in_units(split: BoxedSplit, grid: tuple[int, int]) -> list[np.ndarray]:
    """Return the boxes of images in units of the grid, which is laid over each image."""
    widths = split.sizes[:, ::-1].astype(np.float64)
    return [own * np.tile(np.array(grid) / size, 2) for own, size in zip(split.boxes, widths, strict=True)]


def best_fixed_box(split: BoxedSplit, grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box with corners on the grid that is right in most images of ``split``; of equals the first.

    The search is exact: cells of neighbouring boxes are divided, from coarse to single ones, and a cell is left out
    only if so few images overlap enough with its largest box, beside the area of its smallest, that another box is
    right in more.
    """
    known = known_boxes(in_units(split, grid), grid)
    step = 1 << max(0, (max(grid) - 1).bit_length() - 2)
    cells = torch.cartesian_prod(*(torch.arange(0, size, step) for size in (*grid, *grid)))
    least = 0
    while True:
        cells = cells[is_possible(cells, step, grid)]
        counts = bounds(cells, step, grid, known)
        if step == 1:
            best = cells[counts == counts.max()]
            first = min(map(tuple, best.tolist()))
            return first[0], first[1], first[2] + 1, first[3] + 1
        # Single boxes from the middle of the best cells: any count is one that the best box reaches.
        likely = cells[counts.argsort(descending=True)[:64]] + step // 2
        likely = likely[is_possible(likely, 1, grid)]
        if len(likely):
            least = max(least, int(bounds(likely, 1, grid, known).max()))
        cells = cells[counts >= least]
        step //= 2
        parts = torch.cartesian_prod(*(torch.tensor([0, step]) for _ in range(4)))
        cells = (cells[:, None] + parts).reshape(-1, 4)


def is_possible(cells: Tensor, step: int, grid: tuple[int, int]) -> Tensor:
    """Return True for cells (n, 4) with a box: the last pixels are not before the first, and lie on the grid."""
    starts, ends = cells[:, :2], cells[:, 2:]
    return ((ends + step > starts) & (ends < torch.tensor(grid)) & (starts < torch.tensor(grid))).all(1)


class Known(NamedTuple):
    """Boxes (M, 4), the number (M,) of images of each, or their images (M,) where one has several boxes."""

    boxes: Tensor
    weights: Tensor
    images: Tensor | None


def known_boxes(boxes: Sequence[np.ndarray], grid: tuple[int, int]) -> Known:
    """Join the boxes of all images; equal ones of images with one box each are counted together."""
    every, image = flat(boxes)
    # Whole numbers of this size have exact products in float32.
    kind = torch.float32 if (every == np.round(every)).all() and max(grid) <= 1024 else torch.float64
    if len(every) > len(boxes):
        return Known(torch.from_numpy(every).to(kind), torch.ones(len(every), dtype=kind), torch.from_numpy(image))
    different, counts = np.unique(every, axis=0, return_counts=True)
    return Known(torch.from_numpy(different).to(kind), torch.from_numpy(counts).to(kind), None)


def bounds(cells: Tensor, step: int, grid: tuple[int, int], known: Known) -> Tensor:
    """Return for each cell (n, 4) a number of images in which none of its boxes exceeds, exact for a ``step`` of 1.

    A cell has the boxes whose first and last pixels are at most ``step - 1`` beyond its own four numbers.
    """
    boxes, weights, images = known
    largest, smallest, spans = [], [], []
    for axis in (0, 1):
        low, high = cells[:, axis].to(boxes), (cells[:, axis + 2] + step).clamp(max=grid[axis]).to(boxes)
        largest.append((low, high))
        smallest.append((cells[:, axis + 2] - cells[:, axis] - step + 2).clamp(min=1).to(boxes))
        spans.append(boxes[:, axis + 2] - boxes[:, axis])
    least_area, areas = smallest[0] * smallest[1], spans[0] * spans[1]
    counts = torch.zeros(len(cells), dtype=torch.int64)
    # Cells with the same columns share the overlaps in this direction.
    columns, group = cells[:, (0, 2)].unique(dim=0, return_inverse=True)
    for number in range(len(columns)):
        own = (group == number).nonzero()[:, 0]
        across = common(largest[0][0][own[:1]], largest[0][1][own[:1]], boxes[:, 0], boxes[:, 2])
        near = across[0] > 0
        near_boxes, area, across = boxes[near], areas[near], across[:, near]
        for part in own.split(16):
            down = common(largest[1][0][part], largest[1][1][part], near_boxes[:, 1], near_boxes[:, 3])
            inner, least = across * down, least_area[part, None]
            right = 3 * inner - least >= area
            if step > 1:  # a union is not smaller than one of its parts
                right &= 2 * inner >= torch.maximum(least, area)
            if images is None:
                counts[part] = (right.to(boxes) @ weights[near]).long()
            else:
                each = torch.zeros(len(part), int(images[-1]) + 1, dtype=torch.int32)
                counts[part] = (each.index_add_(1, images[near], right.int()) > 0).sum(1)
    return counts


def common(low: Tensor, high: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Return the common lengths (n, M) of n and M intervals."""
    return (torch.minimum(high[:, None], ends) - torch.maximum(low[:, None], starts)).clamp(min=0)


def fixed_boxes(split: BoxedSplit, box: Sequence[float], grid: tuple[int, int]) -> np.ndarray:
    """Return a box of the grid in the pixels (N, 4) of each image."""
    boxes: np.ndarray = np.array(box) * np.tile(split.sizes[:, ::-1] / np.array(grid), (1, 2))
    return boxes
