"""Measurements of nets: alone, beside others' loops, several at once."""

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

from repro.bench.loader import HeldFeed, held_feed, loader, sample
from repro.bench.parts import changed
from repro.bench.roofline import ceilings, work_of
from repro.bench.textbook import Textbook, TorchvisionNet
from repro.bench.timing import alternate, repeat
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, load
from repro.data.cifar.arrays import missing_files
from repro.engine.branches import record_branches
from repro.engine.loop import Hooks, train
from repro.engine.prepared import prepare
from repro.engine.step import GraphStep, build_step, pick_step, step_modes
from repro.runtime.device import arithmetic, device_name, num_threads, set_up, wait
from repro.runtime.openmp import spin_settings

LEARNING_RATE = 0.01  # no speed depends on it, and no net of any depth diverges at it


def describe(config: RunConfig, steps: Sequence[str] = ()) -> dict[str, Any]:
    """Describe the device that ``config`` asks for, the modes of its steps and the data; starts the device."""
    device = set_up(config.execution, config.optim.precision)
    for step in steps:
        pick_step(step, device)
    torch.ones(1, device=device).sum().item()
    cuda = device.type == "cuda"
    dataset = data_of(config.data, config.paths.data)
    return {
        "device": device.type,
        "name": device_name(device),
        "threads": num_threads(config.execution),
        "spin": spin_settings(),
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "torch": str(torch.__version__),  # its own type would make the process that asks import torch
        "cuda": torch.version.cuda if cuda else None,
        "bf16": has_bf16(device),
        "step_modes": list(step_modes(device)),
        "best_step": pick_step("auto", device),
        "data": dataset.name,
        "data_stands_in": dataset.name != config.data.name,
    }


def has_bf16(device: torch.device) -> bool:
    """Return whether products of bfloat16 are the device's own, not put together from others."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    told = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


@cache
def data_of(data: DataConfig, root: Path) -> Dataset:
    """Load the stored data, of ImageNet a sample; made images stand in for a CIFAR-10 that is not stored."""
    if data.photos:
        return sample(data, root)
    if data.name == "cifar10" and missing_files(root):
        data = dataclasses.replace(data, name="synthetic", split="train", train_images=5000, test_images=1000)
    return load(data, root, may_fetch=False)


class Rig:
    """A net with all that trains it; ImageNet images come as one held batch until they are released."""

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        constant = {"lr": LEARNING_RATE, "milestones": (), "schedule": "milestones", "warmup": "none"}
        self.net = net = prepare(changed(config, "optim", **constant), dataset)
        self.device, self.state = net.device, net.state
        self.feed = held_feed(dataset, config, net.device) if config.data.photos else net.feed
        self.window = config.execution.log_steps
        more = config.optim.precision, self.window, config.execution.micro_batch
        self.step = build_step(net.mode, net.model, net.optimizer, self.feed, *more)
        self.warmup = 20 if self.device.type == "cuda" else 2  # libraries choose algorithms
        # For runs at once in threads: on the default stream they would take turns.
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.identity = {
            "net": config.model.label,
            "arithmetic": arithmetic(self.device, config.optim.precision),
            "step": net.mode,
            "batch_size": config.optim.batch_size,
            "image_size": config.data.image_size,
        }

    def steps(self, count: int) -> float:
        """Run so many steps without the loop; return their seconds."""
        self.step.read()
        start = time.perf_counter()
        for done in range(1, count + 1):
            self.step.run(self.state.step)
            self.state.step += 1
            if done % self.window == 0:
                self.step.read()
        self.step.read()  # waits for all of this net's steps, and only for them: others may share the device
        return time.perf_counter() - start

    def loop(self, count: int) -> float:
        """Run so many steps of the training loop, with its data, without evaluations; return their seconds."""
        net, last = self.net, self.state.step + count
        config = changed(changed(net.config, "optim", steps=last), "eval", every_steps=last)
        wait(self.device)
        start = time.perf_counter()
        train(self.step, net.optimizer, self.state, config, len(self.feed), Hooks())
        wait(self.device)
        return time.perf_counter() - start

    def speed(self, seconds: float) -> float:
        """Run steps for about ``seconds`` beside whatever else the device does; return images per second."""
        with torch.cuda.stream(self.stream):
            return 1000 * self.net.config.optim.batch_size / float(repeat(self.steps, seconds)["median"])


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
    image_size, used = config.data.image_size, rig.identity["arithmetic"]
    flops, traffic = work_of(config.model, image_size, dataset.num_classes, used)
    step_speed, speed = (1000 * config.optim.batch_size / times["median"] for times in (step_ms, loop_ms))
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
    """Time our net in turns with the same one as others train it, on the same batch size and data, both warm."""
    dataset = data_of(config.data, config.paths.data)
    rig = Rig(config, dataset)
    rig.steps(1 + rig.warmup)
    photos = config.data.photos
    # ImageNet images: our step beside torchvision's, on a held batch. Else our loop beside the textbook loop.
    other = (TorchvisionNet if photos else Textbook)(rig.net.config, dataset, rig.feed)
    with closing(other):
        other.run(1 + rig.warmup)
        contest = alternate(rig.steps if photos else rig.loop, other.run, seconds, rig.warmup)
    return rig.identity | {"beside": other.beside} | contest


KEPT: list[Rig] = []  # nets that stay in this process from ``keep`` to ``go``


def keep(config: RunConfig, runs: int = 1) -> dict[str, Any]:
    """Keep so many warm nets in this process, each with a seed and on a GPU a stream of its own."""
    for seed in range(len(KEPT), runs):
        rig = Rig(dataclasses.replace(config, seed=seed), data_of(config.data, config.paths.data))
        wait(rig.device)
        with torch.cuda.stream(rig.stream):  # recorded there: cuBLAS has memory for each stream
            rig.steps(1 + rig.warmup)
        KEPT.append(rig)
    return KEPT[0].identity


def go(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Run the kept nets at once for about ``seconds``, each in a thread."""
    with ThreadPoolExecutor(len(KEPT)) as pool:
        each = list(pool.map(Rig.speed, KEPT, itertools.repeat(seconds)))
    return {"runs": len(each), "images_per_second": sum(each), "each": each}


