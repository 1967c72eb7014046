"""How strong signals and gradients are in every layer while a net trains (section 4.1: neither vanishes)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.evaluation.layer_statistics import layer_moments, left_as_it_was, over_ranks, watched
from repro.models.forward import forward
from repro.runtime import distributed


def measure_flow(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> list[dict[str, str | float]]:
    """Signals and gradients of the 3x3 layers on one batch, as a training step would find them; nothing is changed.

    ``forward_std`` is the standard deviation of the layer's output after batch norm, before nonlinearity or addition,
    over the whole batch. ``activation_gradient_norm`` is the L2 norm of the gradient of the mean loss by that output:
    the signal that comes back. ``gradient_norm`` is that of the gradient by the layer's weights, without weight decay.
    The two differ by more than the input: behind a batch norm the scale of the weights changes nothing, so that weights
    ten times as large have a tenth of the gradient while the signal is the same.

    Args:
        images: This rank's part of an augmented batch, (B, 3, H, W); all ranks must call alike.
        labels: (B,)

    Returns:
        ``{"layer", "forward_std", "gradient_norm", "activation_gradient_norm"}`` in the order of computation, of the
        whole batch and the same on all ranks.
    """
    dtype = next(model.parameters()).dtype
    squares: dict[str, Tensor] = {}

    def follow(layer: str, output: Tensor) -> None:
        # It stays with this value where the output is written over afterwards.
        def came_back(gradient: Tensor) -> None:
            squares[layer] = gradient.to(dtype).square().sum()

        output.register_hook(came_back)

    with left_as_it_was(model, training=True):
        with layer_moments(model) as parts, watched(model, follow):
            logits = forward(model, images, precision)
        loss = F.cross_entropy(logits.to(dtype), labels)
        # Returned, not stored: the gradients of the last step stay where they are.
        gradients = list(torch.autograd.grad(loss, [_weight(model, layer) for layer in parts]))
    distributed.average(gradients)
    norms = torch.stack([gradient.norm() for gradient in gradients]).tolist()
    # The mean over the whole batch is a rank's mean divided by their number.
    sums = distributed.total(torch.stack([squares[layer] for layer in parts]).tolist())
    returned = [math.sqrt(total) / distributed.size() for total in sums]
    return [
        {"layer": layer, "forward_std": float(part.std), "gradient_norm": norm, "activation_gradient_norm": signal}
        for (layer, part), norm, signal in zip(over_ranks(parts).items(), norms, returned, strict=True)
    ]


def _weight(model: nn.Module, layer: str) -> Tensor:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight
