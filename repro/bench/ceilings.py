"""What a device can do at most, measured, and what a training step must do at least, by arithmetic."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.config.execution import ExecutionConfig
from repro.config.run import ModelConfig
from repro.models import build_model
from repro.models.blocks import BasicBlock
from repro.models.count import measure
from repro.runtime.device import memory_format, set_up

PRECISIONS = ("fp32", "tf32", "bf16")

COPY_BYTES = {"cuda": 2**31, "cpu": 2**27}
"""Of the array that is copied: far beyond every cache."""

MATMUL_SIZE = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the square matrices that are multiplied: large enough for full speed."""

CONV_BATCH = {"cuda": 128, "cpu": 4}
CONV_CHANNELS, CONV_SIZE = 256, 32
"""Of a 3x3 convolution with many more channels than the paper's CIFAR nets have."""

PRODUCTS = 3
"""Convolutions of a training step for one of the forward pass: forward, gradients of the input and of the weights."""

CONV_PASSES = 6
"""Times that a convolution's output must pass the memory in a step, if everything between two convolutions is fused
into them. Batch norm needs the sums over a batch before it can normalize it, so no output can stay on the chip:
forward it is written and read by the next layer; backward its gradient is written, while it is read for the sums that
batch norm's gradient needs, and both are read again by the convolution below. That is 4 times the output and 2 times
its gradient."""

SUM_PASSES = 4
"""Times for the output of a residual block: it is kept for the shortcut, so it and its gradient are written and read
once more."""


@dataclass(frozen=True)
class Work:
    """The least that a training step does for one image."""

    flops: int
    """6 x multiply-adds: two operations each, in the forward pass and for two gradients."""
    bytes: int
    """Activation traffic; weights, which a batch shares, and the image itself are left out."""


@cache
def work_of(config: ModelConfig, image_size: int, num_classes: int, precision: str) -> Work:
    """The floor under a training step of ``config``, from the shapes of the net itself."""
    macs = measure(config, image_size, num_classes).macs
    with torch.device("meta"):
        model = build_model(config, num_classes).eval()
        image = torch.empty(1, 3, image_size, image_size)
    size = 2 if precision == "bf16" else 4
    return Work(2 * PRODUCTS * macs, size * passed_values(model, image))


def passed_values(model: nn.Module, image: Tensor) -> int:
    """Values that pass the memory in a training step of ``image``, a batch (N, 3, H, W): see ``CONV_PASSES``."""
    total = 0

    def conv_output(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += CONV_PASSES * output.numel()

    def block_output(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += SUM_PASSES * output.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(conv_output)
        elif isinstance(module, BasicBlock) and module.shortcut is not None:
            module.register_forward_hook(block_output)
    with torch.no_grad():
        model(image)
    return total


def ceilings(execution: ExecutionConfig, seconds: float) -> dict[str, Any]:
    """Measured limits of the device: bytes/s of a large copy (read and written), FLOP/s of a large matrix product and
    of a large convolution; libraries differ in which of the two they are better at: the better one is the ceiling.

    A product that the device has no arithmetic for (TF32 on a CPU) is measured in what it uses instead.

    Args:
        seconds: About how long the measurement may take.
    """
    share = seconds / (1 + 2 * len(PRECISIONS))
    device = set_up(execution, "fp32")
    copies = copy_speed(device, share)
    products, convolutions = {}, {}
    for precision in PRECISIONS:
        set_up(execution, precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        products[precision] = matmul_speed(device, dtype, share)
        convolutions[precision] = conv_speed(device, dtype, share)
    return {
        "copy_bytes_per_second": copies,
        "matmul_flops_per_second": products,
        "conv_flops_per_second": convolutions,
        "flops_per_second": {name: max(products[name], convolutions[name]) for name in PRECISIONS},
    }


def copy_speed(device: torch.device, seconds: float) -> float:
    """Bytes per second, read and written."""
    source = torch.ones(COPY_BYTES.get(device.type, COPY_BYTES["cpu"]), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / fastest(lambda: target.copy_(source), device, seconds)


def matmul_speed(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s under the arithmetic that is set."""
    size = MATMUL_SIZE.get(device.type, MATMUL_SIZE["cpu"])
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest(lambda: a @ b, device, seconds)


def conv_speed(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of a convolution's forward pass under the arithmetic that is set."""
    batch, size = CONV_BATCH.get(device.type, CONV_BATCH["cpu"]), CONV_SIZE
    x = torch.randn(batch, CONV_CHANNELS, size, size, device=device).to(dtype, memory_format=memory_format(device))
    w = torch.randn(CONV_CHANNELS, CONV_CHANNELS, 3, 3, device=device).to(dtype, memory_format=memory_format(device))
    flops = 2 * 9 * CONV_CHANNELS**2 * batch * size**2
    return flops / fastest(lambda: F.conv2d(x, w, padding=1), device, seconds)


def fastest(action: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of ``action`` at its steady best: the median of a tenth of the calls, after two that warm up."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - begun < seconds and len(times) < 200):
        wait(device)
        start = time.perf_counter()
        action()
        wait(device)
        times.append(time.perf_counter() - start)
    best = sorted(times[2:])
    return statistics.median(best[: max(1, len(best) // 10)])


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
