"""The spinning of idle OpenMP threads."""

from __future__ import annotations

import os
import time
from pathlib import Path

BOUNDED = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""For GNU's runtime (turns of a loop; torch's wheels for Linux) and for LLVM's and Intel's (milliseconds)."""

SETTINGS = ("OMP_WAIT_POLICY", *BOUNDED)
LOAD = Path("/proc/loadavg")


def bound_spinning(load: Path = LOAD) -> None:
    """Let idle threads sleep early if other programs keep the processors busy; a user's own setting stays.

    By default threads spin for milliseconds. On a busy machine, spinning threads take the processor from the thread for
    which they wait, and training slows to a fraction. On a quiet machine sleep gains nothing, and waking up costs time.
    The runtime reads the setting when torch is imported, so call this before; child processes inherit it.
    """
    if any(name in os.environ for name in SETTINGS):
        return
    if others_run(load):
        os.environ.update(BOUNDED)


def others_run(load: Path, looks: int = 5) -> bool:
    """Return whether other threads run at all of several checks, a millisecond apart.

    Args:
        load: Linux's /proc/loadavg, whose fourth word counts the threads that run or wait to run, with this one.
        looks: The number of checks.
    """
    for _ in range(looks):
        try:
            running = int(load.read_text().split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):
            return False
        if running < 2:
            return False
        time.sleep(0.001)
    return True


def spin_settings() -> dict[str, str]:
    """Return the current settings, the user's or ours, by environment variable."""
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}
