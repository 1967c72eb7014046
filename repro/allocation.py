"""Host memory that a step frees: kept for the next step, or given back to the system as the C library does."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt(3).
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
MMAP_MAX = -4

MIB = 2**20
KEPT = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}
GIVEN_BACK = {TRIM_THRESHOLD: 64 * MIB, MMAP_THRESHOLD: 32 * MIB, MMAP_MAX: 65536}
"""What glibc's own thresholds, which follow the sizes that are freed, come to once large blocks have been freed."""


def keep_freed_memory() -> None:
    """Has the process keep the memory that a step frees, for the next one.

    A step frees all activations, and glibc gives so much back to the system at once; the next step then waits for
    the system to clear the same pages again, one by one. Where the C library has no such setting nothing changes.
    """
    _set(KEPT)


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """For as long, memory is handled as in a process that has not asked for more: to measure what keeping it gains."""
    _set(GIVEN_BACK)
    try:
        yield
    finally:
        _set(KEPT)


def _set(values: dict[int, int]) -> None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return  # musl takes a call of mallopt and others have none
    for parameter, value in values.items():
        library.mallopt(parameter, value)
