"""Measurements of nets: alone, beside other loops, in parallel."""

import dataclasses
import gc
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from repro.bench.loader import HeldFeed, loader, sample
from repro.bench.parts import changed, speeds
from repro.bench.roofline import ceilings, work_of
from repro.bench.textbook import Textbook, TorchvisionNet
from repro.bench.timing import alternate, per_second, repeat, timed
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, load
from repro.data.cifar.arrays import missing_files
from repro.engine.branches import record_branches
from repro.engine.loop import Hooks, train
from repro.engine.prepared import prepare
from repro.engine.step import GraphStep, build_step, pick_step, step_modes
from repro.runtime.device import arithmetic, device_name, num_threads, set_up, wait
from repro.runtime.openmp import spin_settings

BF16 = {"avx512_bf16", "amx_bf16"}  # processors with their own products of bfloat16
LEARNING_RATE = 0.01  # does not affect speed, and nets of no depth diverge


def describe(config: RunConfig, steps: Sequence[str] = ()) -> dict[str, Any]:
    """Start and describe the device of ``config``, the modes of its steps and the data."""
    device = set_up(config.execution, config.optim.precision)
    for step in steps:
        pick_step(step, device)
    torch.ones(1, device=device).sum().item()
    cuda = device.type == "cuda"
    native = {name for name, there in torch.cpu.get_capabilities().items() if there} if device.type == "cpu" else set()
    dataset = data_of(config.data, config.paths.data)
    return {
        "device": device.type,
        "name": device_name(device),
        "threads": num_threads(config.execution),
        "spin": spin_settings(),
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "torch": str(torch.__version__),  # its own type would make the parent import torch
        "cuda": torch.version.cuda if cuda else None,
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False) if cuda else bool(BF16 & native),
        "step_modes": list(step_modes(device)),
        "best_step": pick_step("auto", device),
        "data": dataset.name,
        "data_stands_in": dataset.name != config.data.name,
    }


@cache
def data_of(data: DataConfig, root: Path) -> Dataset:
    """Load the stored data, of ImageNet a sample; replace a missing CIFAR-10 by synthetic images."""
    if data.photos:
        return sample(data, root)
    if data.name == "cifar10" and missing_files(root):
        data = dataclasses.replace(data, name="synthetic", split="train", train_images=5000, test_images=1000)
    return load(data, root, may_fetch=False)


class Rig:
    """A net with everything to train it; ImageNet images are one held batch until they are released."""

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        constant = {"lr": LEARNING_RATE, "milestones": (), "schedule": "milestones", "warmup": "none"}
        self.net = net = prepare(changed(config, "optim", **constant), dataset)
        self.device, self.state = net.device, net.state
        self.feed = HeldFeed(dataset, config, net.device) if config.data.photos else net.feed
        self.window = config.execution.log_steps
        more = config.optim.precision, self.window, config.execution.micro_batch
        self.step = build_step(net.mode, net.model, net.optimizer, self.feed, *more)
        self.warmup = 20 if self.device.type == "cuda" else 2  # libraries choose algorithms
        # Parallel runs in threads would take turns on the default stream.
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.identity = {
            "net": config.model.label,
            "arithmetic": arithmetic(self.device, config.optim.precision),
            "step": net.mode,
            "batch_size": config.optim.batch_size,
            "image_size": config.data.image_size,
        }

    def steps(self, count: int) -> float:
        return run_steps([self], count)

    def loop(self, count: int) -> float:
        """Run ``count`` steps of the training loop with its data, without evaluations; return their seconds."""
        last = self.state.step + count
        config = changed(changed(self.net.config, "optim", steps=last), "eval", every_steps=last)
        run = partial(train, self.step, self.net.optimizer, self.state, config, len(self.feed), Hooks())
        return timed(run, self.device)(1)

    def speed(self, seconds: float) -> float:
        """Run steps for about ``seconds`` beside other work of the device; return images per second."""
        with torch.cuda.stream(self.stream):
            return per_second(self.net.config.optim.batch_size, repeat(self.steps, seconds))


