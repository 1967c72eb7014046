"""What became of every run in the work folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.errors import InputError
from repro.lock import is_held, owner
from repro.record import read_json
from repro.slurm import Job


@dataclass(frozen=True)
class RunStatus:
    run_id: str
    state: str
    """``done``, ``running``, ``queued`` (in Slurm's queue), ``failed``, ``interrupted`` or ``broken``."""
    step: int
    steps: int
    error: float | None
    """Percent: the final error of a finished run, otherwise the running training error."""
    images_per_second: float | None
    seconds_left: float | None
    note: str = ""
    """Who trains a running run, its job, why one failed, what is broken."""


def statuses(work: Path, jobs: Sequence[Job] = ()) -> list[RunStatus]:
    """All runs in ``work`` and in Slurm's queue, by name."""
    found = {path.parent.name: status(path.parent) for path in work.glob("*/config.json")}
    for job in jobs:
        try:
            configs = job.submission.configs(job.shard)
        except InputError:
            note = f"job {job.job_id}: submitted by another version of the program"
            for run_id in job.run_ids:
                found.setdefault(run_id, RunStatus(run_id, "queued", 0, 0, None, None, None, note))
            continue
        for config in configs:
            before = found.get(config.run_id) or RunStatus(config.run_id, "", 0, config.optim.steps, None, None, None)
            if before.state != "done":
                state = before.state if before.state == "running" else "queued"
                about = " ".join(filter(None, (job.state.lower(), job.nodes, f"({job.reason})" if job.reason else "")))
                found[config.run_id] = replace(before, state=state, note=f"job {job.job_id}: {about}")
    return [found[run_id] for run_id in sorted(found)]


def status(folder: Path) -> RunStatus:
    """Of one run's folder; files that cannot be read make it ``broken``."""
    try:
        steps = int(read_json(folder / "config.json")["science"]["optim"]["steps"])
        if (folder / "record.json").exists():
            record = read_json(folder / "record.json")
            final = float(record["result"]["final"]["top1_error"])
            return RunStatus(folder.name, "done", record["steps"], steps, final, record["images_per_second"], 0.0)
        progress = read_json(folder / "progress.json") if (folder / "progress.json").exists() else {}
    except (InputError, KeyError, TypeError, ValueError) as problem:
        return RunStatus(folder.name, "broken", 0, 0, None, None, None, str(problem).splitlines()[0])
    step, error = progress.get("step", 0), progress.get("train_error")
    if is_held(folder):
        speed, left = progress.get("images_per_second"), progress.get("seconds_left")
        return RunStatus(folder.name, "running", step, steps, error, speed, left, str(owner(folder) or ""))
    failure = folder / "failure.txt"
    if failure.exists():
        lines = failure.read_text(encoding="utf-8").splitlines()
        return RunStatus(folder.name, "failed", step, steps, error, None, None, lines[-1] if lines else "")
    return RunStatus(folder.name, "interrupted", step, steps, error, None, None)
