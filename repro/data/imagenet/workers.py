"""Processes that read and decode files ahead of their use, in order."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import is_dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from repro.errors import AloneError
from repro.runtime.parent import die_with_parent

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Tasks that each process is given before the first result is asked for."""

ENDED = ("exited unexpectedly", "is killed by signal", "shared memory", "No space left on device")
"""How torch says that a process is gone, or could not hand over what it made."""


def num_workers(asked: int | None) -> int:
    """Processes that decode: as asked, otherwise one for each processor that this process may use."""
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    parts = [result] if isinstance(result, torch.Tensor) else vars(result).values() if is_dataclass(result) else ()
    for part in parts:
        if isinstance(part, torch.Tensor) and part.numel():
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
