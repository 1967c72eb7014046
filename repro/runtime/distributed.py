"""The ranks of a run: one process per device.

Each rank has its part of every batch. Only this module uses torch.distributed; without a process group there is one
rank, and nothing here has an effect.

Gradients are averaged during the backward pass by torch's ``DistributedDataParallel`` (``DataParallel``), or after it
by one all-reduce (``Mean``), which a CUDA graph can record; ``repro.engine.step`` chooses. Both add in the same order
in every process, so that a resumed run is bit-identical to an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from repro.errors import AloneError, InputError, RunError

T = TypeVar("T")
HOSTS_WAIT = datetime.timedelta(days=1)
"""The wait of hosts for each other, as while the first prepares the data; torchrun ends them if one of them dies."""


@contextlib.contextmanager
def joined(device_type: str) -> Iterator[None]:
    """Join the ranks that torchrun started; raise an InputError if there are fewer GPUs than ranks."""
    # Two backends on a GPU: hosts exchange their own values without waiting for the device.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")
    world = distributed.group.WORLD
    assert world is not None
    world._get_backend(torch.device("cpu"))._set_default_timeout(HOSTS_WAIT)
    if device_type == "cuda":
        agreed(_take_gpu)
    yield
    # Skipped after an error, because the other ranks may be gone.
    neighbours.cache_clear()
    gc.collect()  # NCCL waits for every CUDA graph with one of its collectives
    distributed.destroy_process_group()


def _take_gpu() -> None:
    local_rank, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= there:
        ranks = os.environ["LOCAL_WORLD_SIZE"]
        raise InputError(f"execution.devices={ranks} is more than the GPUs of this machine, which has {there}")
    torch.cuda.set_device(local_rank)


def size() -> int:
    """Return the number of ranks of the run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among the ranks, from 0."""
    return distributed.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Return whether this is rank 0, the only one that writes and logs."""
    return rank() == 0


def agreed(action: Callable[[], T]) -> T:
    """Do ``action`` on every rank; if one raises an InputError or a RunError, all raise that error."""
    value: T | None = None
    error: InputError | RunError | None = None
    try:
        value = action()
    except AloneError as raised:
        error = RunError(str(raised))  # all ranks know of it now
    except (InputError, RunError) as raised:
        error = raised
    if size() > 1:
        errors: list[InputError | RunError | None] = [None] * size()
        distributed.all_gather_object(errors, error)
        error = next((e for e in errors if e is not None), None)
    if error is None:
        return value  # type: ignore[return-value]
    try:
        raise error
    finally:
        # Otherwise traceback and frame refer to each other, and keep the failed run's tensors on the device.
        error = None


def on_first(action: Callable[[], object]) -> None:
    """Do ``action`` on rank 0 while the others wait; raise its InputError or RunError on all."""
    agreed(action if is_first() else lambda: None)


def shared(value: T) -> T:
    """Return rank 0's value on all ranks."""
    if size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def everyone(value: T) -> list[T]:
    """Return the values of all ranks, in their order, on all ranks."""
    if size() == 1:
        return [value]
    values: list[T | None] = [None] * size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def total(values: Sequence[float]) -> list[float]:
    """Sum over the ranks, in double precision; whole numbers stay exact."""
    if size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(sums)
    return sums.tolist()


def on_any(flag: bool) -> bool:
    """Return whether ``flag`` is true on any rank, so that all ranks decide alike."""
    return total([float(flag)])[0] > 0


def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Copy the values of rank 0 to all ranks, in place."""
    if size() == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            dense = tensor.contiguous()
            distributed.broadcast(dense, src=0)
            tensor.copy_(dense)


BUCKET_MB: float | None = None  # of gradients that are averaged together; None is torch's choice


class DataParallel(DistributedDataParallel):
    """A net whose backward passes average gradients over the ranks, bucket by bucket, while they run.

    The first pass of a process adds in one bucket; the second arranges buckets in the order in which gradients arrive.
    Only then do all passes add in the same order: call ``settle`` before the first step, also in resumed runs.

    Args:
        is_static: Every pass uses the same parameters. Otherwise buckets never change, and every pass searches for
            unused parameters.
    """

    def __init__(self, model: nn.Module, *, is_static: bool) -> None:
        # Do not copy running statistics from the first rank: they differ between ranks until they are averaged.
        is_new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
        no_buffers: dict[str, Any] = {"forward_sync_buffers" if is_new else "broadcast_buffers": False}
        super().__init__(
            model,
            bucket_cap_mb=BUCKET_MB,
            gradient_as_bucket_view=True,
            static_graph=is_static,
            find_unused_parameters=not is_static,
            **no_buffers,
        )
        self.is_settled = not is_static

    def settle(self, one_pass: Callable[[], object]) -> None:
        """Do ``one_pass``, forward and backward, until buckets no longer change; drop its gradients."""
        for _ in range(2):
            one_pass()
            self.zero_grad(set_to_none=True)
        self.is_settled = True


class Mean:
    """The mean over ranks of tensors like ``like``, in one collective and always the same order of addition."""

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._flat = torch.zeros(sum(t.numel() for t in like), dtype=like[0].dtype, device=like[0].device)
        self._parts: list[Tensor] = []
        offset = 0
        for tensor in like:
            self._parts.append(self._flat.as_strided(tensor.shape, tensor.stride(), offset))
            offset += tensor.numel()

    @torch.no_grad()
    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means, in memory that the next call overwrites."""
        torch._foreach_copy_(self._parts, list(tensors))
        distributed.all_reduce(self._flat)
        self._flat /= size()
        return self._parts


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over the ranks."""
    if size() > 1 and tensors:
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), Mean(tensors)(tensors))


@cache
def neighbours(num_ranks: int) -> distributed.ProcessGroup:
    """Return this rank's group of ``num_ranks`` consecutive ranks; all ranks must call this at the same time."""
    groups = [distributed.new_group(list(range(first, first + num_ranks))) for first in range(0, size(), num_ranks)]
    mine = groups[rank() // num_ranks]
    assert isinstance(mine, distributed.ProcessGroup)
    return mine


def gather(tensor: Tensor, group: distributed.ProcessGroup) -> Tensor:
    """Stack the tensors of all ranks of ``group``, in their order."""
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(parts, tensor, group)
    return torch.stack(parts)


def add_up(tensor: Tensor, group: distributed.ProcessGroup) -> Tensor:
    """Sum over the ranks of ``group``, in place."""
    distributed.all_reduce(tensor, group=group)
    return tensor
