"""Processes that decode images ahead of use, and their tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from repro.data.imagenet import decode
from repro.data.imagenet.folders import printable
from repro.errors import AloneError, InputError
from repro.runtime.parent import die_with_parent

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 32
"""Images that a process decodes at a time: a batch is made of several, so that its parts are decoded side by side."""

AHEAD = 4
"""Tasks that each process is given before the first result is asked for."""

ENDED = ("exited unexpectedly", "is killed by signal", "shared memory", "No space left on device")
"""How torch says that a process is gone, or could not hand over what it made."""


def num_workers(asked: int | None) -> int:
    """Processes that decode: as asked, otherwise one for each processor that this process may use."""
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_workers(decoder: str, workers: int, device: torch.device) -> int:
    """Return the number of processes that decode: 0 for nvJPEG, which decodes in this one, with the GPU.

    Raises:
        InputError: It is asked for without a GPU.
    """
    if decoder != "nvjpeg":
        return workers
    if device.type != "cuda":
        raise InputError("data.decoder=nvjpeg needs device=cuda; data.decoder=pillow decodes on the processors")
    return 0


def read_ahead(make: Callable[[T], R], tasks: Iterable[T], workers: int) -> Generator[R]:
    """``make`` of every task, in their order, made by ``workers`` processes; 0 is in this one, when asked for.

    ``tasks`` may be endless; what was started ends when the iterator is closed. Tensors in results travel through
    shared memory.

    Raises:
        AloneError: A process ended, killed for its memory perhaps.
    """
    if workers == 0:
        yield from map(make, tasks)
        return
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_unchanged,
        worker_init_fn=_begin,
        # Forked processes start at once and need none of what this one holds; not safe on other systems.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator(),  # else torch would draw from the generator that everyone shares
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not any(word in str(error) for word in ENDED):
            raise
        raise AloneError(
            f"a process that decodes images ended unexpectedly ({str(error).splitlines()[-1]}); if memory, or shared "
            "memory (/dev/shm), is short, lower execution.workers"
        ) from error


class _Made(Dataset[R], Generic[T, R]):
    """Tasks in the place of indices, so that a process needs to know no more than its task."""

    def __init__(self, make: Callable[[T], R]) -> None:
        self._make = make

    def __getitem__(self, task: T) -> R:
        return _shared(self._make(task))


def _shared(result: R) -> R:
    """``result``, its tensors in shared memory already.

    Left to the queue, a thread of it would move them, and where that memory is full lose the result and leave the
    other side waiting for ever.
    """
    parts = [result] if isinstance(result, Tensor) else vars(result).values() if is_dataclass(result) else ()
    for part in parts:
        if isinstance(part, Tensor) and part.numel():
            part.share_memory_()
    return result


def _unchanged(result: Any) -> Any:
    return result


def _begin(_worker: int) -> None:
    die_with_parent()
    # Ctrl-C, and what Slurm sends before it takes a machine back, reach the whole group of processes: the parent
    # decides what becomes of it, and needs its last batches until it has saved.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


# --- tasks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crops:
    """Images to crop, one entry each: a process needs no list of all files. No ``places`` are centre crops."""

    paths: list[str]
    shorter_sides: list[int]
    places: list[decode.Place] | None
    flips: list[bool]


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded after all: errors do not pass from one process to another well."""

    path: str
    reason: str


@dataclass(frozen=True)
class Cropper:
    """Makes uint8 crops (n, 3, size, size)."""

    size: int
    decoder: str

    def __call__(self, task: Crops) -> Tensor | Unreadable:
        crops = []
        for i, path in enumerate(task.paths):
            place = None if task.places is None else task.places[i]
            try:
                crop = decode.load_crop(path, task.shorter_sides[i], self.size, self.decoder, place, task.flips[i])
            except decode.UnreadableError as error:
                return Unreadable(path, str(error))
            crops.append(crop)
        return torch.stack(crops)


@dataclass(frozen=True)
class Resizer:
    """Makes whole images, uint8 (3, H, W)."""

    shorter_side: int
    decoder: str

    def __call__(self, path: str) -> Tensor | Unreadable:
        try:
            return decode.load_resized(path, self.shorter_side, self.decoder)
        except decode.UnreadableError as error:
            return Unreadable(path, str(error))


def checked(result: Tensor | Unreadable) -> Tensor:
    """Return ``result`` where it is an image or crops.

    Raises:
        AloneError: The image could not be decoded.
    """
    if isinstance(result, Unreadable):
        raise AloneError(f"{printable(result.path)} can no longer be read ({result.reason})")
    return result


def joined(crops: Sequence[Tensor], device: torch.device) -> Tensor:
    """Join the parts of a batch, in memory that a GPU can read by itself."""
    if device.type != "cuda" or crops[0].is_cuda:
        return torch.cat(list(crops))
    shape = (sum(map(len, crops)), *crops[0].shape[1:])
    return torch.cat(list(crops), out=torch.empty(shape, dtype=torch.uint8, pin_memory=True))
