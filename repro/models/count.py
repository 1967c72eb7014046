"""Parameters, multiply-adds and activations, counted on the model itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from repro.config.run import ModelConfig
from repro.models import build_any, build_model


@dataclass(frozen=True)
class Size:
    params: int
    """Learned values: weights, biases, batch-norm scales and shifts."""
    macs: int
    """Multiply-adds of one image's forward pass in convolutions and the fully connected layer (the paper's FLOPs)."""


def measure(config: ModelConfig, image_size: int, num_classes: int) -> Size:
    """Count parameters and multiply-adds of a net."""
    # The groups of batch norm change neither, so nets for batches of another size are not counted anew.
    return _measure(dataclasses.replace(config, bn_group_size=1), image_size, num_classes)


@cache
def _measure(config: ModelConfig, image_size: int, num_classes: int) -> Size:
    # Tensors on the meta device have shapes but no values, so nothing is computed.
    with torch.device("meta"):
        model = build_any(config, num_classes).eval()
        image = torch.empty(1, 3, image_size, image_size)
    skip_norms(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


def skip_norms(model: nn.Module) -> None:
    """Leave batch norm out of a net of which only shapes are read.

    It keeps shapes and has no multiply-adds by the paper's count, but would take most of the time on the meta device.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x  # type: ignore[assignment]


@cache
def activation_bytes(config: ModelConfig, image_size: int, batch_size: int, recompute: bool) -> int:
    """Count the bytes that a training step in single precision keeps for its backward pass.

    Args:
        recompute: Whether blocks recompute their activations instead (``execution.checkpoint_activations``).
    """
    with torch.device("meta"):
        model = build_model(config, num_classes=10)
        model.recompute = recompute
        images = torch.empty(batch_size, 3, image_size, image_size)
    return kept_bytes(model, lambda: model(images))


def kept_bytes(model: nn.Module, call: Callable[[], torch.Tensor]) -> int:
    """Count the bytes that ``call`` keeps for its backward pass, without the parameters of ``model``."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # the reference keeps the address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = call()
    learned = {p.untyped_storage()._cdata for p in model.parameters()}
    assert output.requires_grad
    return sum(storage.nbytes() for address, storage in kept.items() if address not in learned)
