"""Freed memory stays with the process, so that the next step does not wait for the system to clear it again."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHURN = """
import resource
import torch
from repro.allocation import {names}

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        kept = [torch.ones(2**22) for _ in range(8)]  # 128 MiB, as the activations of a small net
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def printed(names: str, body: str) -> list[int]:
    """What a fresh process prints: what was set for a process cannot be taken back for the tests after this one."""
    code = CHURN.format(names=names) + body
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_the_memory_of_a_step_is_cleared_once_and_not_at_every_step() -> None:
    body = """
keep_freed_memory()
faults(2)
print(faults(10))
with freed_memory_given_back():
    faults(2)
    print(faults(10))
faults(2)
print(faults(10))
"""
    kept, given_back, kept_again = printed("freed_memory_given_back, keep_freed_memory", body)
    assert given_back > 5 * max(kept, kept_again, 1000)
