"""Repeated timings of the same work, alone and in turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from repro.runtime.device import wait

ROUNDS = 5
OVERTIME = 1.3  # no round begins after so many times the wanted seconds

Action = Callable[[int], float]  # does something so many times and returns the seconds


def timed(action: Callable[[], object], device: torch.device) -> Action:
    """Return a timed repetition of ``action``, from an idle device to an idle device."""

    def run(count: int) -> float:
        wait(device)
        start = time.perf_counter()
        for _ in range(count):
            action()
        wait(device)
        return time.perf_counter() - start

    return run


def in_rounds(actions: Sequence[Action], seconds: float, probe: int = 1) -> list[dict[str, Any]]:
    """Time actions in turns, in five rounds of equal counts that fill about ``seconds``; return milliseconds of each.

    If the machine slows down, there are fewer rounds, but at least two. Every action first does ``probe``.
    """
    count = max(1, int(seconds / ROUNDS / sum(action(probe) for action in actions) * probe))
    times: list[list[float]] = [[] for _ in actions]
    for number in range(ROUNDS):
        if number > 1 and sum(map(sum, times)) > OVERTIME * seconds:
            break
        turns = list(zip(actions, times, strict=True))
        for action, seen in turns if number % 2 == 0 else reversed(turns):
            seen.append(action(count))
    return [spread("rounds", [1000 * s / count for s in seen]) | {"count": count} for seen in times]


def spread(name: str, values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), name: values}


def per_second(batch_size: int, ms: dict[str, Any]) -> float:
    """Return images per second from the milliseconds of batches."""
    return float(1000 * batch_size / ms["median"])


def repeat(action: Action, seconds: float) -> dict[str, Any]:
    return in_rounds([action], seconds)[0]


def alternate(ours: Action, theirs: Action, seconds: float, probe: int) -> dict[str, Any]:
    """Time two actions in turns, with the ratio of each pair of rounds."""
    our_ms, their_ms = in_rounds([ours, theirs], seconds, probe)
    ratios = [their / our for our, their in zip(our_ms["rounds"], their_ms["rounds"], strict=True)]
    return {"ours_ms": our_ms, "theirs_ms": their_ms, "ratio": spread("pairs", ratios)}
