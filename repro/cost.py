"""What a run will cost: counted multiply-adds over the measured speed of this device. No net is run."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from repro.config import ModelConfig, RunConfig
from repro.device import autocast, device_name, memory_format, num_threads, set_up
from repro.errors import InputError, RunError
from repro.models.blocks import BasicBlock
from repro.models.count import Size, activation_bytes, measure
from repro.record import read_json, write_json

BACKWARD = 2
"""Backward passes cost two forward passes: the gradients of the inputs and of the weights."""


TIMED: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "cifar_resnet": (128, ((16, 32), (32, 16), (64, 8))),
    "imagenet_resnet": (8, ((64, 56), (128, 28), (256, 14), (512, 7))),
}
"""Batch size, and the filters and map size of each stage, that the speed of a family of nets is measured at."""


@dataclass(frozen=True)
class Speed:
    """Of a residual block on this device."""

    macs_per_second: float
    block_seconds: float
    """Of one block's forward and backward pass on next to no data: launching it."""


@dataclass(frozen=True)
class Estimate:
    size: Size
    steps: int
    macs: float
    """Multiply-adds of the whole run, forward and backward, evaluations included."""
    seconds: float
    memory: int
    """Bytes on each device at the height of a step: activations, weights, gradients, momentum. Libraries take more."""


def estimate(config: RunConfig, speed: Speed, train_images: int, eval_images: int) -> Estimate:
    """Parameters, multiply-adds of an image, steps and time of a run, evaluations included.

    Args:
        train_images: Images in an epoch.
        eval_images: Images of the split that the run is evaluated on.
    """
    size = measure(config.model, config.data.image_size, config.data.num_classes)
    optim = config.optim
    evaluations = optim.steps / (config.eval.every_steps or max(train_images / optim.batch_size, 1)) + 1
    trained_on = min(train_images, config.eval.train_images or train_images) * config.eval.train_error
    evaluated = eval_images * evaluations + trained_on
    macs = size.macs * ((1 + BACKWARD) * optim.steps * optim.batch_size + evaluated)
    launches = optim.steps + evaluated / config.execution.eval_batch_size / (1 + BACKWARD)
    blocks = config.model.depth / 2
    seconds = macs / speed.macs_per_second + launches * blocks * speed.block_seconds
    return Estimate(size, optim.steps, macs, seconds / config.execution.num_ranks, memory(config, size))


def memory(config: RunConfig, size: Size) -> int:
    """Bytes that training holds on each of its devices; bfloat16 halves the activations, not the weights."""
    image_size, batch_size = config.data.image_size, config.optim.batch_size
    kept = activation_bytes(config.model, image_size, batch_size, config.execution.checkpoint_activations)
    kept //= config.execution.num_ranks
    return (kept // 2 if config.optim.precision == "bf16" else kept) + 3 * 4 * size.params


def calibrate(config: RunConfig) -> Speed:
    """The speed of this device, measured once and kept in ``paths.work``; takes about a second."""
    device = set_up(config.execution, config.optim.precision)
    threads = num_threads(config.execution)
    name = f"{device_name(device)}, {threads} threads, {config.optim.precision}, torch {torch.__version__}"
    name += "" if config.model.name == "cifar_resnet" else f", {config.model.name}"
    path = config.paths.work / "calibration.json"
    known = _read(path)
    if name not in known:
        known[name] = asdict(measure_speed(device, config.model.name, config.optim.precision))
        # Kept if it can be: a full disk must not hinder a command that only wants to say how long it takes.
        with contextlib.suppress(OSError, RunError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, known)
    speed = Speed(**known[name])
    # One CUDA graph launches a whole step: what single launches cost does not count there (repro.step).
    graph = device.type == "cuda" and config.execution.step != "eager"
    return replace(speed, block_seconds=0.0) if graph else speed


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        return read_json(path)
    except InputError:
        return {}


def measure_speed(device: torch.device, family: str, precision: str) -> Speed:
    """Times a basic block of each stage at the paper's map sizes, and one on next to no data."""
    batch_size, stages = TIMED[family]
    block_config = ModelConfig("cifar_resnet", 20, "A", "stride", "he_fan_in", batch_size, 0.1, 1e-5)
    macs = seconds = 0.0
    for channels, map_size in stages:
        block = BasicBlock(channels, channels, 1, block_config)
        seconds += _time_block(block, torch.randn(batch_size, channels, map_size, map_size), device, precision)
        macs += (1 + BACKWARD) * 2 * 9 * channels**2 * map_size**2 * batch_size
    tiny_config = ModelConfig("cifar_resnet", 20, "A", "stride", "he_fan_in", 2, 0.1, 1e-5)
    launch = _time_block(BasicBlock(16, 16, 1, tiny_config), torch.randn(2, 16, 4, 4), device, precision)
    return Speed(macs / max(seconds - 3 * launch, seconds / 10), launch)


def _time_block(block: torch.nn.Module, x: torch.Tensor, device: torch.device, precision: str) -> float:
    """Median seconds of a forward and backward pass, in the layout that nets are trained in."""
    block.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    x = x.to(device, memory_format=memory_format(device)).requires_grad_(True)
    waits: dict[str, Callable[[], None]] = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    wait = waits.get(device.type, lambda: None)
    times = []
    for _ in range(8):
        wait()
        start = time.perf_counter()
        with autocast(device, precision):
            y = block(x)
        y.float().sum().backward()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
