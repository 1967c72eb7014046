"""The time that threads spin before they sleep."""

from __future__ import annotations

import os

BOUNDED = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""For GNU's runtime (turns of a loop; torch's wheels for Linux) and for LLVM's and Intel's (milliseconds)."""

SETTINGS = ("OMP_WAIT_POLICY", *BOUNDED)


def bound_spinning() -> None:
    """Let threads sleep soon where one of them is held up; a user's own setting stays.

    By default they spin for milliseconds. Where other programs keep the processors busy, a thread that others wait for
    gets none while these spin, and training falls to a tenth. The runtime reads the setting when torch is imported, so
    this must come before; processes that this one starts inherit it.
    """
    if not any(name in os.environ for name in SETTINGS):
        os.environ.update(BOUNDED)


def spin_settings() -> dict[str, str]:
    """Return the settings in force, the user's or ours, by the names of their environment variables."""
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}
