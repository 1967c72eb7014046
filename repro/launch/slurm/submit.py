"""Packing of runs into jobs, and their submission as job arrays."""

import contextlib
import io
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

from repro.config.execution import ExecutionConfig
from repro.config.run import RunConfig
from repro.errors import RunError
from repro.launch.outcome import is_done
from repro.launch.slurm.job import ShardJob, provenance
from repro.launch.slurm.jobs import FOLDER, SUBMISSION, Submission
from repro.models.count import measure
from repro.runtime.provenance import command, environment, now, write_json


def submit(configs: Sequence[RunConfig], line_of: Mapping[str, int] | None = None) -> list[Submission]:
    """Submit runs as job arrays, one for each set of execution settings; the first lines of the plan come first."""
    return [submit_array(execution, planned) for execution, planned in arrays(configs, line_of or {})]


def preview(configs: Sequence[RunConfig], line_of: Mapping[str, int]) -> str:
    """Describe the jobs of the runs without a record, and their scripts; needs no Slurm and writes nothing."""
    parts = []
    for execution, planned in arrays([config for config in configs if not is_done(config)], line_of):
        lines = [f"job {number}: {', '.join(c.run_id for c in shard)}" for number, shard in enumerate(planned)]
        executor = executor_of(execution, planned[0][0].paths.work / FOLDER / "repro-DATE")
        if len(planned) > 1:
            executor.parameters["map_count"] = len(planned)
        script = executor._make_submission_file_text(executor._submitit_command_str, "")
        parts.append("\n".join([*lines, "", script]))
    return "\n\n".join(parts) or "no jobs: every run has a record"


def arrays(
    configs: Sequence[RunConfig], line_of: Mapping[str, int]
) -> list[tuple[ExecutionConfig, list[list[RunConfig]]]]:
    """Return the runs of each job of each array; all jobs of an array have the same execution settings."""
    groups: dict[ExecutionConfig, list[RunConfig]] = {}
    for config in configs:
        groups.setdefault(config.execution, []).append(config)
    return [(e, shards(group, e.slurm.runs_per_job, line_of)) for e, group in groups.items() if e.slurm is not None]


class Executor(submitit.SlurmExecutor):
    """submitit's executor, which also makes scripts where Slurm is not installed."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def executor_of(execution: ExecutionConfig, folder: Path) -> Executor:
    # exec makes Python the batch process itself, so that the warning before the time limit reaches it and it alone.
    executor = Executor(folder, python=f"exec {shlex.quote(sys.executable)}")
    executor.update_parameters(**parameters(execution, folder.name))
    return executor


def submit_array(execution: ExecutionConfig, planned: Sequence[Sequence[RunConfig]]) -> Submission:
    work = planned[0][0].paths.work
    name = f"repro-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
    submission = Submission(work / FOLDER / name, tuple(tuple(c.run_id for c in shard) for shard in planned))
    submission.folder.mkdir(parents=True)
    values = {
        "submitted": now(),
        "command": command(),
        "provenance": provenance(),
        "dirty": environment()["dirty"],
        "shards": submission.shards,
        "configs": {config.run_id: config.to_dict() for shard in planned for config in shard},
    }
    write_json(submission.folder / SUBMISSION, values)
    executor = executor_of(execution, submission.folder)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            executor.submit_array([ShardJob(submission.folder, number) for number in range(len(planned))])
    except submitit.core.utils.UncompletedJobError as error:
        said = str(error).strip().splitlines() or ["no reason given"]
        raise RunError(f"Slurm refused the jobs: {said[-1]}") from error
    return submission


def parameters(execution: ExecutionConfig, name: str) -> dict[str, Any]:
    slurm = execution.slurm
    assert slurm is not None
    extra = (word.partition("=") for word in slurm.extra)
    options = {option: value if given else True for option, given, value in extra}
    gpus = f"{slurm.gpu}:{execution.job_gpus}" if slurm.gpu else execution.job_gpus
    wanted = {key: getattr(slurm, key) for key in ("partition", "account", "qos", "constraint", "time")} | {
        "job_name": name,
        "nodes": execution.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": slurm.cpus,
        "gpus_per_node": gpus if execution.job_gpus else None,
        "gres": None if slurm.shard is None else f"shard:{slurm.shard}",
        "mem": None if slurm.memory is None else f"{round(slurm.memory * 1024)}MB",
        "array_parallelism": slurm.max_jobs,
        "setup": list(slurm.setup) or None,
        "use_srun": False,
        "stderr_to_stdout": True,
        "additional_parameters": {"signal": f"B:USR2@{slurm.grace_seconds}", "requeue": True, **options},
    }
    return {key: value for key, value in wanted.items() if value is not None}


def shards(configs: Sequence[RunConfig], size: int, line_of: Mapping[str, int]) -> list[list[RunConfig]]:
    """Pack at most ``size`` runs into a job, so that jobs take about equally long.

    The first lines of the plan come first, and of a line the longest runs.
    """
    cost = {config.run_id: work_of(config) for config in configs}
    jobs_of: list[list[RunConfig]] = [[] for _ in range(-(-len(configs) // size))]
    for config in sorted(configs, key=lambda c: (line_of.get(c.run_id, 0), -cost[c.run_id])):
        open_jobs = [job for job in jobs_of if len(job) < size]
        min(open_jobs, key=lambda job: sum(cost[c.run_id] for c in job)).append(config)

    return sorted(jobs_of, key=lambda job: (line_of.get(job[0].run_id, 0), -sum(cost[c.run_id] for c in job)))


def work_of(config: RunConfig) -> float:
    """Count the multiply-adds of a run, up to a constant factor."""
    macs = measure(config.model, config.data.image_size, config.data.num_classes).macs
    return float(macs) * config.optim.steps * config.optim.batch_size
