"""Measured ceilings of a device, and the least work of a step."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from repro.bench.timing import repeat, timed
from repro.config.run import ModelConfig, RunConfig
from repro.models import build_model
from repro.models.blocks import BasicBlock, Bottleneck
from repro.models.count import measure
from repro.runtime.device import set_up

PRECISIONS = ("fp32", "tf32", "bf16")

OPERATIONS = 6  # per multiply-add: two forward, and two for each gradient, of input and weights

CONV_PASSES = 6
"""Times that a convolution's output must pass through memory in a step if everything between two convolutions is fused
into them. Batch norm needs sums over a batch before it can normalize, so no output can stay on the chip. Forward, the
output is written, and read by the next layer. Backward, its gradient is written while the output is read for the sums
of batch norm's gradient, and the convolution below reads both again. That is 4 times the output and 2 times its
gradient."""

SUM_PASSES = 4
"""Times for the output of a residual block: for the shortcut, it and its gradient are written and read once more."""


@cache
def work_of(config: ModelConfig, image_size: int, num_classes: int, arithmetic: str) -> tuple[int, int]:
    """Count the least operations and bytes of activation traffic of a training step, per image."""
    macs = measure(config, image_size, num_classes).macs
    with torch.device("meta"):
        model = build_model(config, num_classes).eval()
        image = torch.empty(1, 3, image_size, image_size)
    return OPERATIONS * macs, (2 if arithmetic == "bf16" else 4) * passed_values(model, image)


def passed_values(model: nn.Module, image: Tensor) -> int:
    """Count the values that pass through memory in a training step of ``image``, a batch (N, 3, H, W)."""
    total = 0

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += CONV_PASSES * output.numel()
        elif isinstance(module, (BasicBlock, Bottleneck)) and module.shortcut is not None:
            total += SUM_PASSES * output.numel()

    for module in model.modules():
        module.register_forward_hook(add)
    with torch.no_grad():
        model(image)
    return total


def ceilings(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Measure bytes/s of a large copy, read and write, and FLOP/s of a large matrix product in each precision."""
    device = set_up(config.execution, "fp32")
    copied, size = (2**31, 8192) if device.type == "cuda" else (2**27, 1024)  # bytes larger than every cache; rows

    def per_second(action: Callable[[], object]) -> float:
        action()
        return 1000 / float(repeat(timed(action, device), seconds / 4)["min"])

    source = torch.ones(copied, dtype=torch.uint8, device=device)
    copies, flops = 2 * copied * per_second(partial(torch.empty_like(source).copy_, source)), {}
    for precision in PRECISIONS:
        set_up(config.execution, precision)  # without it (TF32 on a CPU) the device uses another
        matrix = torch.randn(size, size, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32)
        flops[precision] = 2 * size**3 * per_second(partial(torch.matmul, matrix, matrix))
    return {"copy_bytes_per_second": copies, "flops_per_second": flops}
