"""Processes that decode images ahead of use."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from repro.config.run import DataConfig
from repro.data.imagenet.decode import Place, UnreadableError, crop, open_photo, random_part
from repro.data.imagenet.folders import printable
from repro.errors import AloneError, InputError
from repro.runtime.parent import die_with_parent

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 32  # images per task: the parts of a batch are decoded in parallel

AHEAD = 4  # tasks that each process gets before the first result is read
ENDED = ("exited unexpectedly", "is killed by signal", "shared memory", "No space left on device")
"""Parts of torch's messages about a process that ended, or could not return its result."""


def chunks(items: Any, size: int) -> list[Any]:
    """Cut a sequence or an array into parts of ``size``, the last of which may be short."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def decoding_workers(decoder: str, workers: int, device: torch.device) -> int:
    """Return the number of processes that decode; for nvJPEG, which needs a GPU, it is 0: this process."""
    if decoder == "nvjpeg" and device.type != "cuda":
        raise InputError("data.decoder=nvjpeg needs device=cuda; data.decoder=pillow decodes on the processors")
    return 0 if decoder == "nvjpeg" else workers


def read_ahead(make: Callable[[T], R], tasks: Iterable[T], workers: int) -> Generator[R]:
    """Yield ``make`` of every task in order, from ``workers`` processes, or from this process for 0.

    ``tasks`` may be endless; the processes end when the generator is closed. Tensors are passed in shared memory.

    Raises:
        AloneError: An image cannot be decoded, or a process ended, perhaps killed for its memory.
    """
    made = _Made(make)
    loader = map(made.__getitem__, tasks) if workers == 0 else _loader(made, tasks, workers)
    try:
        for result in loader:
            if isinstance(result, UnreadableError):
                raise AloneError(f"{printable(str(result.path))} can no longer be read ({result})")
            yield result
    except RuntimeError as error:
        if not any(word in str(error) for word in ENDED):
            raise
        raise AloneError(
            f"a process that decodes images ended unexpectedly ({str(error).splitlines()[-1]}); if memory or shared "
            "memory (/dev/shm) is short, lower execution.workers"
        ) from error


def _loader(made: _Made[T, R], tasks: Iterable[T], workers: int) -> DataLoader[R]:
    return DataLoader(
        made,
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_unchanged,
        worker_init_fn=_begin,
        # Forked processes start at once and use no threads or locks of this one; not safe on other systems.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator(),  # otherwise torch would draw from the global generator
    )


class _Made(Dataset[R], Generic[T, R]):
    """Results by task instead of index, so that a process needs only its task."""

    def __init__(self, make: Callable[[T], R]) -> None:
        self._make = make

    def __getitem__(self, task: T) -> R | UnreadableError:  # type: ignore[override]
        try:
            result = self._make(task)
        except UnreadableError as error:
            return error  # torch would raise it in the parent with the worker's traceback in its message
        if get_worker_info() is not None and isinstance(result, Tensor) and result.numel():
            # Otherwise a thread of the queue would move the tensor; if shared memory is full, it would lose the tensor
            # and the reader would wait forever.
            tensor: Any = result
            tensor.share_memory_()
        return result


def _unchanged(result: Any) -> Any:
    return result


def _begin(_worker: int) -> None:
    die_with_parent()
    # Ignore signals that Ctrl-C or Slurm sends to the whole group: the parent ends this process, and needs its batches
    # until it has saved.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Cut(NamedTuple):
    """An image to crop."""

    path: str
    shorter_side: int
    place: Place | None = None
    """Of the crop; None is the centre."""
    flip: bool = False
    seed: int | None = None
    """Of a crop of random scale and aspect ratio, for which shorter side and place do not count (deviation D100)."""


CropTask = Sequence[Cut]


def read_crops(tasks: Iterable[CropTask], config: DataConfig, workers: int) -> Generator[Tensor]:
    """Yield the crops of each task, uint8 (n, 3, S, S), as in ``read_ahead``."""
    return read_ahead(functools.partial(make_crops, size=config.image_size, decoder=config.decoder), tasks, workers)


def make_crops(task: CropTask, size: int, decoder: str) -> Tensor:
    return torch.stack([make_crop(cut, size, decoder) for cut in task])


def make_crop(cut: Cut, size: int, decoder: str) -> Tensor:
    photo = open_photo(cut.path, decoder)
    if cut.seed is not None:
        return random_part(photo, size, cut.seed, cut.flip)
    return crop(photo, cut.shorter_side, size, cut.place, cut.flip)
