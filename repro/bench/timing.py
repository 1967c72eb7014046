"""Repeated timings of the same work, alone and in turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from repro.runtime.device import wait

ROUNDS = 5
OVERTIME = 1.3  # times the wanted seconds, after which no further round begins

Action = Callable[[int], float]  # does so many of something and returns the seconds that they took


def timed(action: Callable[[], object], device: torch.device) -> Action:
    """Make a timed repetition of ``action``, from an idle device to an idle device."""

    def run(count: int) -> float:
        wait(device)
        start = time.perf_counter()
        for _ in range(count):
            action()
        wait(device)
        return time.perf_counter() - start

    return run


def milliseconds(seconds: list[float], count: int) -> dict[str, Any]:
    """Summarize rounds of ``count`` steps or images each: milliseconds of one."""
    ms = [1000 * s / count for s in seconds]
    return {"median": statistics.median(ms), "min": min(ms), "max": max(ms), "rounds": ms, "count": count}


def repeat(action: Action, seconds: float) -> dict[str, Any]:
    """Time ``action`` in five rounds that fill about ``seconds``; fewer, at least two, if the machine slows down."""
    count = max(1, int(seconds / ROUNDS / action(1)))
    rounds: list[float] = []
    while len(rounds) < 2 or (len(rounds) < ROUNDS and sum(rounds) < OVERTIME * seconds):
        rounds.append(action(count))
    return milliseconds(rounds, count)


def alternate(ours: Action, theirs: Action, seconds: float, probe: int) -> dict[str, Any]:
    """Time two actions in turns, in windows of equal counts that fill about ``seconds``; both do ``probe`` first."""
    count = max(1, int(seconds / ROUNDS / (ours(probe) + theirs(probe)) * probe))
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(ROUNDS):
        if pair > 1 and sum(map(sum, times)) > OVERTIME * seconds:
            break
        # Every other pair of windows begins with ``theirs``.
        turns = [(ours, times[0]), (theirs, times[1])]
        for action, seen in turns if pair % 2 == 0 else reversed(turns):
            seen.append(action(count))
    ratios = [their / our for our, their in zip(*times, strict=True)]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "pairs": ratios}
    return {"ours_ms": milliseconds(times[0], count), "theirs_ms": milliseconds(times[1], count), "ratio": ratio}
