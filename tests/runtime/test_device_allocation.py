"""Freed memory stays with the process, so that the next step need not wait for the system to clear it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHURN = """
import resource
import torch
from repro.runtime.device import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [torch.ones(2**24) for _ in range(4)]  # 64 MiB each: glibc keeps no such blocks by itself
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2)
print(faults(10))
keep_freed_memory()
faults(10)
print(faults(10))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_the_memory_of_a_step_is_cleared_once_and_not_at_every_step() -> None:
    """In a new process, because the setting cannot be undone for later tests."""
    done = subprocess.run([sys.executable, "-c", CHURN], capture_output=True, text=True, check=True)
    before, after = (int(word) for word in done.stdout.split())
    assert before > 10 * max(after, 1000)
