"""How strong signals and gradients are in every layer while a net trains (section 4.1: neither vanishes)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro import dist
from repro.device import autocast, memory_format
from repro.signals import layer_moments, left_as_it_was, over_ranks


def measure_flow(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> list[dict[str, str | float]]:
    """Signals and gradients of the 3x3 layers on one batch, as a training step would find them; nothing is changed.

    ``forward_std`` is the standard deviation of the layer's output after batch norm, before nonlinearity or addition,
    over the whole batch; ``gradient_norm`` the L2 norm of the gradient of the mean loss by the layer's weights, without
    weight decay. It is at most the size of the signal that came back times that of the layer's input, so that it
    cannot be healthy where the signal vanishes.

    Args:
        images: This rank's part of an augmented batch, (B, 3, H, W); all ranks must call alike.
        labels: (B,)

    Returns:
        ``{"layer", "forward_std", "gradient_norm"}`` in the order of computation, the same on all ranks.
    """
    dtype = next(model.parameters()).dtype
    with left_as_it_was(model, training=True):
        with layer_moments(model) as parts, autocast(images.device, precision):
            logits = model(images.to(dtype, memory_format=memory_format(images.device)))
        loss = F.cross_entropy(logits.to(dtype), labels)
        # Returned, not stored: the gradients of the last step stay where they are.
        gradients = list(torch.autograd.grad(loss, [_weight(model, name) for name in parts]))
    dist.average(gradients)
    norms = torch.stack([gradient.norm() for gradient in gradients]).tolist()
    return [
        {"layer": name, "forward_std": float(part.std), "gradient_norm": norm}
        for (name, part), norm in zip(over_ranks(parts).items(), norms, strict=True)
    ]


def _weight(model: nn.Module, layer: str) -> Tensor:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight
