"""Carries out a plan: skips finished runs, resumes unfinished ones, goes on past a failed one and lists it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from repro import checkpoint
from repro.config import DataConfig, RunConfig
from repro.cost import calibrate, estimate
from repro.data import Dataset, load
from repro.device import device_name, num_threads, pick_device
from repro.errors import InputError, RunError
from repro.progress import duration
from repro.record import environment
from repro.resources import default_path
from repro.run import check_folder, run
from repro.stop import Stopper

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


def launch(configs: list[RunConfig], command: str, say: Say, finished: Callable[[RunConfig], None]) -> Result:
    """Trains what is missing, one run after the other; ``finished`` is called after each run that ends with a record.

    Raises:
        InputError: Something that the plan needs is wrong; nothing was started.
    """
    check(configs)
    waiting = [c for c in configs if not is_done(c)]
    environment()  # now, as it is cached: the checkout may change while a long sweep trains
    say(summary(configs, waiting))
    result = Result()
    if waiting:
        datasets = load_all(waiting, say)
        say(forecast(waiting, datasets))
        with Stopper(waiting[0].execution.max_minutes) as stopper:
            for number, config in enumerate(waiting, 1):
                say(f"[{number}/{len(waiting)}] {config.run_id}")
                if done := attempt(config, datasets[config.data], command, stopper, say, result):
                    finished(config)
                if stopper.asked() and (not done or number < len(waiting)):
                    say(f"stopped ({stopper.reason}): everything is saved; the same command goes on")
                    result.exit_code = stopper.exit_code
                    break
    result.finished = [c for c in configs if is_done(c)]
    if result.failed and not result.exit_code:
        result.exit_code = 1
    return result


def attempt(config: RunConfig, dataset: Dataset, command: str, stopper: Stopper, say: Say, result: Result) -> bool:
    """Whether one run ended with a record. A failure is noted, in its folder too, and does not spread."""
    failure = config.work_dir / "failure.txt"
    try:
        config.work_dir.mkdir(parents=True, exist_ok=True)
        # A second, not none: a status command holds the lock for a moment when it looks.
        with FileLock(config.work_dir / "lock", timeout=1):
            if is_done(config):
                return True
            failure.unlink(missing_ok=True)
            return run(config, dataset, command, stopper, say) is not None
    except Timeout:
        say(f"{config.run_id} is being trained by another process")
        result.elsewhere.append(config.run_id)
    except RunError as error:
        result.failed[config.run_id] = str(error)
    except Exception as error:  # out of memory, a fault of the device: the other runs go on
        first = (str(error).splitlines() or [""])[0]
        result.failed[config.run_id] = f"{type(error).__name__}: {first} (all of it in {failure})"
        _keep(failure, traceback.format_exc())
    if config.run_id in result.failed:
        say(f"failed: {result.failed[config.run_id]}")
        if not failure.exists():
            _keep(failure, result.failed[config.run_id])
    return False


def _keep(path: Path, text: str) -> None:
    """Best effort: a full disk must not hide what went wrong."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        return


def is_done(config: RunConfig) -> bool:
    """A run that has a record is complete: the record is written last. Published records never count."""
    return (config.work_dir / "record.json").exists()


def check(configs: list[RunConfig]) -> None:
    """All that can be known to be wrong before anything starts.

    Raises:
        InputError: A folder, a device or a run's folder does not fit.
    """
    for path in {p for c in configs for p in (c.paths.work, c.paths.results)}:
        check_folder_is_usable(path)
    for device in {c.execution.device for c in configs}:
        pick_device(device)
    for config in configs:
        check_folder(config)


def check_folder_is_usable(path: Path) -> None:
    """Refuses a path that no folder can be at.

    Raises:
        InputError: ``path``, or the nearest of its parents that exists, is not a folder that can be written.
    """
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"{path} cannot be used as a folder: {there} is a file")
    probe = there / ".repro-write-test"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"the folder {path} cannot be written ({error.strerror})") from error


def load_all(configs: list[RunConfig], say: Say) -> dict[DataConfig, Dataset]:
    """The data sets of the runs. Only the default data folder is filled by itself: one that the user names is read."""
    datasets: dict[DataConfig, Dataset] = {}
    for config in configs:
        if config.data not in datasets:
            root = config.paths.data
            mine = root == default_path("data").absolute()
            datasets[config.data] = load(config.data, root, may_fetch=mine, say=say, cache=config.paths.work / "cache")
    return datasets


def forecast(waiting: list[RunConfig], datasets: dict[DataConfig, Dataset]) -> str:
    """One line: how long it may take, from the start of each run, and on what."""
    speed = calibrate(waiting[0])
    sizes = [(config, len(datasets[config.data].train), len(datasets[config.data].eval)) for config in waiting]
    seconds = sum(estimate(config, speed, train, evaluated).seconds for config, train, evaluated in sizes)
    execution = waiting[0].execution
    device = pick_device(execution.device)
    where = device_name(device) + (f", {num_threads(execution)} threads" if device.type == "cpu" else "")
    return f"about {duration(seconds)} of training on {where}"


def summary(configs: list[RunConfig], waiting: list[RunConfig]) -> str:
    """One line: how many runs are done, to be resumed and to be started."""
    if not waiting:
        return f"nothing is left to do: all {len(configs)} runs have a record in {configs[0].paths.work}"
    resumed = sum(bool(checkpoint.checkpoints(c.work_dir)) for c in waiting)
    parts = [f"{len(configs)} {'run' if len(configs) == 1 else 'runs'}"]
    parts += [f"{n} {word}" for n, word in ((len(configs) - len(waiting), "done"), (resumed, "to resume")) if n]
    return f"{', '.join(parts)}, {len(waiting) - resumed} to start"
