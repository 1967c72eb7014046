"""Measurements of nets on this device: one net alone, beside the textbook loop, and several runs at once.

What warms up (compiling, recording graphs, choosing algorithms) is timed apart, as the time to the first step.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.backends.cudnn import version as cudnn_version

from repro.bench import photos
from repro.bench.ceilings import ceilings, wait, work_of
from repro.bench.reference import reference
from repro.bench.rig import Rig, alternate, identity, repeat, warmup_steps
from repro.bench.textbook import Textbook
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, load
from repro.data.cifar.arrays import ARRAYS, missing_files
from repro.engine.loop import is_eval_step
from repro.engine.step import pick_step, step_modes
from repro.runtime.device import arithmetic, device_name, num_threads, set_up
from repro.runtime.openmp import spin_settings


def describe(config: RunConfig) -> dict[str, Any]:
    """The device that ``config`` asks for, what its steps can be, and the data there is; starts the device.

    Raises:
        InputError: The device is not there, or the stored data is damaged.
    """
    device = set_up(config.execution, config.optim.precision)
    torch.ones(1, device=device).sum().item()
    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    dataset = data_of(config.data, config.paths.data)
    cache_dir = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", config.paths.work / "cache" / "inductor"))
    return {
        "device": device.type,
        "name": device_name(device),
        "threads": num_threads(config.execution),
        "cores": os.cpu_count(),
        "spin": spin_settings(),
        "memory_bytes": properties.total_memory if properties else None,
        "torch": str(torch.__version__),  # its own type would make the process that asks import torch
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": cudnn_version() if cuda else None,
        "bf16": has_bf16(device),
        "step_modes": list(step_modes(device)),
        "best_step": pick_step("auto", device),
        "data": dataset.name,
        "data_stands_in": dataset.name != config.data.name,
        "mps": bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY")),
        "compile_cache": "warm" if any(cache_dir.glob("*")) else "cold",
    }


def has_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are the device's own, not put together from others."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    told = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


@cache
def data_of(data: DataConfig, root: Path) -> Dataset:
    """The data set as it is stored, of photographs a sample; nothing is fetched to be measured: made images stand in
    for CIFAR-10."""
    if data.photos:
        return photos.sample(data, root)
    if data.name == "cifar10" and missing_files(root):
        data = dataclasses.replace(data, name="synthetic", split="train", train_images=5000, test_images=1000)
    return load(data, root, may_fetch=False)


def split_sizes(data: DataConfig, dataset: Dataset) -> tuple[int, int]:
    """Images of the training and of the evaluated split of ``data``, also where ``dataset`` stands in for it."""
    if dataset.name == data.name:
        return len(dataset.train), len(dataset.eval)
    stored = ARRAYS["train_images"].shape[0]
    held_out = stored // 10 if data.split == "train45k" else 0
    evaluated = held_out or ARRAYS["test_images"].shape[0]
    return min(data.train_images or stored, stored - held_out), min(data.test_images or evaluated, evaluated)


def projected_seconds(
    config: RunConfig, step_ms: float, eval_images_per_second: float, train_images: int, eval_images: int
) -> float:
    """Of the whole schedule: its steps, its evaluations, and the training error at the end where it is asked for."""
    optim = config.optim
    evaluations = sum(is_eval_step(step, config.eval, optim, train_images) for step in range(1, optim.steps + 1))
    evaluated = evaluations * eval_images
    if config.eval.train_error:
        evaluated += min(config.eval.train_images or train_images, train_images)
    return optim.steps * step_ms / 1000 + evaluated / eval_images_per_second


def case(config: RunConfig, seconds: float) -> dict[str, Any]:
    """One net in one precision and step mode: step alone, loop with data, evaluation, in about ``seconds``."""
    dataset = data_of(config.data, config.paths.data)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    rig = Rig(config, dataset)
    built = time.perf_counter() - begun
    first = rig.warm_up()
    stepping = repeat(rig.steps, 0.4 * seconds)
    looping = repeat(rig.loop, 0.4 * seconds)
    host_ms, own_ms = rig.host_ms(), 1000 * rig.loop_seconds / rig.loop_steps
    evaluating = rig.evaluation(0.2 * seconds)
    cuda = rig.device.type == "cuda"
    memory = {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
    }
    optim, batch_size = config.optim, config.optim.batch_size
    work = work_of(config.model, config.data.image_size, dataset.num_classes, arithmetic(rig.device, optim.precision))
    train_images, eval_images = split_sizes(config.data, dataset)
    return {
        **identity(rig),
        "startup_seconds": built + first,
        "step_ms": stepping.to_dict(),
        "loop_ms": looping.to_dict(),
        "images_per_second": batch_size * looping.per_second,
        "eval_ms_per_image": evaluating.to_dict(),
        "eval_images_per_second": evaluating.per_second,
        "host_step_ms": host_ms,
        "host_loop_ms": own_ms,
        "host_share": ((host_ms or 0.0) + own_ms) / looping.ms,
        "flops_per_image": work.flops,
        "bytes_per_image": work.bytes,
        "flops_per_second": work.flops * batch_size * stepping.per_second,
        "bytes_per_second": work.bytes * batch_size * stepping.per_second,
        "projected_steps": optim.steps,
        "projected_seconds": projected_seconds(config, looping.ms, evaluating.per_second, train_images, eval_images),
        **memory,
    }


def pairs(config: RunConfig, seconds: float) -> dict[str, Any]:
    """The engine's loop and the textbook loop on the same net, batch size and data, window by window.

    Both are warm before the first window and do the same number of steps in each; every other pair begins with the
    textbook. While the engine's window is timed the textbook's workers are stopped (``Textbook``).
    """
    dataset = data_of(config.data, config.paths.data)
    rig = Rig(config, dataset)
    warmup = warmup_steps(rig.device)
    rig.warm_up()
    textbook = Textbook(rig.config, dataset, rig.device)
    try:
        textbook.run(warmup)
        contest = alternate(rig.loop, textbook.run, seconds, warmup)
    finally:
        textbook.close()
    return {
        **identity(rig),
        "steps_per_window": contest.ours.count,
        "textbook_workers": textbook.num_workers,
        "loop_ms": contest.ours.to_dict(),
        "textbook_ms": contest.theirs.to_dict(),
        "ratio": contest.ratio(),
    }


def threads(config: RunConfig, seconds: float, counts: tuple[int, ...]) -> dict[str, Any]:
    """Several runs at once in this process, each in a thread (on a GPU: a stream) of its own, seeds apart.

    The time is that of all of them to the end of their steps; images of all runs are added up.
    """
    dataset = data_of(config.data, config.paths.data)
    rigs: list[Rig] = []
    rows = []
    for runs in counts:
        while len(rigs) < runs:
            rigs.append(Rig(dataclasses.replace(config, seed=len(rigs)), dataset))
            own = torch.cuda.Stream() if rigs[-1].device.type == "cuda" else None
            wait(rigs[-1].device)
            with torch.cuda.stream(own):  # recorded there, as a run in a worker is: cuBLAS has memory for each stream
                rigs[-1].warm_up()
        together = repeat(functools.partial(run_together, rigs), seconds / len(counts))
        speed = runs * config.optim.batch_size * together.per_second
        rows.append({"runs": runs, "images_per_second": speed, "step_ms": together.to_dict()})
    return identity(rigs[0]) | {"how": "threads", "rows": rows}


def run_together(rigs: list[Rig], count: int) -> float:
    """Seconds until every one of ``rigs`` has done ``count`` steps, all starting at once.

    Raises:
        Exception: The first that one of them met.
    """
    device = rigs[0].device
    ready = threading.Barrier(len(rigs) + 1)
    failures: list[Exception] = []

    def work(rig: Rig) -> None:
        try:
            # A CUDA stream is a thread's own; without one all threads would queue on the same.
            stream = torch.cuda.Stream() if device.type == "cuda" else None
            with torch.cuda.stream(stream):
                ready.wait()
                rig.steps(count)
        except Exception as error:  # told by the thread that waits for all
            failures.append(error)

    wait(device)
    threads = [threading.Thread(target=work, args=(rig,)) for rig in rigs]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    wait(device)
    seconds = time.perf_counter() - start
    if failures:
        raise failures[0]
    return seconds


def prepare(config: RunConfig) -> dict[str, Any]:
    """A warm net that stays in this process until ``go``."""
    rig = Rig(config, data_of(config.data, config.paths.data))
    rig.warm_up()
    PREPARED.append(rig)
    return identity(rig)


def go(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Runs the prepared net for ``seconds``, beside those of other processes; images per second."""
    rig = PREPARED[-1]
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        rig.steps(rig.window)
        steps += rig.window
    return {"images_per_second": steps * config.optim.batch_size / (time.perf_counter() - start)}


PREPARED: list[Rig] = []


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "device": describe,
    "ceilings": lambda config, seconds: ceilings(config.execution, seconds),
    "case": case,
    "pairs": pairs,
    "threads": threads,
    "loader": photos.loader,
    "training": photos.training,
    "reference": reference,
    "prepare": prepare,
    "go": go,
}


def clean_up() -> None:
    """Gives back the memory of what was measured, and what was compiled for it: the next one starts afresh."""
    if "torch._dynamo" in sys.modules:  # importing it for nothing would take seconds
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
