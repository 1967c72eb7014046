"""Parameters and multiply-adds, measured on the model itself: there is no second copy of the architecture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config.run import ModelConfig
from repro.models import build_model


@dataclass(frozen=True)
class Size:
    params: int
    """Learned values: weights, biases, batch-norm scales and shifts."""
    macs: int
    """Multiply-adds of one image's forward pass in convolutions and the fully connected layer (the paper's FLOPs)."""


@cache
def measure(config: ModelConfig, image_size: int, num_classes: int) -> Size:
    """Counts without computing: the net is built on the meta device, which has shapes but no numbers."""
    with torch.device("meta"):
        model = build_model(config, num_classes).eval()
        image = torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return Size(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)


@cache
def activation_bytes(config: ModelConfig, image_size: int, batch_size: int, recompute: bool) -> int:
    """Memory of what a training step in single precision keeps for its backward pass, each tensor once.

    Args:
        recompute: Whether blocks compute their activations again instead (``execution.checkpoint_activations``).
    """
    with torch.device("meta"):
        model = build_model(config, num_classes=10)
        model.recompute = recompute
        images = torch.empty(batch_size, 3, image_size, image_size)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later one takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(images)
    learned = {p.untyped_storage()._cdata for p in model.parameters()}
    assert logits.requires_grad
    return sum(storage.nbytes() for address, storage in kept.items() if address not in learned)
