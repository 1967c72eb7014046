"""The Slurm jobs of a work folder and their runs.

A submission is one job array. Its folder ``<work>/slurm/<name>`` is written before the jobs exist and never changed,
and the jobs have its name, so that queue and folder agree whenever a process is killed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from repro.config.parse import convert
from repro.config.run import RunConfig
from repro.errors import InputError, RunError, nearest
from repro.runtime.provenance import read_json

FOLDER = "slurm"
SUBMISSION = "submission.json"
ANSWER_SECONDS = 60.0  # a controller under load answers late

ALIVE = frozenset(
    {"COMPLETING", "CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RUNNING"}
    | {"RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED"}
)
"""Slurm's states of a job that has not ended, or may be requeued."""


@dataclass(frozen=True)
class Submission:
    """A job array and the runs of its jobs."""

    folder: Path
    shards: tuple[tuple[str, ...], ...]  # run ids by job of the array

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Read the submission of a folder; raise an InputError if it is damaged."""
        shards = read_json(folder / SUBMISSION).get("shards")
        try:
            return cls(folder, convert(tuple[tuple[str, ...], ...], shards, "shards"))
        except InputError as error:
            raise InputError(f"{folder / SUBMISSION} is damaged: {error}") from None

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def values(self) -> dict[str, Any]:
        """Return the content of the file: environment, code, command and the runs' configurations."""
        return read_json(self.folder / SUBMISSION)

    def configs(self, shard: int) -> list[RunConfig]:
        stored = self.values.get("configs", {})
        found = [RunConfig.from_dict(stored[run_id]) for run_id in self.shards[shard] if run_id in stored]
        if [config.run_id for config in found] != list(self.shards[shard]):
            raise InputError(f"{self.folder / SUBMISSION} does not fit this version of the program: submit again")
        return found

    def outcome_path(self, shard: int) -> Path:
        return self.folder / f"outcome_{shard}.json"


@dataclass(frozen=True)
class Job:
    """A job in Slurm's queue."""

    job_id: str  # as in Slurm's commands: ``12_3`` is job 3 of the array 12
    state: str  # Slurm's own: PENDING, RUNNING, COMPLETING, …
    nodes: str
    reason: str  # why it waits, or empty
    submission: Submission
    shard: int

    @property
    def run_ids(self) -> tuple[str, ...]:
        return self.submission.shards[self.shard]

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE


def submissions(work: Path) -> list[Submission]:
    """Return the submissions with a run that has no record yet, oldest first, without damaged ones."""
    found = []
    for path in sorted((work / FOLDER).glob(f"*/{SUBMISSION}")):
        try:
            submission = Submission.read(path.parent)
        except InputError:
            continue
        run_ids = (run_id for shard in submission.shards for run_id in shard)
        if not all((work / run_id / "record.json").exists() for run_id in run_ids):
            found.append(submission)
    return found


def jobs(work: Path) -> list[Job]:
    """Return the live jobs with unfinished runs of a work folder; without Slurm there are none."""
    return [job for job in known_jobs(submissions(work)) if job.is_alive] if shutil.which("squeue") else []


def known_jobs(asked: Sequence[Submission]) -> list[Job]:
    """Return the jobs of submissions that Slurm still lists, including those that ended minutes ago."""
    if not asked:
        return []
    names = ",".join(submission.name for submission in asked)
    return read_queue(call("squeue", "-h", "-r", "-t", "all", f"--name={names}", "-o", "%j|%K|%i|%T|%N|%r"), asked)


def read_queue(text: str, asked: Iterable[Submission]) -> list[Job]:
    """Read jobs from squeue's lines ``name|array index|job id|state|nodes|reason``."""
    by_name = {submission.name: submission for submission in asked}
    found = []
    for line in text.splitlines():
        name, index, job_id, state, nodes, reason = (part.strip() for part in line.split("|", 5))
        submission, shard = by_name.get(name), int(index) if index.isdigit() else 0
        if submission is not None and shard < len(submission.shards):
            found.append(Job(job_id, state, nodes, "" if reason == "None" else reason, submission, shard))
    return found


def last_state(job_id: str) -> str:
    """Ask Slurm's accounting for the last state of a job; return an empty text if the cluster has no accounting."""
    try:
        lines = call("sacct", "-n", "-X", "-P", "-o", "State", "-j", job_id).splitlines()
    except (InputError, RunError):
        return ""
    return lines[-1].split()[0] if lines and lines[-1].strip() else ""


def call(*words: str) -> str:
    """Run one of Slurm's commands and return its output.

    Raises:
        InputError: The command is not installed.
        RunError: The command fails or does not answer.
    """
    if shutil.which(words[0]) is None:
        raise InputError(f"{words[0]} is not installed here: give the command on a login node of the cluster")
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"Slurm does not answer ({words[0]})") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"{words[0]} failed: {said[-1]}")
    return done.stdout


def spans(nodes: int) -> bool:
    """Return whether this process is in a Slurm job of ``nodes`` nodes."""
    return int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) == nodes


def on_each_node(nodes: int, words: Sequence[str]) -> list[str]:
    """Return the command that starts torchrun's agent on each node of this job; they meet on this first node."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    step = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        step.append(f"--cpus-per-task={cpus}")  # srun does not take it over from the job
    meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-id={os.environ['SLURM_JOB_ID']}"]
    meeting.append(f"--rdzv-endpoint={node_address()}:{port}")
    return ["srun", *step, sys.executable, "-m", "repro.launch.slurm.node", *meeting, *words]


def node_address() -> str:
    """Return the address of this node for the other nodes of the job, where names need not resolve."""
    name = os.environ["SLURMD_NODENAME"]
    for word in call("scontrol", "show", "node", "-o", name).split():
        key, _, value = word.partition("=")
        if key == "NodeAddr":
            return value
    return name


def cancel(work: Path, run_ids: Sequence[str] | None) -> list[Job]:
    """Cancel and return the jobs of some runs, or all jobs of the work folder if ``run_ids`` is None."""
    alive = [job for job in known_jobs(submissions(work)) if job.is_alive]
    if run_ids is not None:
        held = {run_id for job in alive for run_id in job.run_ids}
        for run_id in run_ids:
            if run_id not in held:
                known = nearest(run_id, held) if held else "no run is"
                raise InputError(f"{run_id} is in no Slurm job of {work}: {known}")
        alive = [job for job in alive if set(job.run_ids) & set(run_ids)]
    if alive:
        call("scancel", *(job.job_id for job in alive))
    return alive