def threads(config: RunConfig, seconds: float, counts: Sequence[int]) -> dict[str, Any]:
    rows = []
    for runs in counts:
        identity = keep(config, runs)
        rows.append(go(config, seconds / len(counts)))
    KEPT.clear()
    return identity | {"rows": rows}


def branches(config: RunConfig, seconds: float, counts: Sequence[int]) -> dict[str, Any]:
    """Time several runs at once as branches of one CUDA graph."""
    rows = []
    for runs in counts:
        identity = keep(config, runs)
        branched(KEPT)
        steps = partial(in_turns, KEPT)
        steps(1 + KEPT[0].warmup)
        each = 1000 * config.optim.batch_size / repeat(steps, seconds / len(counts))["median"]
        rows.append({"runs": runs, "images_per_second": runs * each, "each": [each] * runs})
    KEPT.clear()
    return identity | {"rows": rows}


def branched(rigs: Sequence[Rig]) -> None:
    """Record the steps of ``rigs`` as branches of one graph."""
    steps = [rig.step for rig in rigs if isinstance(rig.step, GraphStep)]
    record_branches(steps, [rig.stream for rig in rigs if rig.stream is not None])


def in_turns(rigs: Sequence[Rig], count: int) -> float:
    """Run so many steps of each net, one after the other; return their seconds."""
    start = time.perf_counter()
    for done in range(1, count + 1):
        for rig in rigs:
            rig.step.run(rig.state.step)
            rig.state.step += 1
        if done % rigs[0].window == 0 or done == count:
            for rig in rigs:
                rig.step.read()
    return time.perf_counter() - start


def keep_busy(config: RunConfig) -> dict[str, Any]:
    while True:
        pass


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "device": describe,
    "ceilings": ceilings,
    "case": case,
    "pairs": pairs,
    "threads": threads,
    "branches": branches,
    "loader": loader,
    "keep": keep,
    "go": go,
    "busy": keep_busy,
}


def clean_up() -> None:
    """Give back the memory of what was measured and what was compiled for it, so that the next one starts afresh."""
    if "torch._dynamo" in sys.modules:  # importing it for nothing would take seconds
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
