"""Submission and collection of runs on Slurm.

The collecting command has no state of its own: it may end at any time, and resumes from the queue and the work folder
when it is repeated.
"""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from repro.config.parse import build
from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.launch.outcome import faults, is_done
from repro.launch.plan import Result, check_folders, summary, warn_uncounted
from repro.launch.slurm.job import Report
from repro.launch.slurm.jobs import FOLDER, Job, call, jobs, known_jobs, last_state
from repro.launch.slurm.submit import submit
from repro.runtime.progress import progress_of
from repro.runtime.provenance import read_json

log = logging.getLogger(__name__)
LOST = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "TIMEOUT"})  # ends that are not the runs' fault
SUBMISSIONS = 3  # the most submissions of a run by one command
SETTLED = 3  # checks in a row that must find a job ended: one that Slurm requeues looks dead for a moment
GONE = "unknown to Slurm"


def launch(
    configs: list[RunConfig],
    finished: Callable[[RunConfig], None],
    line_of: Mapping[str, int] | None = None,
    *,
    detach: bool = False,
) -> Result:
    """Train the missing runs on Slurm, as ``repro.launch.plan.launch`` does here; with ``detach`` only submit them."""
    faulty = faults(configs)
    for run_id, fault in faulty.items():
        log.info(f"{run_id} failed: {fault}")
    result = Result(failed=faulty, exit_code=1 if faulty else 0)
    if len(faulty) == len(configs):
        return result
    sound = [config for config in configs if config.run_id not in faulty]
    check(sound)
    collector = Collector(sound, finished, line_of or {}, result)
    collector.start()
    if not detach:
        collector.collect()
    return collector.result


def check(configs: Sequence[RunConfig]) -> None:
    """Check folders and Slurm's commands; the login node may have other devices and data than the jobs."""
    check_folders(configs)
    for config in configs:
        if odd := set(str(config.paths.work)) & set("'\"\\%\n\r`$"):
            raise InputError(f"paths.work={config.paths.work} must not contain {odd.pop()!r} with execution=slurm")
    call("sbatch", "--version")


