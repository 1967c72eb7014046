"""The decision to compile the steps of runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from repro.config.run import RunConfig
from repro.engine.compiled import builds, is_kept, keep_compiled, lacking_for_triton
from repro.engine.step import step_mode
from repro.errors import RunError
from repro.launch.speeds import Finished, finished_runs, step_seconds
from repro.models.count import activation_bytes
from repro.runtime import checkpoint
from repro.runtime.device import arithmetic, device_name, pick_device
from repro.runtime.progress import duration

log = logging.getLogger(__name__)

COMPILE_SECONDS, KEPT_SECONDS = 80.0, 15.0
"""Time to the first compiled step of a process, without and with code that an earlier process kept. Assumed, not
measured: the host compiles a few kinds of block, for training and for evaluation."""
SAVED_TRAFFIC = 3.7
"""Bytes of memory traffic that compiling saves, for each byte that a step keeps for its backward pass. Calculated for
ResNet-20, batch 128 in single precision: 2.19 GB per step without and 1.45 GB with compiled blocks; 0.2 GB are kept."""
ASSUMED = "assumed from memory traffic"


@dataclass(frozen=True)
class Saving:
    """The seconds that compiling saves per step, and the source of this figure."""

    seconds: float
    source: str


@dataclass(frozen=True)
class Forecast:
    """The gain and the cost of compiling, for runs that share compiled code."""

    runs: int
    saved_seconds: float
    source: str
    compile_seconds: float

    @property
    def pays(self) -> bool:
        return self.saved_seconds > self.compile_seconds

    def __str__(self) -> str:
        saved, taken = duration(max(0.0, self.saved_seconds)), duration(self.compile_seconds)
        which = "1 run" if self.runs == 1 else f"{self.runs} runs"
        verdict = "compiles the blocks" if self.pays else "does not compile the blocks"
        return f"auto {verdict} of {which}: that saves about {saved} ({self.source}) and takes about {taken} (assumed)"


def forecast(runs: Sequence[tuple[int, Saving]], at_once: int, compile_seconds: float) -> Forecast:
    """Compare the time that compiling saves for runs of one kind, ``at_once`` in parallel, with its own time."""
    saved = sum(steps * saving.seconds for steps, saving in runs) / at_once
    sources = dict.fromkeys(saving.source for _, saving in runs)
    return Forecast(len(runs), saved, " and ".join(sources), compile_seconds)


def with_steps(configs: Sequence[RunConfig], at_once: int) -> list[RunConfig]:
    """Return the runs, with ``execution.step`` set where ``auto`` compiles or a checkpoint exists.

    A run that resumes on the same device keeps its mode, so that its last bits do not depend on when it was
    interrupted.
    """
    chosen: dict[str, str] = {}
    kinds: dict[object, list[RunConfig]] = {}
    for config in filter(is_undecided, configs):
        if begun := begun_in(config):
            chosen[config.run_id] = begun
        else:
            kinds.setdefault(kind_of(config), []).append(config)
    finished = finished_runs({config.paths.work for runs in kinds.values() for config in runs})
    for runs in kinds.values():
        device, work = pick_device("cuda"), runs[0].paths.work
        savings = [(config.optim.steps, saving(config, device, finished)) for config in runs]
        weighed = forecast(savings, at_once, KEPT_SECONDS if is_kept(work, device) else COMPILE_SECONDS)
        log.info(f"execution.step={weighed}")
        if weighed.pays and can_compile(work, device):
            chosen |= dict.fromkeys((config.run_id for config in runs), "compile")
    return [config.with_execution(step=chosen.get(config.run_id, config.execution.step)) for config in configs]


def is_undecided(config: RunConfig) -> bool:
    """Return whether ``auto`` may compile: it means a graph on one device; several devices were not tried."""
    execution = config.execution
    if (execution.device, execution.step, execution.num_ranks) != ("cuda", "auto", 1):
        return False
    return step_mode(config, pick_device("cuda")) == "graph"


def begun_in(config: RunConfig) -> str | None:
    """Return the mode in which one GPU like this one made the run's newest checkpoint; None if none did."""
    kept = checkpoint.checkpoints(config.work_dir)
    try:
        setting = checkpoint.load(kept[-1])["setting"] if kept else {}
    except RunError:  # the run itself reports this
        return None
    # Older checkpoints do not store the number of ranks.
    if (setting.get("device"), setting.get("ranks", "1")) != (device_name(pick_device("cuda")), "1"):
        return None
    mode = str(setting.get("step", "")).partition(",")[0]
    return mode if mode in ("eager", "graph", "compile") else None


def kind_of(config: RunConfig) -> object:
    """Return the settings on which compiled code depends: those of the net and its step but depth and seed."""
    model, optim, data = config.model, config.optim, config.data
    blocks = dataclasses.replace(model, depth=0), model.bottleneck
    return blocks, optim.precision, optim.batch_size, data.image_size, data.name, config.execution.micro_batch


def saving(config: RunConfig, device: torch.device, finished: Finished) -> Saving:
    """Estimate the saving per step from finished runs in both modes, otherwise from the net's memory traffic."""
    graph, compiled = (step_seconds(config, mode, finished) for mode in ("graph", "compile"))
    if graph is not None and compiled is not None:
        return Saving(graph - compiled, "measured on finished runs")
    return Saving(saved_bytes(config, arithmetic(device, config.optim.precision)) / bandwidth(device), ASSUMED)


def saved_bytes(config: RunConfig, precision: str) -> float:
    kept = activation_bytes(config.model, config.data.image_size, config.optim.batch_size, recompute=False)
    return SAVED_TRAFFIC * kept * (0.5 if precision == "bf16" else 1)


def bandwidth(device: torch.device) -> float:
    """Return the nominal memory bandwidth in bytes per second, with two transfers per clock."""
    gpu = torch.cuda.get_device_properties(device)
    return 2 * 1000 * gpu.memory_clock_rate * gpu.memory_bus_width / 8


def can_compile(work: Path, device: torch.device) -> bool:
    """Return whether code can be compiled here; log the reason if not."""
    keep_compiled(work, device)
    lacking = lacking_for_triton()
    if not lacking and builds(device):
        return True
    reason = f"it needs {lacking}" if lacking else "a small net could not be compiled"
    log.info(f"execution.step=auto does not compile: {reason}")
    return False
