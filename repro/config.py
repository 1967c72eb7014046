"""One run as frozen data: what it trains (science) and how it is carried out (execution).

Everything that can move a reported number is science and in the fingerprint; devices, threads, logging and
paths are not. The defaults live in ``conf/``, which only ``repro.compose`` reads; a worker gets this.

A science field that is added later carries a default, the behaviour before it: at that default it is left out
of the fingerprint, so that the records made before it stand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repro.errors import InputError
from repro.strict import build, require

NUMERICS_VERSION = 2
"""Rises with every [numerics] entry of the CHANGELOG, so that old and new records are never averaged."""

SLURM_WORD = r"[\w.,:/@+&|*()\[\]=-]+"
SLURM_OURS = {
    *("array", "chdir", "error", "input", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output"),
    *("requeue", "no-requeue", "signal", "time", "wrap", "gpus", "gpus-per-node", "gres", "mem", "cpus-per-task"),
    *("partition", "account", "qos", "constraint", "export", "wait", "parsable", "test-only"),
}
"""Options of sbatch that decide where output goes and how a job resumes, or that have a setting of their own."""


@dataclass(frozen=True)
class ModelConfig:
    """The net. CIFAR nets have 6n+2 layers (paper, section 4.2); ``shortcut=none`` is the plain net."""

    name: Literal["cifar_resnet"]
    depth: int
    shortcut: Literal["A", "B", "C", "none"]
    shortcut_subsample: Literal["stride", "avg_pool"]
    init: Literal["he_fan_in", "he_fan_out"]
    bn_group_size: int
    bn_momentum: float
    bn_eps: float

    @property
    def label(self) -> str:
        """The paper's name of the net: ``ResNet-20``, ``plain-20``, ``ResNet-20 B``."""
        if self.shortcut == "none":
            return f"plain-{self.depth}"
        return f"ResNet-{self.depth}" + ("" if self.shortcut == "A" else f" {self.shortcut}")

    def validate(self) -> None:
        if self.depth < 8 or (self.depth - 2) % 6:
            below = max(8, self.depth - (self.depth - 2) % 6)
            raise InputError(
                f"model.depth={self.depth} is not a CIFAR depth: it must be 6n+2 (paper, section 4.2), "
                f"for example {below} or {below + 6}"
            )
        require(0 < self.bn_momentum <= 1, f"model.bn_momentum={self.bn_momentum} must be above 0 and at most 1")
        require(self.bn_eps > 0, f"model.bn_eps={self.bn_eps} must be above 0")


@dataclass(frozen=True)
class DataConfig:
    """What is trained and evaluated on, and the augmentation (paper, section 4.2)."""

    name: Literal["cifar10", "synthetic"]
    split: Literal["train", "train45k"]
    image_size: int
    train_images: int | None
    test_images: int | None
    mean: Literal["per_pixel", "per_channel"]
    std: Literal["none", "per_channel"]
    pad: int
    pad_order: Literal["after_mean", "before_mean"]
    flip: bool

    @property
    def eval_split(self) -> str:
        """The split that the run is evaluated on: the test set, or what ``train45k`` leaves out."""
        return "test" if self.split == "train" else "val5k"

    def validate(self) -> None:
        require(self.image_size in (8, 16, 32), f"data.image_size={self.image_size} must be 8, 16 or 32")
        require(0 <= self.pad <= self.image_size, f"data.pad={self.pad} must be between 0 and data.image_size")
        for name in ("train_images", "test_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.{name}={value} must be above 0, or null for all images")


@dataclass(frozen=True)
class OptimConfig:
    """SGD and its schedule, counted in steps (the paper's iterations). ``batch_size`` is global."""

    lr: float
    batch_size: int
    steps: int
    milestones: tuple[int, ...]
    decay_factor: float
    momentum: float
    momentum_form: Literal["torch", "caffe"]
    nesterov: bool
    weight_decay: float
    decay_scope: Literal["weights", "all"]
    warmup: Literal["auto", "none", "fixed", "until_80"]
    warmup_steps: int
    warmup_lr: float
    precision: Literal["fp32", "tf32", "bf16"]

    def validate(self) -> None:
        for name in ("lr", "batch_size", "steps", "decay_factor", "warmup_lr"):
            value = getattr(self, name)
            require(value > 0, f"optim.{name}={value} must be above 0")
        for name in ("weight_decay", "warmup_steps"):
            value = getattr(self, name)
            require(value >= 0, f"optim.{name}={value} must not be negative")
        require(0 <= self.momentum < 1, f"optim.momentum={self.momentum} must be at least 0 and below 1")
        require(
            list(self.milestones) == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones),
            f"optim.milestones={list(self.milestones)} must be rising step numbers",
        )
        require(not self.nesterov or self.momentum > 0, "optim.nesterov=true needs optim.momentum above 0")


