"""A net with all that trains it, driven in timed windows: single steps, the training loop, evaluation.

Times are wall-clock between two waits for the device; each figure is the median of several rounds of many steps.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from repro.bench.ceilings import wait
from repro.config.run import RunConfig
from repro.data import Dataset, Split
from repro.data.augment import generator_for
from repro.data.batches import Feed, train_feed
from repro.data.in_memory import MemoryImages, to_device
from repro.engine.loop import Hooks, TrainState, train
from repro.engine.optim import build_optimizer
from repro.engine.step import Step, StepResult, build_step, pick_step
from repro.evaluation.counts import Counts
from repro.evaluation.single_crop import Evaluator
from repro.models import build_model
from repro.runtime.device import arithmetic, memory_format, num_threads, set_up

ROUNDS = 5
PAIRS = 5
OVERTIME = 1.3
"""Times the wanted seconds, after which no further round is begun."""

HOST_STEPS = 10

LEARNING_RATE = 0.01
"""Of all timed steps: no speed depends on it, and no net of any depth diverges at it."""


def warmup_steps(device: torch.device) -> int:
    """Steps after the first in which libraries still choose algorithms and take memory."""
    return 20 if device.type == "cuda" else 2


@dataclass(frozen=True)
class Rounds:
    """Repeated timings of the same work."""

    count: int
    """Steps, or images, in each round."""
    seconds: list[float]

    @property
    def ms(self) -> float:
        """Milliseconds for one, median."""
        return 1000 * statistics.median(self.seconds) / self.count

    @property
    def per_second(self) -> float:
        return 1000 / self.ms

    def to_dict(self) -> dict[str, Any]:
        ms = [1000 * s / self.count for s in self.seconds]
        return {"median": self.ms, "min": min(ms), "max": max(ms), "rounds": ms, "count": self.count}


def repeat(action: Callable[[int], float], seconds: float, probe: int = 1) -> Rounds:
    """Calls ``action(count)``, which does so many and returns its seconds, in rounds that fill about ``seconds``.

    Five rounds, but on a machine that turns out slower than at first as few as two.

    Args:
        probe: So many are done first, to see how long one takes.
    """
    count = max(1, int(seconds / ROUNDS / action(probe) * probe))
    rounds: list[float] = []
    while len(rounds) < 2 or (len(rounds) < ROUNDS and sum(rounds) < OVERTIME * seconds):
        rounds.append(action(count))
    return Rounds(count, rounds)


@dataclass(frozen=True)
class Contest:
    """The same work done in two ways, window by window, in turns."""

    ours: Rounds
    theirs: Rounds

    def ratio(self) -> dict[str, Any]:
        """How many times as fast ours is, in each pair of windows and in the median."""
        ratios = [t / o for o, t in zip(self.ours.seconds, self.theirs.seconds, strict=True)]
        return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "pairs": ratios}


def alternate(
    ours: Callable[[int], float], theirs: Callable[[int], float], seconds: float, warmup: int, least: int = 2
) -> Contest:
    """Pairs of windows of the same number of steps, which fill about ``seconds``; every other pair begins with theirs.

    Args:
        ours: Does so many steps and returns their seconds; ``theirs`` likewise. Both are warm.
        warmup: Steps that each does first, to see how long they take.
        least: Steps of a window.
    """
    both = ours(warmup) + theirs(warmup)
    count = max(least, int(seconds / PAIRS / both * warmup))
    our_seconds: list[float] = []
    their_seconds: list[float] = []
    for pair in range(PAIRS):
        if pair > 1 and sum(our_seconds + their_seconds) > OVERTIME * seconds:
            break
        order = [(ours, our_seconds), (theirs, their_seconds)]
        for action, times in order if pair % 2 == 0 else reversed(order):
            times.append(action(count))
    return Contest(Rounds(count, our_seconds), Rounds(count, their_seconds))


class TimedStep:
    """Passes on to ``step`` and keeps how long that took: what is left of a loop's time is the loop's own."""

    def __init__(self, step: Step) -> None:
        self.step, self.seconds = step, 0.0

    def run(self, step: int) -> None:
        start = time.perf_counter()
        self.step.run(step)
        self.seconds += time.perf_counter() - start

    def read(self) -> list[StepResult]:
        start = time.perf_counter()
        results = self.step.read()
        self.seconds += time.perf_counter() - start
        return results


class Rig:
    """A net with all that trains it, as ``repro.engine.prepared`` builds it; ``feed`` in place of the usual batches."""

    def __init__(self, config: RunConfig, dataset: Dataset, feed: Feed | None = None) -> None:
        optim = dataclasses.replace(config.optim, lr=LEARNING_RATE, milestones=(), schedule="milestones", warmup="none")
        self.config = dataclasses.replace(config, optim=optim)
        self.device = set_up(config.execution, optim.precision)
        self.mode = pick_step(config.execution.step, self.device)
        self.model = build_model(config.model, dataset.num_classes, generator_for(config.seed, "init"))
        self.model.recompute = config.execution.checkpoint_activations
        self.model.to(self.device, memory_format=memory_format(self.device))  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, optim)
        self.stream = train_feed(dataset, self.config, self.device) if feed is None else feed
        if isinstance(dataset.eval, Split):
            self.images, self.labels = to_device(dataset.eval, self.device)
        self.window = config.execution.log_steps
        micro_batch = config.execution.micro_batch
        self.step = build_step(
            self.mode, self.model, self.optimizer, self.stream, optim.precision, self.window, micro_batch
        )
        self.state = TrainState()
        self.loop_seconds = 0.0
        self.loop_steps = 0

    def steps(self, count: int) -> float:
        """Seconds of so many steps without the loop; the draws of an epoch are on the device already."""
        self.step.read()
        start = time.perf_counter()
        for done in range(1, count + 1):
            self.step.run(self.state.step)
            self.state.step += 1
            if done % self.window == 0:
                self.step.read()
        self.step.read()  # waits for all of this net's steps, and only for them: others may share the device
        return time.perf_counter() - start

    def loop(self, count: int) -> float:
        """Seconds of so many steps of ``repro.engine.loop.train``, with its data and readings, without evaluations."""
        last = self.state.step + count
        config = dataclasses.replace(
            self.config,
            optim=dataclasses.replace(self.config.optim, steps=last),
            eval=dataclasses.replace(self.config.eval, every_steps=last),
        )
        timed = TimedStep(self.step)
        wait(self.device)
        start = time.perf_counter()
        train(timed, self.optimizer, self.state, config, len(self.stream), NO_HOOKS)
        wait(self.device)
        seconds = time.perf_counter() - start
        self.loop_seconds += seconds - timed.seconds
        self.loop_steps += count
        return seconds

    def warm_up(self) -> float:
        """Seconds of the first step, then some steps more."""
        first = self.steps(1)
        self.steps(warmup_steps(self.device))
        return first

    def host_ms(self) -> float | None:
        """Milliseconds that the host needs to hand a step to an idle device; None where the host is the device."""
        if self.device.type == "cpu":
            return None
        times = []
        for _ in range(HOST_STEPS):
            self.step.read()
            wait(self.device)
            start = time.perf_counter()
            self.step.run(self.state.step)
            times.append(time.perf_counter() - start)
            self.state.step += 1
        self.step.read()
        return 1000 * statistics.median(times)

    def evaluation(self, seconds: float) -> Rounds:
        """Evaluates as many of the images as fit into ``seconds``, in whole batches."""
        batch_size = min(self.config.execution.eval_batch_size, len(self.images))

        def evaluator(count: int) -> Evaluator:
            images = MemoryImages(self.images[:count], self.labels[:count])
            precision = self.config.optim.precision
            return Evaluator(self.model, images, self.stream.stats, batch_size, precision, self.mode)

        def timed(evaluate: Evaluator) -> float:
            wait(self.device)
            start = time.perf_counter()
            evaluate()
            wait(self.device)
            return time.perf_counter() - start

        evaluate, count = evaluator(batch_size), batch_size
        timed(evaluate)
        batches = int(seconds / ROUNDS / timed(evaluate))
        if batches > 1 and count < len(self.images):
            count = min(batches * batch_size, len(self.images))
            evaluate = evaluator(count)
            timed(evaluate)
        return Rounds(count, [timed(evaluate) for _ in range(ROUNDS if batches else 2)])


def identity(rig: Rig) -> dict[str, Any]:
    """What was measured."""
    config, execution = rig.config, rig.config.execution
    return {
        "net": config.model.label,
        "depth": config.model.depth,
        "precision": config.optim.precision,
        "arithmetic": arithmetic(rig.device, config.optim.precision),
        "step": rig.mode,
        "deterministic": execution.deterministic,
        "checkpoint_activations": execution.checkpoint_activations,
        "batch_size": config.optim.batch_size,
        "image_size": config.data.image_size,
        "threads": num_threads(execution),
    }


NO_HOOKS = Hooks(
    logged=lambda state, seen, lr: None,
    evaluate=lambda: Counts(images=1),
    evaluated=lambda state: None,
    save_is_due=lambda: False,
    save=lambda state: None,
    stop=lambda: False,
)
