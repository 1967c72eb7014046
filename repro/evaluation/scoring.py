"""Scores of images of different sizes, over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repro.errors import RunError
from repro.runtime import distributed

WAITING = 8
"""The most pixels, in batches, that wait for more images of their size."""
ROWS = 250
"""Images of each rank whose scores are gathered at once."""

Photo = tuple[int, Tensor, int]
"""Position in the split, uint8 pixels (3, H, W) and label."""
Score = Callable[[Tensor], Tensor]
"""Computes softmax scores (N, classes) of uint8 images (N, 3, H, W) of one size."""


@dataclass(frozen=True)
class Scored:
    """float32 softmax scores (n, classes) and labels (n,) of some images of a split, sorted by ``positions`` (n,)."""

    positions: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, positions: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Scored:
        order = np.argsort(positions)
        return cls(positions[order], labels[order], scores[order])


def scored(photos: Iterable[Photo], score: Score, num_classes: int, batch_pixels: int) -> Scored:
    """Score images in batches of one image size with at most about ``batch_pixels`` pixels."""
    positions: list[int] = []
    labels: list[int] = []
    rows = [torch.empty(0, num_classes)]
    for batch in batches_of_one_size(photos, batch_pixels):
        positions += [position for position, _, _ in batch]
        labels += [label for _, _, label in batch]
        rows.append(score(torch.stack([pixels for _, pixels, _ in batch])).float().cpu())
    return Scored.of(np.array(positions, np.int64), np.array(labels, np.int64), torch.cat(rows).numpy())


def batches_of_one_size(photos: Iterable[Photo], batch_pixels: int) -> Iterator[list[Photo]]:
    """Group images of the same size into batches of at most ``batch_pixels`` pixels, or of one image.

    If too many images wait for others of their size, the group that has waited longest is yielded as it is.
    """
    waiting: dict[torch.Size, list[Photo]] = {}

    def pixels(shape: torch.Size) -> int:
        return len(waiting[shape]) * shape[1] * shape[2]

    for photo in photos:
        shape = photo[1].shape
        waiting.setdefault(shape, []).append(photo)
        if pixels(shape) + shape[1] * shape[2] > batch_pixels:
            yield waiting.pop(shape)
        while sum(map(pixels, waiting)) > WAITING * batch_pixels:
            yield waiting.pop(next(iter(waiting)))
    while waiting:
        yield waiting.pop(next(iter(waiting)))


def mean_of(parts: Sequence[Scored]) -> Scored:
    """Average the scores of the same images at several scales.

    Raises:
        RunError: The images differ.
    """
    first = parts[0]
    if not all(np.array_equal(part.positions, first.positions) for part in parts):
        raise RunError("some images were read at one scale and not at another: their files have changed meanwhile")
    total = sum((part.scores for part in parts[1:]), first.scores)
    return Scored(first.positions, first.labels, total / np.float32(len(parts)))


def gathered(part: Scored, num_images: int) -> Scored:
    """Gather the parts of all ranks on all ranks.

    Raises:
        RunError: The parts do not have ``num_images`` different images, or a score is not finite.
    """
    if distributed.size() > 1:
        group = distributed.neighbours(distributed.size())
        longest = int(distributed.gather(torch.tensor(len(part.labels)), group).max())
        # Pieces have the same length on all ranks; rows beyond the end of a rank's part have the position -1.
        pieces = [_gathered_rows(part, start, min(ROWS, longest - start)) for start in range(0, longest, ROWS)]
        part = Scored.of(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
    images = len(part.labels)
    if len(np.unique(part.positions)) != images:
        raise RunError("an image was tested twice")
    if images != num_images:
        raise RunError(f"{images} images were tested, but the split has {num_images}")
    if unsound := int((~np.isfinite(part.scores)).any(1).sum()):
        raise RunError(f"the net gives scores that are not finite for {unsound} of {images} images")
    return part


def _gathered_rows(part: Scored, start: int, count: int) -> tuple[np.ndarray, ...]:
    """Gather positions, labels and scores of the rows from ``start`` to ``start + count`` of all ranks' parts."""
    group = distributed.neighbours(distributed.size())
    columns = []
    for values in (part.positions, part.labels, part.scores):
        mine = np.full((count, *values.shape[1:]), -1, values.dtype)
        rows = values[start : start + count]
        mine[: len(rows)] = rows
        columns.append(distributed.gather(torch.from_numpy(mine), group).flatten(0, 1).numpy())
    there = columns[0] >= 0
    return tuple(column[there] for column in columns)
