"""The time that threads spin before they sleep."""

from __future__ import annotations

import os
import time
from pathlib import Path

BOUNDED = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""For GNU's runtime (turns of a loop; torch's wheels for Linux) and for LLVM's and Intel's (milliseconds)."""

SETTINGS = ("OMP_WAIT_POLICY", *BOUNDED)
LOAD = Path("/proc/loadavg")


def bound_spinning(load: Path = LOAD) -> None:
    """Let threads sleep soon where other programs keep the processors busy; a user's own setting stays.

    By default they spin for milliseconds. On a busy machine a thread that others wait for gets no processor while these
    spin, and training falls to a fraction. On a quiet one nothing is gained by sleep, and waking up costs time. The
    runtime reads the setting when torch is imported, so this must come before; child processes inherit it.
    """
    if any(name in os.environ for name in SETTINGS):
        return
    if others_run(load):
        os.environ.update(BOUNDED)


def others_run(load: Path, looks: int = 5) -> bool:
    """Return whether something else wants a processor at each of some moments, a millisecond apart.

    ``load`` is Linux's /proc/loadavg, whose fourth word counts the threads that run or wait to run, this one included.
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
    """Return the settings in force, the user's or ours, by the names of their environment variables."""
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}
