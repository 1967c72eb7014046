"""CUDA graphs: a sequence of kernels recorded once and launched as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

WARMUP_CALLS = 3
"""Before recording: libraries choose their kernels and take their memory in the first calls."""

_RECORDING = threading.Lock()
"""Runs that share a process record one after the other."""


def record_graph(function: Callable[[], T], undo: Callable[[], None] = lambda: None) -> tuple[torch.cuda.CUDAGraph, T]:
    """Records ``function``, which must work in place on tensors that stay where they are and never wait for the device.

    Args:
        undo: Takes back what warming up did; recording itself computes nothing.

    Returns:
        The graph, and the tensors of ``function``'s result, which every replay fills.
    """
    with _RECORDING:
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARMUP_CALLS):
                function()
        current.wait_stream(aside)
        undo()
        graph = torch.cuda.CUDAGraph()
        # thread_local: a neighbour in the same process may take memory meanwhile.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            result = function()
        current.wait_stream(aside)
        return graph, result