@dataclass
class Collector:
    """The runs of one plan, followed until each has a record or a reason for its failure."""

    configs: list[RunConfig]
    finished: Callable[[RunConfig], None]
    line_of: Mapping[str, int]
    result: Result = field(default_factory=Result)
    waiting: dict[str, RunConfig] = field(default_factory=dict)
    last: dict[str, Job] = field(default_factory=dict)  # by run: its job at the last check
    looks: Counter[str] = field(default_factory=Counter)  # by run: checks in a row that found its job ended
    submitted: Counter[str] = field(default_factory=Counter)
    told: str = ""

    @property
    def work(self) -> Path:
        return self.configs[0].paths.work

    def start(self) -> None:
        """Submit the runs that are neither done nor in a job."""
        self.waiting = {c.run_id: c for c in self.configs if not is_done(c)}
        self.result.finished = [c for c in self.configs if is_done(c)]
        if not self.waiting:
            log.info(summary(self.configs, []))
            return
        warn_uncounted(self.waiting.values())
        missing = self.submit_missing(list(self.waiting.values()))
        held, done = len(self.waiting) - missing, len(self.configs) - len(self.waiting)
        counts = ((done, "done"), (held, "in the queue already"), (missing, "submitted"))
        runs = f"{len(self.configs)} {'run' if len(self.configs) == 1 else 'runs'}"
        log.info(", ".join([runs, *(f"{n} {word}" for n, word in counts if n)]))
        log.info("`repro status` shows them, `repro cancel --all` cancels them, the same command collects the results")

    def submit_missing(self, wanted: list[RunConfig]) -> int:
        """Submit the runs without a live job and count them; commands take turns, so that none submits twice."""
        folder = self.work / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            alive = {run_id: job for job in jobs(self.work) for run_id in job.run_ids}
            self.last |= alive
            missing = [config for config in wanted if config.run_id not in alive]
            # Count before: attempts that Slurm refuses must end as well.
            self.submitted.update(config.run_id for config in missing)
            for submission in submit(missing, self.line_of):
                for number, shard in enumerate(submission.shards):
                    self.last |= dict.fromkeys(shard, Job("", "PENDING", "", "", submission, number))
        return len(missing)

    def collect(self) -> None:
        """Wait until every run has ended; Ctrl-C leaves the jobs running."""
        interrupted = False
        poll_seconds = min(c.execution.slurm.poll_seconds for c in self.configs if c.execution.slurm is not None)
        try:
            while self.waiting:
                self.look()
                if self.waiting:
                    time.sleep(poll_seconds)
        except KeyboardInterrupt:
            log.info(
                "\nthe jobs continue; the same command collects the results, `repro cancel --all` cancels the jobs"
            )
            interrupted = True
        self.result.end(self.configs)
        if interrupted:
            self.result.exit_code = 130

    def look(self) -> None:
        asked = list({job.submission.folder: job.submission for job in self.last.values()}.values())
        try:
            # Read the queue before the records: a job that ends in between has then written its records.
            known = {(job.submission.folder, job.shard): job for job in known_jobs(asked)}
        except RunError as error:
            self.tell(f"{error}; asking again")
            return
        for run_id in [run_id for run_id, config in self.waiting.items() if is_done(config)]:
            self.finished(self.waiting.pop(run_id))
        over = [run_id for run_id in self.waiting if self.is_over(run_id, known)]
        lost = [self.waiting[run_id] for run_id in over if not self.is_explained(run_id)]
        if lost:
            try:
                log.info(f"{self.submit_missing(lost)} runs are submitted again: their jobs were lost")
            except RunError as error:
                self.tell(f"{error}; trying again")
                return
        self.tell(self.summary())

    def is_over(self, run_id: str, known: dict[tuple[Path, int], Job]) -> bool:
        """Return whether a run's job has ended, and Slurm has had time to requeue it."""
        job = self.last[run_id]
        # The queue forgets a job some time after its end; only accounting then knows how it ended.
        job = known.get((job.submission.folder, job.shard)) or dataclasses.replace(job, state=GONE)
        self.last[run_id] = job
        self.looks[run_id] = 0 if job.is_alive else self.looks[run_id] + 1
        return self.looks[run_id] >= SETTLED

    def is_explained(self, run_id: str) -> bool:
        """Note why a run has no record after its job ended; return False if it should be submitted again."""
        job = self.last[run_id]
        report = read_report(job.submission.outcome_path(job.shard))
        state = (last_state(job.job_id) if job.state == GONE and job.job_id else job.state) or GONE
        self.looks[run_id] = 0
        if (report.again or state in LOST) and self.submitted[run_id] < SUBMISSIONS:
            return False
        del self.waiting[run_id]
        if run_id in report.elsewhere:
            log.info(f"{run_id} is being trained by another process")
            self.result.elsewhere.append(run_id)
            return True
        output = job.submission.folder / f"{job.job_id}_0_log.out"
        reason = report.failed.get(run_id) or report.refused
        self.result.failed[run_id] = reason or f"its Slurm job {job.job_id} ended as {state} (its output is {output})"
        log.info(f"failed: {run_id}: {self.result.failed[run_id]}")
        return True

    def summary(self) -> str:
        """Describe the state as ``2 of 6 done, 3 running, 1 pending, 41 % of all steps``."""
        total, done = len(self.configs), sum(map(is_done, self.configs))
        states = Counter(self.last[run_id].state.lower() for run_id in self.waiting)
        steps = sum(config.optim.steps for config in self.configs)
        trained = sum(map(step_of, self.configs))
        in_states = [f"{count} {state}" for state, count in sorted(states.items())]
        return ", ".join([f"{done} of {total} done", *in_states, f"{100 * trained // steps} % of all steps"])

    def tell(self, text: str) -> None:
        """Log a line unless it repeats the last one."""
        if text != self.told:
            self.told = text
            log.info(text)


def step_of(config: RunConfig) -> int:
    if is_done(config):
        return config.optim.steps
    told = progress_of(config)
    return told.step if told else 0


def read_report(path: Path) -> Report:
    """Read the report of a job that ended; return an empty one if there is none."""
    try:
        report: Report = build(Report, read_json(path))
    except InputError:
        return Report()
    return report
