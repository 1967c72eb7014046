"""How long a plan takes, before it starts and while several of its runs are under way."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset
from repro.errors import InputError
from repro.launch.cost import estimate
from repro.launch.slots import Place, runs_at_once
from repro.launch.speeds import speeds_of
from repro.runtime.device import device_name, num_threads, pick_device
from repro.runtime.progress import LINE_SECONDS, duration, shown_as
from repro.runtime.provenance import read_progress

BAR_SECONDS = 1.0


def seconds_of(configs: Sequence[RunConfig], datasets: Mapping[DataConfig, Dataset]) -> dict[str, float]:
    """The estimated time of each run, by run id, from its start and alone on the device."""
    sizes = {data: (len(dataset.train), len(dataset.eval)) for data, dataset in datasets.items()}
    known = zip(configs, speeds_of(configs), strict=True)
    return {config.run_id: estimate(config, k.speed, *sizes[config.data]).seconds for config, k in known}


def longest_first(
    configs: Sequence[RunConfig], seconds: Mapping[str, float], line_of: Mapping[str, int]
) -> list[RunConfig]:
    """Sort runs by the plan's lines, and the longest first within a line.

    A long run that starts last would have the machine to itself. Lines keep their order, because a plan that is
    interrupted must have made what its first lines ask for.
    """
    return sorted(configs, key=lambda config: (line_of.get(config.run_id, 0), -seconds[config.run_id]))


def forecast(configs: Sequence[RunConfig], places: Sequence[Place], seconds: Mapping[str, float]) -> str:
    """One line: how long it may take, on what, and how many runs at once."""
    execution = configs[0].execution
    device = pick_device(execution.device)
    on_cpu = device.type == "cpu"
    threads = num_threads(execution)
    counted = "1 thread" if threads == 1 else f"{threads} threads"
    where = device_name(device) + (f", {counted}" if on_cpu else "")
    at_once = runs_at_once(places)
    if at_once == 1:
        return f"about {duration(sum(seconds.values()))} of training on {where}"
    # Runs that share a GPU share its speed.
    shares = at_once if on_cpu else len({place.gpu for place in places})
    total = max(sum(seconds.values()) / shares, *seconds.values())
    if on_cpu:
        where += " each (their number moves the last bits of a result)"
    return f"about {duration(total)} of training, {at_once} runs at once on {where}"


class PlanProgress:
    """Shows several runs at once, from what they write into their folders: a line each and one for all, or a bar."""

    def __init__(self, style: str, seconds: Mapping[str, float], at_once: int, say: Callable[[str], None]) -> None:
        self._style, self._seconds, self._at_once, self._plain_say = shown_as(style), seconds, at_once, say
        self._shown = time.monotonic()
        self._slower: dict[str, float] = {}
        """Measured time over the estimate, by run."""
        self._bar: Any = None
        if self._style == "bar":
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=sum(seconds.values()), bar_format=form, dynamic_ncols=True, leave=False)

    def say(self, text: str) -> None:
        """A line for the user, above the bar."""
        with self.aside():
            self._plain_say(text)

    def aside(self) -> contextlib.AbstractContextManager[object]:
        """Takes the bar out of the way while something is printed."""
        return contextlib.nullcontext() if self._bar is None else tqdm.external_write_mode()

    def look(self, running: Sequence[RunConfig], waiting: Sequence[RunConfig]) -> None:
        """Shows how far the runs are, at most every few seconds."""
        every = {"bar": BAR_SECONDS, "lines": LINE_SECONDS}.get(self._style)
        if every is None or time.monotonic() - self._shown < every:
            return
        self._shown = time.monotonic()
        told = {config.run_id: told_by(config) for config in running}
        left = self._seconds_left(told, waiting)
        done = len(self._seconds) - len(running) - len(waiting)
        total = f"{done} of {len(self._seconds)} runs ended, about {duration(left)} left for all"
        if self._bar is None:
            for config in running:
                self._plain_say(f"  {config.model.label} s{config.seed}: {line(config, told[config.run_id])}")
            self._plain_say(f"  {total}")
            return
        ended = sum(self._seconds.values()) - sum(self._seconds[c.run_id] for c in [*running, *waiting])
        self._bar.n = ended + sum(self._seconds[i] * t.get("step", 0) / t.get("steps", 1) for i, t in told.items())
        shares = [f"{c.model.label} s{c.seed} {percent(told[c.run_id])}" for c in running]
        self._bar.set_description_str(", ".join(shares), refresh=False)
        self._bar.set_postfix_str(total)

    def _seconds_left(self, told: Mapping[str, dict[str, Any]], waiting: Sequence[RunConfig]) -> float:
        """Estimates, corrected by how much slower the runs so far have been."""
        left: list[float] = []
        for run_id, values in told.items():
            step, steps = values.get("step", 0), values.get("steps", 0)
            if 0 < step < steps:
                left.append(values["seconds_left"])
                self._slower[run_id] = values["seconds_left"] * steps / (steps - step) / self._seconds[run_id]
        slower = sum(self._slower.values()) / len(self._slower) if self._slower else 1.0
        unknown = [self._seconds[i] * slower for i in told if i not in self._slower]
        unknown += [self._seconds[config.run_id] * slower for config in waiting]
        return max(sum(left + unknown) / self._at_once, *left, *unknown, 0.0)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def told_by(config: RunConfig) -> dict[str, Any]:
    """What the run last wrote of its progress; empty before the first time, and where it cannot be read."""
    try:
        told = read_progress(config.work_dir)
    except InputError:
        return {}
    return {} if told is None else dataclasses.asdict(told)


def percent(told: Mapping[str, Any]) -> str:
    return f"{100 * told.get('step', 0) / told.get('steps', 1):.0f} %"


def line(config: RunConfig, told: Mapping[str, Any]) -> str:
    """Progress of one run."""
    if not told:
        return "starting"
    speed = f"{told['images_per_second']:,.0f} images/s, " if told["images_per_second"] else ""
    return (
        f"step {told['step']:,} of {config.optim.steps:,}, {speed}train error {told['train_error']:.2f} %, "
        f"{duration(told['seconds_left'])} left"
    )