def run_steps(rigs: Sequence[Rig], count: int) -> float:
    """Run ``count`` steps of each net in turns, without the loop; return their seconds."""
    start = time.perf_counter()
    for done in range(1, count + 1):
        for rig in rigs:
            rig.step.run(rig.state.step)
            rig.state.step += 1
        if done % rigs[0].window == 0 or done == count:
            for rig in rigs:
                rig.step.read()  # waits only for this net's steps, since others may share the device
    return time.perf_counter() - start


def case(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Time one net in one precision and step mode: the step alone, and the loop with its data."""
    dataset = data_of(config.data, config.paths.data)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    rig = Rig(config, dataset)
    with closing(rig.feed):
        rig.steps(1)
        startup = time.perf_counter() - begun
        rig.steps(rig.warmup)
        step_ms = repeat(rig.steps, seconds / 2)
        if isinstance(rig.feed, HeldFeed):
            rig.loop(rig.feed.release())
        loop_ms = repeat(rig.loop, seconds / 2)
    step_speed, speed = per_second(config.optim.batch_size, step_ms), per_second(config.optim.batch_size, loop_ms)
    used = rig.identity["arithmetic"]
    flops, traffic = work_of(config.model, config.data.image_size, dataset.num_classes, used)
    return rig.identity | {
        "startup_seconds": startup,
        "step_ms": step_ms,
        "loop_ms": loop_ms,
        "images_per_second": speed,
        "flops_per_second": flops * step_speed,
        "bytes_per_second": traffic * step_speed,
        "projected_seconds": config.optim.steps * loop_ms["median"] / 1000,
        "loader_share": max(0.0, 1 - speed / step_speed) if config.data.photos else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if rig.device.type == "cuda" else None,
    }


def pairs(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Time our net in turns with the same net in another loop: ImageNet steps with torchvision's, others with data."""
    dataset, photos = data_of(config.data, config.paths.data), config.data.photos
    rig = Rig(config, dataset)
    rig.steps(1 + rig.warmup)
    other = (TorchvisionNet if photos else Textbook)(rig.net.config, dataset, rig.feed)
    with closing(other):
        other.run(1 + rig.warmup)
        contest = alternate(rig.steps if photos else rig.loop, other.run, seconds, rig.warmup)
    return rig.identity | {"beside": other.beside} | contest


KEPT: list[Rig] = []  # parallel runs of this process


def keep(config: RunConfig, runs: int = 1) -> dict[str, Any]:
    """Keep ``runs`` warm nets in this process, each with its own seed and on a GPU its own stream."""
    for seed in range(len(KEPT), runs):
        rig = Rig(dataclasses.replace(config, seed=seed), data_of(config.data, config.paths.data))
        wait(rig.device)
        with torch.cuda.stream(rig.stream):  # recorded there, because cuBLAS has memory for each stream
            rig.steps(1 + rig.warmup)
        KEPT.append(rig)
    return KEPT[0].identity


def in_threads(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Run the kept nets in parallel for about ``seconds``, each in a thread."""
    with ThreadPoolExecutor(len(KEPT)) as pool:
        return speeds(list(pool.map(Rig.speed, KEPT, itertools.repeat(seconds))))


def in_branches(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Run the kept nets for about ``seconds`` as branches of one CUDA graph."""
    record_branches([r.step for r in KEPT if isinstance(r.step, GraphStep)], [r.stream for r in KEPT if r.stream])
    steps = partial(run_steps, KEPT)
    steps(1 + KEPT[0].warmup)
    return speeds([per_second(config.optim.batch_size, repeat(steps, seconds))] * len(KEPT))


def parallel(
    config: RunConfig, seconds: float, counts: Sequence[int], way: Callable[[RunConfig, float], dict[str, Any]]
) -> dict[str, Any]:
    rows = []
    for runs in counts:
        identity = keep(config, runs)
        rows.append(way(config, seconds / len(counts)))
    KEPT.clear()
    return identity | {"rows": rows}


def keep_busy(config: RunConfig) -> dict[str, Any]:
    while True:
        pass


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "device": describe,
    "ceilings": ceilings,
    "case": case,
    "pairs": pairs,
    "threads": partial(parallel, way=in_threads),
    "branches": partial(parallel, way=in_branches),
    "loader": loader,
    "keep": keep,
    "go": in_threads,
    "busy": keep_busy,
}


def clean_up() -> None:
    """Free the memory and the compiled code of a measurement."""
    if "torch._dynamo" in sys.modules:  # its import would take seconds
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
