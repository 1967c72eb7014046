"""A Slurm job, which trains its share of the runs.

Asked to end (SIGUSR2 before the time limit, SIGTERM on preemption) it lets the runs save themselves and puts itself
back into the queue, where it later resumes from their checkpoints. The runs' records are the result: what the job
says of itself is only why some are missing.
"""

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
from repro.runtime.provenance import environment, set_command, write_json

log = logging.getLogger(__name__)
ASKED = 128  # from here on an exit code names a signal
FRUITLESS_STARTS = 3  # starts without a saved step after which the time limit is too short
STILL_OURS = ("RUNNING", "SIGNALING")  # undecided; the second is the warning before the time limit
ELSEWHERE_SECONDS = 600.0  # the wait for a run that another process holds, as on a lost node
LOOK_SECONDS = 10.0


class Asked(BaseException):
    """Somebody asks the job to end while nothing is being trained."""


@dataclass
class Report:
    """The reasons why runs of a job that ended have no record."""

    failed: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    refused: str = ""  # nothing could be trained; one sentence
    again: bool = False  # the job should continue and could not put itself back into the queue


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
        signal.signal(signal.SIGUSR2, _raise)
        signal.signal(signal.SIGTERM, _raise)
        try:
            configs = [for_job(config) for config in submission.configs(self.shard)]
            before = saved(configs)
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
            if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= FRUITLESS_STARTS and saved(configs) == before:
                report.refused = (
                    "the job was stopped again before any run had saved a step: raise execution.slurm.time, or "
                    "lower execution.checkpoint_seconds"
                )
            elif go_on_later():
                sys.exit(ASKED + signal.SIGUSR2)
            else:
                report.again = True
        write_json(submission.outcome_path(self.shard), dataclasses.asdict(report))
        if report.refused:
            log.info(report.refused)
        sys.exit(1 if report.failed or report.refused else 0)


def _raise(number: int, frame: FrameType | None) -> None:
    for either in (signal.SIGTERM, signal.SIGUSR2):  # Slurm may send both: it is one request
        signal.signal(either, signal.SIG_IGN)
    raise Asked


def for_job(config: RunConfig) -> RunConfig:
    """Return the run as a job trains it: here, and on the device that the job was given, never on another."""
    execution, slurm = config.execution, config.execution.slurm
    device = execution.device
    if device == "auto" and slurm is not None:
        device = "cuda" if execution.job_gpus or slurm.shard else "cpu"
    return config.with_execution(engine="local", slurm=None, device=device)


def train(configs: list[RunConfig], report: Report) -> bool:
    """Train what is missing; return whether the job was asked to end before that."""
    from repro.launch.plan import launch  # only now: a job that refuses to start needs no torch

    end = time.monotonic() + ELSEWHERE_SECONDS
    while True:
        result = launch(configs, lambda config: log.info(f"{config.run_id} has its record"))
        report.failed, report.elsewhere = {**report.failed, **result.failed}, tuple(result.elsewhere)
        if result.exit_code >= ASKED:
            return True
        if not result.elsewhere or time.monotonic() > end:
            return False
        # A node that Slurm gave up may still train: the run is its own until the lock is free.
        configs = [config for config in configs if config.run_id in result.elsewhere]
        time.sleep(LOOK_SECONDS)


def saved(configs: list[RunConfig]) -> list[list[str]]:
    """Return the checkpoints and records that each run has."""
    return [
        sorted(p.name for p in c.work_dir.glob("*") if p.suffix == ".pt" or p.name == "record.json") for c in configs
    ]


def go_on_later() -> bool:
    """Put the job back into the queue, unless Slurm has decided already; return whether that is settled."""
    job_id = os.environ["SLURM_JOB_ID"]
    for wait in (1.0, 5.0, 20.0):
        try:
            # Else it was cancelled, or preemption puts it back: to ask again would undo a cancellation.
            if call("squeue", "-h", "-j", job_id, "-o", "%T").strip() in STILL_OURS:
                log.info("stopped: the job goes back into the queue and later resumes from what is saved")
                call("scontrol", "requeue", job_id)
            return True
        except (InputError, RunError) as error:
            log.info(str(error))
            time.sleep(wait)
    return False


def provenance() -> dict[str, Any]:
    """Return what a job must find again when it starts: commit, Python, packages and the package's own files."""
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        code.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    here = environment()
    return {"commit": here["commit"], "code": code.hexdigest(), "python": here["python"], "packages": here["packages"]}


def changed(submitted: dict[str, Any]) -> str:
    """Return a sentence where the code is not what it was when the job was submitted, else nothing."""
    for name, now in provenance().items():
        then = submitted["provenance"][name]
        if then != now:
            if name == "packages":
                then, now = (", ".join(sorted(set(a) - set(b))[:4]) or "less" for a, b in ((then, now), (now, then)))
            again = "the same command submits anew and resumes from what is saved"
            return f"the job was submitted at {name} {then} and would start on {now}: {again}"
    return ""
