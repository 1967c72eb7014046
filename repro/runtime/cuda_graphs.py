"""CUDA graphs: sequences of kernels that are launched as one."""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

WARMUP_CALLS = 3  # during these, libraries choose their kernels and allocate memory

_RECORDING = threading.Lock()  # runs that share a process record in turn


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    # One for all recordings: torch rotates through 32 streams a device, and cuBLAS keeps memory for each.
    return torch.cuda.Stream(device)


def record_graph(function: Callable[[], T], undo: Callable[[], None] = lambda: None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Record ``function`` as a CUDA graph.

    Args:
        function: Must work in place on tensors that stay where they are, and never wait for the device.
        undo: Reverts the effects of warming up; recording itself computes nothing.

    Returns:
        The graph, and the result of ``function``, whose tensors every replay fills.
    """
    with _RECORDING:
        current = torch.cuda.current_stream()
        # Work of other runs must not get into the graph, so a run with its own stream is recorded on it. The default
        # stream cannot be recorded, so its runs, one after the other, use a side stream.
        is_default = current == torch.cuda.default_stream()
        aside = _side_stream(torch.cuda.current_device()) if is_default else current
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARMUP_CALLS):
                function()
        current.wait_stream(aside)
        undo()
        graph = torch.cuda.CUDAGraph()
        if is_default:
            torch.cuda.empty_cache()  # the graph gets its own memory
        # Not by ``torch.cuda.graph``, which waits for the whole device: parallel runs keep it busy, and one run stood
        # still for a minute. thread_local: another run of this process may allocate memory meanwhile.
        with no_collection(), torch.cuda.stream(aside):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = function()
            finally:
                graph.capture_end()
        current.wait_stream(aside)
        return graph, result


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage now and not inside the block: destroying an earlier run's graph would break a recording."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
