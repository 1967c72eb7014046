"""Carries out a plan: skips finished runs, resumes unfinished ones, goes on past a failed one and lists it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, load_for
from repro.engine.resume import check_folder
from repro.engine.step import pick_step
from repro.errors import InputError
from repro.launch import torchrun
from repro.launch.attempts import Outcome, attempt, is_done
from repro.launch.estimates import PlanProgress, forecast, longest_first, seconds_of
from repro.launch.pool import Pool
from repro.launch.slots import Place, places_for, runs_at_once, share_processors, shared_gpus
from repro.runtime import checkpoint
from repro.runtime.device import pick_device
from repro.runtime.progress import duration
from repro.runtime.provenance import uncounted
from repro.runtime.stop import LATER, Stopper

Say = Callable[[str], None]


@dataclass
class Result:
    """What became of the runs of a plan."""

    finished: list[RunConfig] = field(default_factory=list)
    """All runs of the plan that have a record, those of earlier commands included."""
    failed: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    """Runs that another process is training."""
    exit_code: int = 0


def launch(
    configs: list[RunConfig],
    command: str,
    say: Say,
    finished: Callable[[RunConfig], None],
    line_of: Mapping[str, int] | None = None,
) -> Result:
    """Trains what is missing, one run after the other or several at once.

    Args:
        finished: Called after each run that ends with a record.
        line_of: The plan's line of each run, by run id. Runs at once start line by line, the longest of a line first;
            without it all runs are of one line.

    Raises:
        InputError: Something that the plan needs is wrong; nothing was started.
    """
    check(configs)
    waiting = [on_device(c) for c in configs if not is_done(c)]
    # Now, as it is cached: the checkout may change while a long sweep trains.
    if (reason := uncounted()) and any(config.scale == "paper" for config in waiting):
        say(reason)
    result = Result()
    if not waiting:
        say(summary(configs, waiting))
    else:
        places = places_for(waiting)
        if waiting[0].execution.profile and any(place.width > 1 for place in places):
            raise InputError("execution.profile=true traces one run of a process: add execution.runs_per_gpu=1")
        # On a CPU the share of the whole plan: threads move the last bits, and each time fewer runs are left.
        on_cpu = waiting[0].execution.device == "cpu"
        waiting = share_processors(waiting, places_for(configs) if on_cpu else places)
        say(summary(configs, waiting))
        carry_out(waiting, places, command, say, finished, result, line_of or {})
    result.finished = [c for c in configs if is_done(c)]
    done = {c.run_id for c in result.finished}
    result.elsewhere = [run_id for run_id in result.elsewhere if run_id not in done]
    if result.elsewhere:
        say(f"left to other processes: {', '.join(result.elsewhere)}; the same command shows them once they are done")
    if not result.exit_code:
        result.exit_code = 1 if result.failed else LATER if result.elsewhere else 0
    return result


def on_device(config: RunConfig) -> RunConfig:
    """The run with the device named that ``auto`` is here: a process that does not find it must not take another."""
    device: Any = pick_device(config.execution.device).type
    return dataclasses.replace(config, execution=dataclasses.replace(config.execution, device=device))


def carry_out(
    waiting: list[RunConfig],
    places: list[Place],
    command: str,
    say: Say,
    finished: Callable[[RunConfig], None],
    result: Result,
    line_of: Mapping[str, int],
) -> None:
    """Trains ``waiting`` and notes in ``result`` what went wrong."""
    datasets = load_all(waiting, say)
    seconds = seconds_of(waiting, datasets)
    say(forecast(waiting, places, seconds))
    left = {config.run_id for config in waiting}

    def ended(config: RunConfig, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            return
        left.discard(config.run_id)
        if outcome.state == "finished":
            finished(config)
        elif outcome.state == "elsewhere":
            say(outcome.reason)
            result.elsewhere.append(config.run_id)
        else:
            result.failed[config.run_id] = outcome.reason
            say(f"{f'{config.run_id} ' * bool(places)}failed: {outcome.reason}")

    with Stopper(waiting[0].execution.max_minutes) as stopper:
        if places:
            datasets.clear()  # each worker has its own
            at_once(longest_first(waiting, seconds, line_of), places, command, stopper, seconds, say, ended)
        else:
            left_over = one_after_another(waiting, datasets, command, stopper, say, ended)
            if left_over:
                say("this process had a fault: the other runs go on in another one")
                datasets.clear()
                at_once(left_over, [Place()], command, stopper, seconds, say, ended)
        if stopper.asked() and left:
            say(f"stopped ({stopper.reason}): everything is saved; the same command goes on")
            result.exit_code = stopper.exit_code


def one_after_another(
    waiting: Sequence[RunConfig],
    datasets: dict[DataConfig, Dataset],
    command: str,
    stopper: Stopper,
    say: Say,
    ended: Callable[[RunConfig, Outcome], None],
) -> Sequence[RunConfig]:
    """In this process; returns the runs that it cannot be trusted with any more, after an error nobody foresaw."""
    for number, config in enumerate(waiting, 1):
        left = ""
        if number > 1:  # the runs before this one tell how fast it is by now
            seconds = seconds_of(waiting[number - 1 :], datasets)
            left = f", about {duration(sum(seconds.values()))} left for all"
        say(f"[{number}/{len(waiting)}] {config.run_id}{left}")
        outcome = attempt(config, lambda config: datasets[config.data], command, stopper, say)
        ended(config, outcome)
        if stopper.asked():
            return []
        if not outcome.sound:
            return waiting[number:]
    return []


def at_once(
    waiting: Sequence[RunConfig],
    places: Sequence[Place],
    command: str,
    stopper: Stopper,
    seconds: dict[str, float],
    say: Say,
    ended: Callable[[RunConfig, Outcome], None],
) -> None:
    """In worker processes."""
    progress = PlanProgress(waiting[0].execution.progress, seconds, runs_at_once(places), say)

    def told(config: RunConfig, outcome: Outcome) -> None:
        with progress.aside():
            ended(config, outcome)

    try:
        with shared_gpus(places, waiting) as (shared, environment):
            Pool(shared, environment, command, progress.say, told, progress.look).train(waiting, stopper)
    finally:
        progress.close()


def check(configs: list[RunConfig]) -> None:
    """All that can be known to be wrong before anything starts.

    Raises:
        InputError: A folder, a device, a step mode or a run's folder does not fit.
    """
    for path in {p for c in configs for p in (c.paths.work, c.paths.results)}:
        check_folder_is_usable(path)
    for device, step in {(c.execution.device, c.execution.step) for c in configs}:
        pick_step(step, pick_device(device))
    for config in configs:
        check_folder(config)
        if config.execution.num_ranks > 1:
            torchrun.check(config.execution)


def check_folder_is_usable(path: Path) -> None:
    """Refuses a path that no folder can be at.

    Raises:
        InputError: ``path``, or the nearest of its parents that exists, is not a folder that can be written.
    """
    try:
        there = next(p for p in (path, *path.parents) if p.exists())
    except OSError as error:  # a folder above it cannot be entered, or its name is too long
        raise InputError(f"the folder {path} cannot be used ({error.strerror})") from error
    if not there.is_dir():
        raise InputError(f"{path} cannot be used as a folder: {there} is a file")
    probe = there / f".repro-write-test-{os.getpid()}"  # another launcher may try the same folder
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the folder {path} cannot be written ({error.strerror}): name another with paths.work= or paths.results="
        ) from error


def load_all(configs: list[RunConfig], say: Say) -> dict[DataConfig, Dataset]:
    """The data sets of the runs."""
    datasets: dict[DataConfig, Dataset] = {}
    for config in configs:
        if config.data not in datasets:
            datasets[config.data] = load_for(config)
    return datasets


def summary(configs: list[RunConfig], waiting: list[RunConfig]) -> str:
    """One line: how many runs are done, to be resumed and to be started."""
    if not waiting:
        return f"nothing is left to do: all {len(configs)} runs have a record in {configs[0].paths.work}"
    resumed = sum(bool(checkpoint.checkpoints(c.work_dir)) for c in waiting)
    parts = [f"{len(configs)} {'run' if len(configs) == 1 else 'runs'}"]
    parts += [f"{n} {word}" for n, word in ((len(configs) - len(waiting), "done"), (resumed, "to resume")) if n]
    return f"{', '.join(parts)}, {len(waiting) - resumed} to start"
