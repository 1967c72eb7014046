"""Training of a plan's runs on this machine."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repro.config.run import DataConfig, RunConfig
from repro.data import AnyDataset, load_any
from repro.engine.resume import check_folder
from repro.engine.step import pick_random_step, pick_step
from repro.errors import InputError
from repro.launch import torchrun
from repro.launch.attempts import attempt
from repro.launch.compiled import with_steps
from repro.launch.estimates import PlanProgress, forecast, longest_first, seconds_of
from repro.launch.lacking import check_weights, starts
from repro.launch.outcome import Outcome, faults, is_done
from repro.launch.pool import Pool
from repro.launch.schedules import schedules_text
from repro.launch.slots import Slot, runs_at_once, share_processors, shared_gpus, slots_for
from repro.runtime import checkpoint
from repro.runtime.device import pick_device
from repro.runtime.log import notice
from repro.runtime.progress import duration, set_seconds_after
from repro.runtime.provenance import uncounted
from repro.runtime.stop import LATER, Stopper

log = logging.getLogger(__name__)


@dataclass
class Result:
    """The result of a plan."""

    finished: list[RunConfig] = field(
        default_factory=list
    )  # all runs with a record, including those of earlier commands
    failed: dict[str, str] = field(default_factory=dict)  # reasons by run id
    elsewhere: list[str] = field(default_factory=list)  # runs that another process is training
    stopped: list[str] = field(default_factory=list)  # runs that were stopped and saved, on anyone's request
    exit_code: int = 0

    def end(self, configs: Sequence[RunConfig]) -> None:
        """Note which runs have a record by now, and set the exit code."""
        self.finished = [c for c in configs if is_done(c)]
        done = {c.run_id for c in self.finished}
        self.elsewhere = [run_id for run_id in self.elsewhere if run_id not in done]
        self.exit_code = 1 if self.failed else LATER if self.elsewhere or self.stopped else 0
        if self.elsewhere:
            others = ", ".join(self.elsewhere)
            log.info(f"left to other processes: {others}; the same command shows them once they are done")


def launch(
    configs: list[RunConfig], finished: Callable[[RunConfig], None], line_of: Mapping[str, int] | None = None
) -> Result:
    """Train the missing runs, in sequence or in parallel; a failed run does not stop the others.

    Args:
        finished: Called after each run that ends with a record.
        line_of: The plan's line of each run, by run id. Parallel runs start line by line, the longest of a line first.

    Raises:
        InputError: A setting is invalid; nothing was started.
    """
    faulty = faults(configs)
    for run_id, fault in faulty.items():
        log.info(f"{run_id} failed: {fault}")
    if len(faulty) == len(configs):
        return Result(failed=faulty, exit_code=1)
    check(configs, faulty)
    plan = Launch(configs, finished, line_of or {}, faulty)
    with Stopper(configs[0].execution.max_minutes) as stopper:
        plan.one_after_another(stopper)
        plan.at_once(stopper)
        return plan.end(stopper)


class Launch:
    """A plan in progress: its waiting runs, the slots that train them, and the result so far."""

    def __init__(
        self,
        configs: list[RunConfig],
        finished: Callable[[RunConfig], None],
        line_of: Mapping[str, int],
        faulty: Mapping[str, str],
    ) -> None:
        self.configs, self.finished = [config for config in configs if config.run_id not in faulty], finished
        self.result = Result(failed=dict(faulty))
        waiting, self.slots = assign(configs, faulty)
        log.info(summary(self.configs, waiting))
        if text := schedules_text(waiting):
            log.info(text)
        self.datasets = load_all(waiting)
        self.seconds = seconds_of(waiting, self.datasets)
        if waiting:
            log.info(forecast(waiting, self.slots, self.seconds))
        self.queue = longest_first(waiting, self.seconds, line_of) if self.slots else waiting
        self.open = set(self.seconds)  # the ids of the runs that have not ended

    def one_after_another(self, stopper: Stopper) -> None:
        """Train in this process if there are no slots, until it has a fault."""
        planned = len(self.queue)
        while self.queue and not self.slots:
            number, left, seconds = planned - len(self.queue) + 1, "", self.seconds
            if number > 1:  # finished runs give a better estimate
                seconds = seconds_of(self.queue, self.datasets)
                left = f", about {duration(sum(seconds.values()))} left for all"
            config = self.pop_ready()
            set_seconds_after(sum(seconds[c.run_id] for c in self.queue))
            log.info(f"[{number}/{planned}] {config.run_id}{left}")
            outcome = attempt(config, lambda config: self.datasets[config.data], stopper)
            self.ended(config, outcome)
            if stopper.asked() or not outcome.sound:
                return

    def pop_ready(self) -> RunConfig:
        """Take the first waiting run that needs the weights of no other waiting run."""
        waiting = {config.run_id for config in self.queue}
        ready = next((config for config in self.queue if not waiting & set(starts(config))), self.queue[0])
        self.queue.remove(ready)
        return ready

    def at_once(self, stopper: Stopper) -> None:
        """Train in worker processes: all runs if there are slots, otherwise those left after a fault of this one."""
        if not self.slots:
            if stopper.asked() or not self.queue:
                return
            log.info("this process had a fault: the other runs continue in another one")
        slots = self.slots or [Slot()]
        self.datasets.clear()  # each worker has its own
        progress = PlanProgress(self.queue[0].execution.progress, self.seconds, runs_at_once(slots))
        with contextlib.closing(progress), shared_gpus(slots, self.queue) as (shared, environment):
            Pool(shared, environment, self.ended, progress.look).train(self.queue, stopper)

    def ended(self, config: RunConfig, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            self.result.stopped.append(config.run_id)
            return
        self.open.discard(config.run_id)
        if outcome.state == "done":
            self.finished(config)
        elif outcome.state == "elsewhere":
            log.info(outcome.reason)
            self.result.elsewhere.append(config.run_id)
        else:
            self.result.failed[config.run_id] = outcome.reason
            name = f"{config.run_id} " if self.slots else ""
            log.info(f"{name}failed: {outcome.reason}")

    def end(self, stopper: Stopper) -> Result:
        result = self.result
        result.end(self.configs)
        if stopper.asked() and self.open:
            log.info(f"stopped ({stopper.reason}): everything is saved; the same command resumes")
            result.exit_code = stopper.exit_code
        elif result.stopped:
            log.info(f"{', '.join(result.stopped)} stopped on request and saved; the same command resumes")
        return result


def assign(configs: list[RunConfig], faulty: Collection[str]) -> tuple[list[RunConfig], list[Slot]]:
    """Return the runs without a record, with their device and threads set, and the slots that train them.

    Args:
        faulty: The ids of the runs whose folder cannot be used.
    """
    waiting = [config for config in configs if not is_done(config) and config.run_id not in faulty]
    # Replace ``auto``: another process must not silently take another device.
    waiting = [config.with_execution(device=pick_device(config.execution.device).type) for config in waiting]
    warn_uncounted(waiting)
    if not waiting:
        return [], []
    slots = slots_for(waiting)
    if waiting[0].execution.profile and any(slot.width > 1 for slot in slots):
        raise InputError("execution.profile=true traces one run of a process: add execution.runs_per_gpu=1")
    waiting = with_steps(waiting, runs_at_once(slots))
    # On a CPU share with all runs of the plan: threads change the last bits, and a resumed plan has fewer runs left.
    on_cpu = waiting[0].execution.device == "cpu"
    return share_processors(waiting, slots_for(configs) if on_cpu else slots), slots


def warn_uncounted(configs: Iterable[RunConfig]) -> None:
    """Log the reason if runs at the paper's budget will not count as measured."""
    # Call it for every plan, since it is cached: the checkout may change while a long sweep trains.
    reason = uncounted()
    if reason and any(config.scale == "paper" for config in configs):
        log.info(reason)


