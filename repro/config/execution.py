"""The execution of a run: device, threads, parallel runs, Slurm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from repro.config.parse import NOT_NEGATIVE, POSITIVE, require

SLURM_WORD = r"[\w.,:/@+&|*()\[\]=-]+"
SLURM_VALUE = r"[^\x00-\x1f\x7f]+"
"""The value of any option of sbatch: a line of text, which the script quotes."""
SLURM_OURS = {
    *("array", "chdir", "error", "input", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output"),
    *("requeue", "no-requeue", "signal", "time", "wrap", "gpus", "gpus-per-node", "gres", "mem", "cpus-per-task"),
    *("partition", "account", "qos", "constraint", "export", "wait", "parsable", "test-only"),
}
"""Options of sbatch that the program sets itself, or that have a setting of their own."""

PROTOCOLS = {"paper": "reported", "common": "best"}
"""The evaluation that is reported: of the final weights, or of the best epoch on the evaluated split (D14)."""


@dataclass(frozen=True)
class SlurmConfig:
    """The requests of a Slurm job (``execution=slurm``); null leaves a choice to the cluster."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time: Annotated[int, POSITIVE]
    grace_seconds: Annotated[int, POSITIVE]
    gpus: Annotated[int | Literal["auto"], NOT_NEGATIVE]
    shard: Annotated[int | None, POSITIVE]
    cpus: Annotated[int | None, POSITIVE]
    memory: Annotated[float | None, POSITIVE]
    runs_per_job: Annotated[int, POSITIVE]
    max_jobs: Annotated[int, POSITIVE]
    poll_seconds: Annotated[float, POSITIVE]
    extra: tuple[str, ...]
    gpu: str | None = None
    setup: tuple[str, ...] = ()

    def validate(self) -> None:
        is_short = self.time <= 366 * 24 * 60
        require(is_short, f"execution.slurm.time={self.time} is more than a year: name the minutes of one job")
        require(
            self.grace_seconds + 60 < 60 * self.time,
            f"execution.slurm.grace_seconds={self.grace_seconds} leaves no time to train within "
            f"execution.slurm.time={self.time} minutes, since Slurm may warn a minute early",
        )
        for name in ("partition", "account", "qos", "constraint", "gpu"):
            value = getattr(self, name)
            require(
                value is None or re.fullmatch(SLURM_WORD, value) is not None,
                f"execution.slurm.{name}={value!r} must be one word without quotes or blanks",
            )
        for line in self.setup:
            is_line = re.fullmatch(SLURM_VALUE, line) is not None and not line.lstrip().startswith("#SBATCH")
            require(
                is_line, f"execution.slurm.setup contains {line!r}: write one shell command, as in module load cuda"
            )
        for word in self.extra:
            found = re.fullmatch(rf"([a-z][a-z-]*)(={SLURM_VALUE})?", word)
            require(
                found is not None,
                f"execution.slurm.extra contains {word!r}: write options of sbatch, as in reservation=week3",
            )
            name = found[1] if found else ""
            require(name not in SLURM_OURS, f"execution.slurm.extra contains {word!r}, but repro itself sets --{name}")


@dataclass(frozen=True)
class ExecutionConfig:
    """Settings that change reported numbers only by rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Annotated[int | None, POSITIVE]
    step: Literal["auto", "eager", "compile", "graph"]
    deterministic: bool
    checkpoint_activations: bool
    parallel: Annotated[int | Literal["auto"], POSITIVE]
    runs_per_gpu: Annotated[int | Literal["auto"], POSITIVE]
    profile: bool
    log_steps: Annotated[int, POSITIVE]
    eval_batch_size: Annotated[int, POSITIVE]
    checkpoint_seconds: Annotated[float, NOT_NEGATIVE]
    max_minutes: Annotated[float | None, POSITIVE]
    progress: Literal["auto", "bar", "lines", "none"]
    engine: Literal["local", "slurm"] = "local"
    slurm: SlurmConfig | None = None
    devices: Annotated[int, POSITIVE] = 1
    nodes: Annotated[int, POSITIVE] = 1
    restarts: Annotated[int, NOT_NEGATIVE] = 3
    workers: Annotated[int | None, NOT_NEGATIVE] = None
    micro_batch: Annotated[int | None, POSITIVE] = None

    @property
    def job_gpus(self) -> int:
        """Whole GPUs that a Slurm job requests on each of its nodes."""
        if self.slurm is None or self.slurm.shard is not None:
            return 0
        if self.slurm.gpus == "auto":
            return 0 if self.device == "cpu" else self.devices
        return self.slurm.gpus

    @property
    def num_ranks(self) -> int:
        """Processes that train a run together, each with its part of the batch."""
        return self.devices * self.nodes

    def validate(self) -> None:
        require(self.num_ranks == 1 or self.device != "mps", "execution=ddp runs on device=cuda or device=cpu, not mps")
        require(
            (self.engine == "slurm") == (self.slurm is not None),
            "execution.engine cannot be set by itself: choose execution=slurm or execution=local",
        )
        if self.slurm is not None:
            self.slurm.validate()
            require(
                self.job_gpus in (0, *range(self.devices, 10_000)),
                f"execution.devices={self.devices} needs as many GPUs, but execution.slurm.gpus={self.slurm.gpus}",
            )
            require(
                self.max_minutes is None,
                f"execution.max_minutes={self.max_minutes} is not for Slurm: execution.slurm.time limits a job, and "
                "the next job resumes",
            )

    def validate_batch(self, batch_size: int, bn_group_size: int) -> None:
        """Refuse a batch or a batch-norm group that cannot be divided evenly over the devices and the passes."""
        devices = f"the {self.num_ranks} devices of execution.devices={self.devices}"
        devices += f" × execution.nodes={self.nodes}" if self.nodes > 1 else ""
        is_even = batch_size % self.num_ranks == 0
        require(is_even, f"optim.batch_size={batch_size} does not divide evenly over {devices}")
        part = batch_size // self.num_ranks
        require(
            part % bn_group_size == 0 or bn_group_size % part == 0,
            f"model.bn_group_size={bn_group_size} does not fit {devices}: it must divide the {part} images of a batch "
            "on each device, or be a multiple of them",
        )
        micro = self.micro_batch
        fitting = [n for n in range(bn_group_size, part, bn_group_size) if part % n == 0]
        require(
            micro in (None, part, *fitting),
            f"execution.micro_batch={micro} must be a multiple of model.bn_group_size={bn_group_size} and divide the "
            f"{part} images of a batch on each device: use {', '.join(map(str, [*fitting, part]))} or null",
        )
