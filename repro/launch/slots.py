"""Slots of parallel runs: processes, GPUs and threads."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch.cost import memory
from repro.models.count import measure
from repro.runtime.device import num_threads, pick_device
from repro.runtime.nvidia_mps import mps

FULL_LAYER = 1e9
"""Multiply-adds of a layer's forward pass on a batch at which one run is assumed to fill a GPU. Calculated, not
measured: a layer of a CIFAR net at batch 128 has a quarter of these at any depth, and takes a large GPU a few
microseconds, hardly longer than starting its kernels."""
MOST_PER_GPU = 8
PROCESS_BYTES = 1.5e9  # GPU memory of a process's libraries, in addition to the run's own
MEMORY_SHARE = 0.8  # the share of free memory to use, since a run's need is only estimated


@dataclass(frozen=True)
class Slot:
    """A worker process."""

    width: int = 1  # parallel runs, each in its own thread
    gpu: str | None = None  # its only visible GPU, as named in CUDA_VISIBLE_DEVICES


def slots_for(configs: Sequence[RunConfig]) -> list[Slot]:
    """Return the slots that train the runs, or none if this process trains them in sequence."""
    execution = configs[0].execution
    parallel = execution.parallel
    if any(config.execution.num_ranks > 1 for config in configs):
        if parallel not in ("auto", 1):
            raise InputError(f"execution.parallel={parallel} must be 1: runs on several devices train one by one")
        return []
    if pick_device(execution.device).type != "cuda":
        at_once = min(1 if parallel == "auto" else parallel, len(configs))
        return [Slot()] * at_once if at_once > 1 else []
    gpus = visible_gpus()
    if execution.runs_per_gpu == "auto":
        free = min(torch.cuda.mem_get_info(number)[0] for number in range(len(gpus)))
        share = min(share_of(config, free) for config in configs)
    else:
        share = execution.runs_per_gpu
    most = len(gpus) * share
    if parallel != "auto" and parallel > most:
        raise InputError(
            f"execution.parallel={parallel} is more than the {len(gpus)} GPUs × execution.runs_per_gpu={share} "
            f"of this machine: raise execution.runs_per_gpu"
        )
    at_once = min(most if parallel == "auto" else parallel, len(configs))
    if at_once == 1:
        return []
    return [Slot(len(range(number, at_once, len(gpus))), gpu) for number, gpu in enumerate(gpus[:at_once])]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as named in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def share_of(config: RunConfig, free: float) -> int:
    """Return how many runs like ``config`` fill a GPU (``FULL_LAYER``) and fit into its ``free`` bytes."""
    size = measure(config.model, config.data.image_size, config.data.num_classes)
    layer = size.macs * config.optim.batch_size / config.model.depth
    fitting = int(MEMORY_SHARE * free / (memory(config, size) + PROCESS_BYTES))
    return max(1, min(MOST_PER_GPU, math.ceil(FULL_LAYER / layer), fitting))


def runs_at_once(slots: Sequence[Slot]) -> int:
    """Count the parallel runs; without slots this process trains one."""
    return sum(slot.width for slot in slots) or 1


def share_processors(configs: Sequence[RunConfig], slots: Sequence[Slot]) -> list[RunConfig]:
    """Set ``execution.threads`` to each run's share of the processors, unless the user has set it."""
    at_once = runs_at_once(slots)
    if at_once == 1:
        return list(configs)
    threads = [c.execution.threads or max(1, num_threads(c.execution) // at_once) for c in configs]
    return [config.with_execution(threads=share) for config, share in zip(configs, threads, strict=True)]


@contextlib.contextmanager
def shared_gpus(slots: Sequence[Slot], configs: Sequence[RunConfig]) -> Iterator[tuple[list[Slot], dict[str, str]]]:
    """Yield the slots and the environment of their workers, under NVIDIA's MPS if runs share a GPU."""
    # Under MPS each run has its own process, so that neither Python's lock nor a crash of one run delays the others.
    # Without MPS, processes would take turns on the GPU: one process with CUDA streams is faster.
    some_share = any(slot.gpu is not None and slot.width > 1 for slot in slots)
    with mps(configs[0].paths.work) if some_share else contextlib.nullcontext() as environment:
        if environment is None:
            yield list(slots), {}
        else:
            yield [Slot(1, slot.gpu) for slot in slots for _ in range(slot.width)], environment
