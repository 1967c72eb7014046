"""The state of every run in the work folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.errors import InputError, first_line
from repro.launch.outcome import FAILURE
from repro.launch.slurm.jobs import Job
from repro.runtime.lock import is_held, owner
from repro.runtime.progress import read_progress
from repro.runtime.provenance import read_json


@dataclass(frozen=True)
class RunStatus:
    run_id: str
    state: str
    """``done``, ``running``, ``queued`` (in Slurm's queue), ``failed``, ``interrupted`` or ``broken``."""
    steps: int = 0
    step: int = 0
    error: float | None = None
    """Percent: the final error of a finished run, otherwise the running training error."""
    images_per_second: float | None = None
    seconds_left: float | None = None
    note: str = ""
    """The process or job that trains it, why it failed, or what is broken."""


def statuses(work: Path, jobs: Sequence[Job] = ()) -> list[RunStatus]:
    """Return the status of all runs in ``work`` and in Slurm's queue, by name."""
    found = {path.parent.name: status(path.parent) for path in work.glob("*/config.json")}
    for job in jobs:
        try:
            configs = job.submission.configs(job.shard)
        except InputError:
            note = f"job {job.job_id}: submitted by another version of the program"
            for run_id in job.run_ids:
                found.setdefault(run_id, RunStatus(run_id, "queued", note=note))
            continue
        for config in configs:
            before = found.get(config.run_id) or RunStatus(config.run_id, "queued", config.optim.steps)
            if before.state != "done":
                state = before.state if before.state == "running" else "queued"
                about = " ".join(filter(None, (job.state.lower(), job.nodes, f"({job.reason})" if job.reason else "")))
                found[config.run_id] = replace(before, state=state, note=f"job {job.job_id}: {about}")
    return [found[run_id] for run_id in sorted(found)]


def status(folder: Path) -> RunStatus:
    """Describe the run in one folder; files that cannot be read make it ``broken``, and no other run."""
    steps = 0
    try:
        steps = int(read_json(folder / "config.json")["science"]["optim"]["steps"])
        if (folder / "record.json").exists():
            return _done(folder, steps)
        return _unfinished(folder, steps)
    except (InputError, KeyError, TypeError, ValueError, OverflowError, OSError) as problem:
        return RunStatus(folder.name, "broken", steps, note=first_line(problem) or type(problem).__name__)


def _done(folder: Path, steps: int) -> RunStatus:
    record = read_json(folder / "record.json")
    final, speed = float(record["result"]["final"]["top1_error"]), float(record["images_per_second"])
    return RunStatus(folder.name, "done", steps, int(record["steps"]), final, speed, 0.0)


def _unfinished(folder: Path, steps: int) -> RunStatus:
    """Describe a run without a record; its state does not depend on ``progress.json``, which is only a report."""
    odd, told = "", None
    try:
        told = read_progress(folder)
    except InputError as problem:
        odd = first_line(problem)
    state, note = "interrupted", ""
    if is_held(folder):
        state, note = "running", str(owner(folder) or "")
    elif (folder / FAILURE).exists():
        lines = (folder / FAILURE).read_text(encoding="utf-8", errors="replace").splitlines()
        state, note = "failed", lines[-1] if lines else ""
    found = RunStatus(folder.name, state, steps, note="; ".join(filter(None, (note, odd))))
    if told is not None:
        found = replace(found, step=told.step, error=told.train_error)
    if told is not None and state == "running":
        found = replace(found, images_per_second=told.images_per_second, seconds_left=told.seconds_left)
    return found
