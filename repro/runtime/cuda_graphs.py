"""CUDA graphs: a sequence of kernels recorded once and launched as one."""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

WARMUP_CALLS = 3  # in which libraries choose their kernels and take their memory

_RECORDING = threading.Lock()  # runs that share a process record one after the other


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """The same at every call: torch has 32 streams a device and hands them out in turns, each with memory of cuBLAS."""
    return torch.cuda.Stream(device)


def record_graph(function: Callable[[], T], undo: Callable[[], None] = lambda: None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Record ``function``, which must work in place on tensors that stay where they are and never wait for the device.

    ``undo`` takes back what warming up did; recording itself computes nothing. Returns the graph, and the tensors of
    ``function``'s result, which every replay fills.
    """
    with _RECORDING:
        current = torch.cuda.current_stream()
        # A neighbour's work must not get into the graph: a run that has a stream of its own is recorded there. The
        # default stream cannot be recorded, so its runs, which come one after the other, have one beside it.
        is_default = current == torch.cuda.default_stream()
        aside = _side_stream(torch.cuda.current_device()) if is_default else current
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARMUP_CALLS):
                function()
        current.wait_stream(aside)
        undo()
        graph = torch.cuda.CUDAGraph()
        # thread_local: a neighbour in the same process may take memory meanwhile.
        with no_collection(), torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = function()
        current.wait_stream(aside)
        return graph, result


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep garbage collection off, after a last one before: destroying an earlier run's graph spoils a recording."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
