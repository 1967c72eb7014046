"""A Slurm job, which trains its share of the runs.

Before its time limit (SIGUSR2) or on preemption (SIGTERM) the job lets its runs save themselves and requeues itself,
to resume later from their checkpoints. The runs' records are its result; its report only explains missing ones.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from repro.config.paths import PACKAGE
from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.launch.slurm.jobs import Submission, call
from repro.runtime.log import print_line, send_to
from repro.runtime.output import steady
from repro.runtime.provenance import commit, environment, read_json, set_command, write_json

log = logging.getLogger(__name__)
ASKED = 128  # exit codes from here on name a signal
FRUITLESS_STARTS = 3  # after so many starts in a row without a saved step, the time limit is too short
UNDECIDED = ("RUNNING", "SIGNALING")  # states in which the job may requeue itself; the second warns of its time limit
ELSEWHERE_SECONDS = 600.0  # the wait for a run that another process trains, as on a lost node
LOOK_SECONDS = 10.0


class Asked(BaseException):
    """A request to end the job while it trains nothing."""


@dataclass
class Report:
    """The reasons for the missing records of a job that ended."""

    failed: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    refused: str = ""  # why nothing could be trained, in one sentence
    again: bool = False  # the job should continue but could not requeue itself


@dataclass(frozen=True)
class ShardJob:
    """The function that submitit calls inside the job. Its configurations are in the submission's file."""

    folder: Path
    shard: int

    def __call__(self) -> None:
        steady()
        send_to(print_line)
        submission = Submission.read(self.folder)
        submission.outcome_path(self.shard).unlink(missing_ok=True)
        report, asked = Report(), False
        configs: list[RunConfig] = []
        before: dict[Path, int] = {}
        signal.signal(signal.SIGUSR2, _raise)
        signal.signal(signal.SIGTERM, _raise)
        try:
            configs = [for_job(config) for config in submission.configs(self.shard)]
            before = saved(configs)
            take_commit(submission.values)
            if refusal := changed(submission.values):
                raise InputError(refusal)
            set_command(str(submission.values["command"]))
            asked = train(configs, report)
        except Asked:
            asked = True
        except (InputError, RunError) as error:
            report.refused = str(error)
        except Exception as error:
            traceback.print_exc()
            report.refused = f"{type(error).__name__}: {error}"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if asked and not report.refused:
            if self.fruitless_starts(has_saved=saved(configs) != before) >= FRUITLESS_STARTS:
                report.refused = (
                    "the job was stopped again before any run had saved a step: raise execution.slurm.time, or "
                    "lower execution.checkpoint_seconds"
                )
            elif requeue():
                sys.exit(ASKED + signal.SIGUSR2)
            else:
                report.again = True
        write_json(submission.outcome_path(self.shard), dataclasses.asdict(report))
        if report.refused:
            log.info(report.refused)
        sys.exit(1 if report.failed or report.refused else 0)

    def fruitless_starts(self, *, has_saved: bool) -> int:
        """Return how many starts in a row have saved nothing, with this one; a file keeps the number."""
        path = self.folder / f"fruitless_{self.shard}.json"
        if has_saved:
            path.unlink(missing_ok=True)
            return 0
        starts = 1 + (int(read_json(path)["starts"]) if path.exists() else 0)
        write_json(path, {"starts": starts})
        return starts


def _raise(number: int, frame: FrameType | None) -> None:
    for either in (signal.SIGTERM, signal.SIGUSR2):  # Slurm may send both for one request
        signal.signal(either, signal.SIG_IGN)
    raise Asked


def for_job(config: RunConfig) -> RunConfig:
    """Return the run as the job trains it: on its own node, and only on the device that Slurm gave it."""
    execution, slurm = config.execution, config.execution.slurm
    device = execution.device
    if device == "auto" and slurm is not None:
        device = "cuda" if execution.job_gpus or slurm.shard else "cpu"
    return config.with_execution(engine="local", slurm=None, device=device)


def train(configs: list[RunConfig], report: Report) -> bool:
    """Train the missing runs; return whether the job was asked to end before they ended."""
    from repro.launch.plan import launch  # imported late: a job that refuses to start needs no torch

    end = time.monotonic() + ELSEWHERE_SECONDS
    while True:
        result = launch(configs, lambda config: log.info(f"{config.run_id} has its record"))
        report.failed, report.elsewhere = {**report.failed, **result.failed}, tuple(result.elsewhere)
        if result.exit_code >= ASKED or result.stopped:
            return True
        if not result.elsewhere or time.monotonic() > end:
            return False
        # A node that Slurm declared lost may still train its run, until it releases the lock.
        configs = [config for config in configs if config.run_id in result.elsewhere]
        time.sleep(LOOK_SECONDS)


def saved(configs: list[RunConfig]) -> dict[Path, int]:
    """Return the files with the progress of each run, and the times of their last changes."""
    found = {}
    for path in (path for config in configs for path in config.work_dir.rglob("*")):
        if path.suffix in (".pt", ".npz") or path.name == "record.json":
            with contextlib.suppress(OSError):  # another process that trains the run may have removed it
                found[path] = path.stat().st_mtime_ns
    return found


def job_id() -> str:
    """Return the id of this job for Slurm's commands."""
    # In one job of an array both ids are the same number, which the commands take for the whole array.
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def requeue() -> bool:
    """Requeue the job, unless Slurm has already decided about it; return whether either is certain."""
    this = job_id()
    for wait in (1.0, 5.0, 20.0):
        try:
            # Otherwise it was cancelled, which requeuing would undo, or preemption requeues it.
            if call("squeue", "-h", "-j", this, "-o", "%T").strip() in UNDECIDED:
                log.info("stopped: the job is requeued and later resumes from its checkpoints")
                call("scontrol", "requeue", this)
            return True
        except (InputError, RunError) as error:
            log.info(str(error))
            time.sleep(wait)
    return False


def provenance() -> dict[str, Any]:
    """Return the commit, Python, packages and digest of the code, which must be the same when a job starts."""
    here = environment()
    return {"commit": here["commit"], "code": digest(), "python": here["python"], "packages": here["packages"]}


def digest() -> str:
    """Return the digest of the code."""
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        code.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return code.hexdigest()


def take_commit(submitted: dict[str, Any]) -> None:
    """Take the commit from the submission if it has the same code, and git tells none on this node."""
    then, dirty = submitted["provenance"], submitted.get("dirty")
    if commit() == "unknown" and digest() == then["code"]:
        os.environ["REPRO_COMMIT"] = then["commit"]
        if dirty is not None:
            os.environ["REPRO_DIRTY"] = str(int(dirty))


def changed(submitted: dict[str, Any]) -> str:
    """Return a sentence if the code has changed since the job was submitted, otherwise an empty text."""
    for name, now in provenance().items():
        then = submitted["provenance"][name]
        if then != now:
            if name == "packages":
                then, now = (", ".join(sorted(set(a) - set(b))[:4]) or "less" for a, b in ((then, now), (now, then)))
            again = "repeat the command to submit it again and resume from the checkpoints"
            return f"the job was submitted with {name} {then} but would start with {now}: {again}"
    return ""
