"""SGD and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.run import ModelConfig, OptimConfig

WARMUP_DEPTH = 110
"""The smallest depth at which residual nets warm up (section 4.2: 110 layers; deviation D9)."""

WARMUP_CHECK_STEPS = 50
"""Steps in a window whose training error is compared with ``WARMUP_ERROR``."""

WARMUP_ERROR = 80.0
"""Training error in percent below which ``until_80`` ends the warm-up (section 4.2)."""


class MemoryOrderSGD(torch.optim.SGD):
    """Fused SGD with momentum on a CPU, applied to weights and gradients in the order of their memory.

    It gives the same bits as torch's own step. That one first copies every channels-last gradient into another layout,
    although it then reads the original, which takes a twentieth of an ImageNet net's step at small batches.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        names = ("weight_decay", "momentum", "lr", "dampening", "nesterov", "maximize")
        for group in self.param_groups:
            updated = [(p, p.grad, self.state[p]["momentum_buffer"]) for p in group["params"] if p.grad is not None]
            if updated:
                columns = ([in_memory_order(tensor) for tensor in column] for column in zip(*updated, strict=True))
                torch._fused_sgd_(*columns, **{name: group[name] for name in names}, is_first_step=False)


def in_memory_order(tensor: Tensor) -> Tensor:
    """View a channels-last tensor (N, C, H, W) as (N, H, W, C); return other tensors unchanged."""
    is_wide = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if is_wide else tensor


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.SGD:
    """Build SGD in one fused kernel for all parameters that require gradients.

    ``decay_scope`` selects the parameters that decay (deviation D2).

    Learning rate and momentum buffers are tensors that are never replaced, so that a CUDA graph can refer to them.
    Buffers start at zero, which gives the same first step as torch's own start: v = g.
    """
    # Convolutions have four dimensions, the fully connected weights two, and all other parameters one.
    least = 4 if config.decay_scope == "convolutions" else 2
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in trained if p.ndim >= least]
    others = [p for p in trained if p.ndim < least]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": config.weight_decay if config.decay_scope == "all" else 0.0},
    ]
    on_cpu = weights[0].device.type == "cpu"
    kind = MemoryOrderSGD if on_cpu and config.momentum else torch.optim.SGD
    optimizer = kind(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    for group in optimizer.param_groups:
        group["lr"] = rate_tensor(config.lr, weights[0].device)
        for p in group["params"] if config.momentum else []:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def rate_tensor(lr: float, device: torch.device) -> Tensor:
    """Return a learning rate as a tensor, in the precision that the fused kernel of the device reads."""
    return torch.tensor(lr, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)


def load_optimizer(optimizer: torch.optim.SGD, stored: dict[str, Any]) -> None:
    """Restore a state dict that may have been saved on another device."""
    optimizer.load_state_dict(stored)
    for group in optimizer.param_groups:
        group["lr"] = rate_tensor(float(group["lr"]), group["params"][0].device)
        for p in group["params"]:
            # The fused kernel walks through weights and buffers side by side, so they need the same memory layout,
            # which depends on the device.
            if (buffer := optimizer.state[p].get("momentum_buffer")) is not None:
                optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(buffer)


def warmup_kind(optim: OptimConfig, model: ModelConfig) -> str:
    """Return ``none``, ``fixed`` or ``until_80``; ``auto`` means ``fixed`` for residual nets of 110 layers and more."""
    if optim.warmup != "auto":
        return optim.warmup
    return "fixed" if model.shortcut != "none" and model.depth >= WARMUP_DEPTH else "none"


def first_warmup_end(optim: OptimConfig, model: ModelConfig) -> int | None:
    """Return the step at which the warm-up ends; None if the training error decides it."""
    return {"none": 0, "fixed": optim.warmup_steps, "until_80": None}[warmup_kind(optim, model)]


def lr_at(optim: OptimConfig, step: int, warmup_end: int | None, plateaus: int = 0) -> float:
    """Return the learning rate of ``step``, counted from 0; warm-up steps count towards the milestones.

    A cosine falls from the whole rate, after the warm-up, to nearly 0 at the last step (deviation D47).

    Args:
        warmup_end: The first step after the warm-up; None if it is not known yet.
        plateaus: The number of plateaus so far (``count_plateaus``), for ``optim.schedule=plateau``.
    """
    if warmup_end is None or step < warmup_end:
        return optim.warmup_lr
    if optim.schedule == "cosine":
        part = (step - warmup_end) / (optim.steps - warmup_end)
        return optim.lr * (1 + math.cos(math.pi * part)) / 2
    passed = sum(step >= milestone for milestone in optim.milestones)
    # Division gives exactly the decimal values that the paper prints; multiplication by 0.1 would not.
    return optim.lr / optim.decay_factor ** (plateaus if optim.schedule == "plateau" else passed)


def count_plateaus(optim: OptimConfig, errors: Sequence[float]) -> int:
    """Count how often the training error has stopped falling (section 3.4: "when the error plateaus", deviation D18).

    A plateau is a row of ``plateau_evals`` evaluations, none of them better than the best one since the last drop. At
    most ``plateau_drops`` are counted.

    Args:
        errors: The running training error at every evaluation so far; never the test error, which must choose nothing.
    """
    drops, best, worse = 0, math.inf, 0
    for error in errors:
        best, worse = (error, 0) if error < best else (best, worse + 1)
        if worse == optim.plateau_evals and drops < optim.plateau_drops:
            drops, best, worse = drops + 1, math.inf, 0
    return drops


def set_lr(optimizer: torch.optim.SGD, lr: float, momentum_form: str) -> None:
    """Set the learning rate of the next steps; in Caffe's form this waits for the device.

    PyTorch keeps v = m*v + g and moves by lr*v; Caffe, which the authors used, keeps v = m*v + lr*g and moves by v.
    They differ only after a change of the rate, because Caffe's buffer keeps the size of the old steps (deviation D5).
    """
    for group in optimizer.param_groups:
        if momentum_form == "caffe":
            before, after = float(group["lr"]), float(rate_tensor(lr, group["lr"].device))
            for p in group["params"] if before != after else []:
                if (buffer := optimizer.state[p].get("momentum_buffer")) is not None:
                    buffer.mul_(before / after)
        group["lr"].fill_(lr)
