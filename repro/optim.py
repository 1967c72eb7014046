"""SGD with the paper's groups, and the learning rate as a pure function of the step: nobody else writes one."""

from __future__ import annotations

import torch
from torch import nn

from repro.config import ModelConfig, OptimConfig

WARMUP_DEPTH = 110
"""Residual nets from this depth on warm up (section 4.2 says so of 110 layers; deviation D9)."""

WARMUP_CHECK_STEPS = 50
"""``until_80`` looks at the training error of this many steps at a time."""

WARMUP_ERROR = 80.0
"""Percent; below it ``until_80`` ends the warm-up (section 4.2)."""


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.SGD:
    """SGD; ``decay_scope="weights"`` decays convolution and fully connected weights only (deviation D2)."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": config.weight_decay if config.decay_scope == "all" else 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)


def warmup_kind(optim: OptimConfig, model: ModelConfig) -> str:
    """``none``, ``fixed`` or ``until_80``; ``auto`` is ``fixed`` for residual nets of 110 layers and more."""
    if optim.warmup != "auto":
        return optim.warmup
    return "fixed" if model.shortcut != "none" and model.depth >= WARMUP_DEPTH else "none"


def first_warmup_end(optim: OptimConfig, model: ModelConfig) -> int | None:
    """The step at which the warm-up ends, known from the start unless the training error decides it (None)."""
    return {"none": 0, "fixed": optim.warmup_steps, "until_80": None}[warmup_kind(optim, model)]


def lr_at(optim: OptimConfig, step: int, warmup_end: int | None) -> float:
    """The learning rate of ``step``, counted from 0; the warm-up counts within the schedule.

    Args:
        warmup_end: The first step after the warm-up; None while it has not been decided yet.
    """
    if warmup_end is None or step < warmup_end:
        return optim.warmup_lr
    # Dividing, not multiplying by 0.1, gives the decimal values that the paper prints.
    return optim.lr / optim.decay_factor ** sum(step >= milestone for milestone in optim.milestones)


def set_lr(optimizer: torch.optim.SGD, lr: float, momentum_form: str) -> None:
    """Sets the learning rate of the next step.

    PyTorch keeps v = m*v + g and moves by lr*v; Caffe, which the authors used, keeps v = m*v + lr*g and moves by v.
    They differ only where the rate changes: Caffe's buffer keeps the size of the old steps (deviation D5).
    """
    for group in optimizer.param_groups:
        if group["lr"] == lr:
            continue
        if momentum_form == "caffe":
            for p in group["params"]:
                if (buffer := optimizer.state[p].get("momentum_buffer")) is not None:
                    buffer.mul_(group["lr"] / lr)
        group["lr"] = lr