@dataclass(frozen=True)
class EvalConfig:
    """When and how the run is evaluated. ``every_steps=null`` is once an epoch."""

    every_steps: int | None
    train_error: bool
    train_images: int | None
    bn_stats: Literal["moving", "recomputed"]
    bn_batches: int

    def validate(self) -> None:
        for name in ("every_steps", "train_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"eval.{name}={value} must be above 0, or null")
        require(self.bn_batches > 0, f"eval.bn_batches={self.bn_batches} must be above 0")


@dataclass(frozen=True)
class SlurmConfig:
    """What a Slurm job asks for (``execution=slurm``); null leaves a choice to the cluster."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time: int
    grace_seconds: int
    gpus: int | Literal["auto"]
    shard: int | None
    cpus: int | None
    memory: float | None
    runs_per_job: int
    max_jobs: int
    poll_seconds: float
    extra: tuple[str, ...]

    def validate(self) -> None:
        for name in ("time", "grace_seconds", "shard", "cpus", "memory", "runs_per_job", "max_jobs", "poll_seconds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"execution.slurm.{name}={value} must be above 0")
        require(self.gpus == "auto" or self.gpus >= 0, f"execution.slurm.gpus={self.gpus} must not be negative")
        require(
            self.grace_seconds + 60 < 60 * self.time,
            f"execution.slurm.grace_seconds={self.grace_seconds} leaves nothing of execution.slurm.time={self.time} "
            "(minutes): Slurm may warn a minute early",
        )
        # These words reach sbatch: nothing that a shell or its reader of options could take for more than a word.
        for name in ("partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            require(
                value is None or re.fullmatch(SLURM_WORD, value) is not None,
                f"execution.slurm.{name}={value!r} must be one word without quotes or blanks",
            )
        for word in self.extra:
            found = re.fullmatch(rf"([a-z][a-z-]*)(={SLURM_WORD})?", word)
            require(
                found is not None,
                f"execution.slurm.extra has {word!r}; write options of sbatch as in reservation=week3 or exclusive",
            )
            name = found[1] if found else ""
            require(name not in SLURM_OURS, f"execution.slurm.extra has {word!r}, but --{name} is set by the program")


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is carried out. Nothing here may move a reported number beyond rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int | None
    step: Literal["auto", "eager", "compile", "graph"]
    deterministic: bool
    checkpoint_activations: bool
    parallel: int | Literal["auto"]
    runs_per_gpu: int | Literal["auto"]
    profile: bool
    log_steps: int
    eval_batch_size: int
    checkpoint_seconds: float
    max_minutes: float | None
    progress: Literal["auto", "bar", "lines", "none"]
    engine: Literal["local", "slurm"] = "local"
    slurm: SlurmConfig | None = None
    devices: int = 1
    nodes: int = 1
    restarts: int = 3

    @property
    def job_gpus(self) -> int:
        """Whole GPUs that a Slurm job asks for on each of its nodes."""
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
        require(self.threads is None or self.threads > 0, f"execution.threads={self.threads} must be above 0, or null")
        for name in ("parallel", "runs_per_gpu"):
            value = getattr(self, name)
            require(value == "auto" or value > 0, f"execution.{name}={value} must be above 0, or auto")
        for name in ("devices", "nodes"):
            value = getattr(self, name)
            require(value > 0, f"execution.{name}={value} must be above 0")
        require(self.restarts >= 0, f"execution.restarts={self.restarts} must not be negative")
        require(self.num_ranks == 1 or self.device != "mps", "execution=ddp runs on device=cuda or device=cpu, not mps")
        require(self.log_steps > 0, f"execution.log_steps={self.log_steps} must be above 0")
        require(self.eval_batch_size > 0, f"execution.eval_batch_size={self.eval_batch_size} must be above 0")
        require(
            self.checkpoint_seconds >= 0,
            f"execution.checkpoint_seconds={self.checkpoint_seconds} must not be negative",
        )
        require(
            self.max_minutes is None or self.max_minutes > 0,
            f"execution.max_minutes={self.max_minutes} must be above 0, or null for no limit",
        )
        require(
            (self.engine == "slurm") == (self.slurm is not None),
            "execution.engine is chosen by a word: execution=slurm or execution=local",
        )
        if self.slurm is not None:
            self.slurm.validate()
            require(
                self.job_gpus in (0, *range(self.devices, 10_000)),
                f"execution.devices={self.devices} needs as many GPUs, but execution.slurm.gpus={self.slurm.gpus}",
            )
            require(
                self.max_minutes is None,
                f"execution.max_minutes={self.max_minutes} has no place on Slurm: execution.slurm.time limits a job, "
                "and the next one goes on",
            )


@dataclass(frozen=True)
class Paths:
    """Where data is read, heavy output is written (git-ignored) and published evidence lies."""

    data: Path
    work: Path
    results: Path


@dataclass(frozen=True)
class RunConfig:
    """One training run. ``exp`` and ``scale`` are labels: only the science fields decide what a run is."""

    exp: str
    scale: str
    seed: int
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig
    execution: ExecutionConfig
    paths: Paths

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Converts and checks a nested dictionary.

        Raises:
            InputError: An unknown or missing key, a value of the wrong type or an impossible combination.
        """
        config: RunConfig = build(cls, values)
        config.validate()
        return config

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, from which ``from_dict`` makes the same run in another process."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return values

    def validate(self) -> None:
        require(0 <= self.seed < 2**32, f"seed={self.seed} must be a whole number from 0 to 4294967295")
        for part in (self.model, self.data, self.optim, self.eval, self.execution):
            part.validate()
        require(
            self.model.bn_group_size > 0 and self.optim.batch_size % self.model.bn_group_size == 0,
            f"model.bn_group_size={self.model.bn_group_size} must divide optim.batch_size={self.optim.batch_size}",
        )
        self.validate_ranks()

    def validate_ranks(self) -> None:
        """A batch, and its groups of batch norm, must come out even on the devices."""
        batch, group, ranks = self.optim.batch_size, self.model.bn_group_size, self.execution.num_ranks
        devices = f"the {ranks} devices of execution.devices={self.execution.devices}"
        devices += f" × execution.nodes={self.execution.nodes}" * (self.execution.nodes > 1)
        require(batch % ranks == 0, f"optim.batch_size={batch} does not divide evenly over {devices}")
        part = batch // ranks
        require(
            part % group == 0 or group % part == 0,
            f"model.bn_group_size={group} does not fit {devices}: each has {part} images of a batch, which must be "
            "whole groups, or a whole part of one",
        )

    def science(self) -> dict[str, Any]:
        """All that can move a reported number, as plain JSON values."""
        return {
            "seed": self.seed,
            "model": plain(self.model),
            "data": plain(self.data),
            "optim": plain(self.optim),
            "eval": plain(self.eval),
        }

    @property
    def key(self) -> str:
        """A readable name of what is trained: data, net, and the scale where it is not the paper's."""
        net = self.model.label.lower().replace("-", "").replace(" ", "-")
        return "-".join([self.data.name, net] + ([] if self.scale == "paper" else [slug(self.scale)]))

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.science())

    @property
    def run_id(self) -> str:
        """The same command has the same id, so that it resumes what it left and skips what is done."""
        return f"{self.key}-s{self.seed}-{self.fingerprint[:8]}"

    @property
    def work_dir(self) -> Path:
        return self.paths.work / self.run_id


def fingerprint(science: dict[str, Any], numerics_version: int = NUMERICS_VERSION) -> str:
    """The digest (16 hexadecimal digits) of the science of a run, as ``RunConfig.science`` gives it."""
    text = json.dumps({"numerics_version": numerics_version, **science}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_of(science: dict[str, Any]) -> dict[str, Any]:
    """The science of a run without its seed, flat: ``{"optim.lr": 0.1, …}``. Runs that share it are seeds of one."""
    return {
        f"{group}.{name}": value
        for group, values in science.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


def plain(part: Any) -> dict[str, Any]:
    """A config part as JSON values, without the later-added fields that stand at their default."""
    return {
        field.name: list(value) if isinstance(value := getattr(part, field.name), tuple) else value
        for field in dataclasses.fields(part)
        if field.default is dataclasses.MISSING or getattr(part, field.name) != field.default
    }


def slug(text: str) -> str:
    """``text`` as a part of a file name."""
    return "".join(c if c.isalnum() or c in "._" else "_" for c in text)
