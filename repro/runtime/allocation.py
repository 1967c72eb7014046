"""Host memory that a step frees: kept for the next step, instead of given back to the system as the C library does."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
TRIM_THRESHOLD, NEVER = -1, -1
MMAP_MAX, NONE = -4, 0


def keep_freed_memory() -> None:
    """Has the process keep the memory that a step frees, for the next one.

    A step frees all activations, and glibc gives so much back to the system at once; the next step then waits for
    the system to clear the same pages again, one by one. Where the C library has no such setting nothing changes.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return  # musl takes a call of mallopt and does nothing, others have none
    library.mallopt(TRIM_THRESHOLD, NEVER)
    library.mallopt(MMAP_MAX, NONE)
