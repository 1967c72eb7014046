"""Parameters and multiply-adds of forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.models.conversion.forms import Form, in_type
from repro.models.conversion.stored import tensors_of


@dataclass(frozen=True)
class Cost:
    params: int
    nonzero: int
    """Parameters other than zero; most values of identity kernels are zero."""
    macs: int
    """Multiply-adds of one image in convolutions and the fully connected layer; an identity has none."""


def cost_of(form: Form, image_size: int) -> Cost:
    """Count the parameters and multiply-adds of a form on images of this size."""
    tensors = tensors_of(form).values()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        in_type(form, torch.float32)(torch.zeros(1, 3, image_size, image_size))
    params, nonzero = sum(t.numel() for t in tensors), sum(int(t.count_nonzero()) for t in tensors)
    return Cost(params, nonzero, counter.get_total_flops() // 2)
