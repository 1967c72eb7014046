"""The forward pass of a net in a given precision."""

from __future__ import annotations

from torch import Tensor, nn

from repro.runtime.device import autocast, memory_format


def forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Run a net on normalized images (N, 3, H, W), in the memory format of their device and the type of its weights.

    Returns:
        The outputs: logits, in bfloat16 if ``precision`` is bf16. Convert them before computing losses or scores.
    """
    dtype = next(model.parameters()).dtype
    with autocast(images.device, precision):
        outputs: Tensor = model(images.to(dtype, memory_format=memory_format(images.device)))
    return outputs
