"""Passes of nets over many images, as for proposals and tests; a stopped or killed one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repro.config.run import RunConfig
from repro.engine.detection.callbacks import DetectionHooks
from repro.errors import RunError
from repro.runtime import checkpoint, distributed
from repro.runtime.files import replacing
from repro.runtime.progress import Display, duration

Row = tuple[np.ndarray, ...]
"""What is found in an image: arrays of one length."""


@dataclass(frozen=True)
class Pass:
    """A pass over images, and the file in the folder of the run that keeps what it has found."""

    config: RunConfig
    file: str
    count: int
    """Images, which are known by their positions."""
    makers: Mapping[str, Any]
    """Weights, and all else that decides what is found besides the settings; a file of others is not read."""
    text: str
    """Words for the progress."""
    together: int = 1
    """Images that a rank sees between two looks whether the run shall stop."""

    @property
    def path(self) -> Path:
        return self.config.work_dir / self.file


def run_pass(images: Pass, find: Callable[[Sequence[int]], Iterable[Row]], hooks: DetectionHooks) -> list[Row] | None:
    """Find something in each image, each rank in its share of them.

    With the same number of ranks ``find`` has the same images together whether or not the pass was interrupted.

    Returns:
        What was found in each image, on all ranks, or None if the run was stopped and saved what it had.

    Raises:
        RunError: The file cannot be written.
    """
    ranks, rank = distributed.size(), distributed.rank()
    done = distributed.shared(read_rows(images) if distributed.is_first() else {})
    left = [position for position in range(images.count) if position not in done]
    display = Display(images.config.execution.progress if distributed.is_first() else "none", images.count, len(done))
    begun = time.monotonic()
    own: dict[int, Row] = {}
    # All ranks make the same number of rounds, so that they stop together.
    for first in range(0, len(left), images.together * ranks):
        end = min(first + images.together * ranks, len(left))
        mine = left[first + rank : end : ranks]
        if mine:
            own |= zip(mine, find(mine), strict=True)
        count = images.count - len(left) + end
        if display.is_due():
            text = f"{images.text}: {count:,} of {images.count:,} images"
            time_left = f"{duration((time.monotonic() - begun) / end * (len(left) - end))} left"
            display.show(count, [text, time_left], [f"{text}, {time_left}"])
        is_last = end == len(left)
        is_stopped = not is_last and hooks.stop()
        if is_last or is_stopped or hooks.save_is_due():
            done, own = gathered(done, own), {}
            write_rows(images, done)
            hooks.saved()
        if is_stopped:
            display.close()
            return None
    display.close()
    return [done[position] for position in range(images.count)]


def gathered(done: Mapping[int, Row], own: Mapping[int, Row]) -> dict[int, Row]:
    """Add what all ranks have found to what all have, by the positions of images."""
    every = dict(done)
    for part in distributed.everyone(dict(own)):
        every |= part
    return every


def write_rows(images: Pass, done: Mapping[int, Row]) -> None:
    """Store what was found in some images, on the first rank."""

    def write() -> None:
        positions = sorted(done)
        columns = [np.concatenate(column) for column in zip(*(done[one] for one in positions), strict=True)]
        with replacing(images.path, RunError) as file:
            np.savez(
                file,
                *columns,
                makers=checkpoint.digest(dict(images.makers)),
                positions=np.array(positions),
                counts=np.array([len(done[one][0]) for one in positions]),
            )

    distributed.on_first(write)


def read_rows(images: Pass) -> dict[int, Row]:
    """Read what is stored; a file that is missing, damaged or by other nets holds nothing."""
    try:
        with np.load(images.path) as stored:
            arrays = dict(stored)
    except Exception:  # a damaged file surfaces as many kinds of error
        return {}
    if str(arrays.get("makers")) != checkpoint.digest(dict(images.makers)):
        return {}
    ends = arrays["counts"].cumsum()[:-1]
    columns = [np.split(arrays[f"arr_{number}"], ends) for number in range(len(arrays) - 3)]
    rows = zip(*columns, strict=True)
    return dict(zip(arrays["positions"].tolist(), rows, strict=True))