def check(configs: list[RunConfig], faulty: Collection[str] = ()) -> None:
    """Check folders, steps and devices; raise an InputError before anything starts. Runs in ``faulty`` do not start."""
    check_folders([config for config in configs if config.run_id not in faulty])
    for device, step, is_random in {(c.execution.device, c.execution.step, c.model.is_random) for c in configs}:
        pick = pick_random_step if is_random else pick_step
        pick(step, pick_device(device))
    planned = {config.run_id for config in configs}
    for config in configs:
        if config.execution.num_ranks > 1:
            torchrun.check(config.execution)
        check_weights(config, planned)


def check_folders(configs: Sequence[RunConfig]) -> None:
    """Refuse folders that cannot be written, and run folders that contain another run."""
    for path in {p for c in configs for p in (c.paths.work, c.paths.results)}:
        check_folder_is_usable(path)
    for config in configs:
        check_folder(config)


def check_folder_is_usable(path: Path) -> None:
    try:
        there = next(p for p in (path, *path.parents) if p.exists())
        if not there.is_dir():
            raise InputError(f"{path} cannot be used as a folder: {there} is a file")
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:  # it is read-only, a folder above it cannot be entered, or its name is too long
        raise InputError(
            f"the folder {path} cannot be used ({error.strerror}): name another with paths.work= or paths.results="
        ) from error


def load_all(configs: list[RunConfig]) -> dict[DataConfig, AnyDataset]:
    found: dict[DataConfig, AnyDataset] = {}
    for config in configs:
        if config.data not in found:
            notice(f"reading {config.data.name}")
            found[config.data] = load_any(config)
    return found


def summary(configs: list[RunConfig], waiting: list[RunConfig]) -> str:
    """Describe in one line how many runs are done, to resume and to start."""
    if not waiting:
        return f"nothing is left to do: all {len(configs)} runs have a record in {configs[0].paths.work}"
    resumed = sum(bool(checkpoint.checkpoints(c.work_dir)) for c in waiting)
    parts = [f"{len(configs)} {'run' if len(configs) == 1 else 'runs'}"]
    parts += [f"{n} {word}" for n, word in ((len(configs) - len(waiting), "done"), (resumed, "to resume")) if n]
    return f"{', '.join(parts)}, {len(waiting) - resumed} to start"
