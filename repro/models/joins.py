"""Additions of shortcut and residual function (Identity Mappings, Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.config.run import ModelConfig
from repro.models.chance import Dropout


class Gate(nn.Conv2d):
    """The convolution of a gate, whose bias starts at ``config.gate_bias``."""


class Join(nn.Module):
    """Constant factors, gates, and dropout on the shortcut.

    A gate g is the sigmoid of a convolution of the block's input, 1x1 in residual nets. It weights the shortcut with
    1 - g and, if it is exclusive, the residual function with g. Its convolution changes dimensions where the block does
    (D30).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, config: ModelConfig, gate_kernel: int = 1
    ) -> None:
        super().__init__()
        shape = in_channels, out_channels, gate_kernel, stride, gate_kernel // 2
        self.gate = Gate(*shape) if config.gate != "none" else None
        self.is_exclusive = config.gate == "exclusive"
        self.dropout = Dropout(config.shortcut_dropout)
        self.shortcut_scale, self.residual_scale = config.shortcut_scale, config.residual_scale

    def forward(self, x: Tensor, carried: Tensor, residual: Tensor | None) -> Tensor:
        """Add the shortcut and the residual function of ``x``, which is None if the block is skipped."""
        if self.gate is not None:
            gate = torch.sigmoid(self.gate(x))
            carried = (1 - gate) * carried
            if self.is_exclusive and residual is not None:
                residual = gate * residual
        carried = self.shortcut_scale * self.dropout(carried)
        return carried if residual is None else carried + self.residual_scale * residual


def join(in_channels: int, out_channels: int, stride: int, config: ModelConfig, gate_kernel: int = 1) -> Join | None:
    """Build the addition of ``config``; None is a plain sum."""
    is_plain = config.shortcut_scale == config.residual_scale == 1 and config.gate == "none"
    if config.shortcut == "none" or (is_plain and not config.shortcut_dropout):
        return None
    return Join(in_channels, out_channels, stride, config, gate_kernel)
