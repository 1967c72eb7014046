"""Residual blocks, shortcuts, grouped batch norm and initialization.

Sources: paper, sections 3.2 to 3.4 and 4.1; experiments/DEVIATIONS.md lists the choices that the paper leaves open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from repro.config.run import ModelConfig
from repro.models.batch_norm_across_ranks import normalize_across
from repro.runtime import distributed


class GroupBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with statistics over groups of ``group_size`` images of the batch (deviation D6).

    The group size is a setting of the recipe and does not depend on the hardware of the run: on the paper's two GPUs a
    batch of 128 was two groups of 64. Running statistics take the mean over the groups.

    Input and output are (N, C, H, W). In training mode N is a multiple of ``group_size``, unless several ranks share a
    group.
    """

    def __init__(self, num_features: int, group_size: int, eps: float, momentum: float) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.group_size = group_size
        self.updates_statistics = True
        """False while activations are recomputed, since the batch has already been counted."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        # torch's own forward would also count batches: one more kernel in each layer and step, for a number that
        # nothing reads.
        if not self.training or x.shape[0] == self.group_size:
            return self._normalize(x, self.running_mean, self.running_var)
        if x.shape[0] < self.group_size and distributed.size() > 1:
            return self._across_ranks(x)
        groups, rest = divmod(x.shape[0], self.group_size)
        if rest:
            raise ValueError(f"a batch of {x.shape[0]} images does not divide into groups of {self.group_size}")
        # Each group is contiguous in memory. A single call, with the groups side by side as channels, would copy the
        # batch into another layout and back, in both passes.
        means, variances = self.running_mean.repeat(groups, 1), self.running_var.repeat(groups, 1)
        parts = zip(x.split(self.group_size), means, variances, strict=True)
        y = torch.cat([self._normalize(part, mean, var) for part, mean, var in parts])
        if self.updates_statistics:
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
        return y

    def _across_ranks(self, x: Tensor) -> Tensor:
        ranks, rest = divmod(self.group_size, x.shape[0])
        if rest or distributed.size() % ranks:
            raise ValueError(
                f"{x.shape[0]} images on each of {distributed.size()} ranks do not make groups of {self.group_size}"
            )
        y, mean, var = normalize_across(x, self.weight, self.bias, self.eps, ranks)
        if self.updates_statistics:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            values = self.group_size * x.shape[2] * x.shape[3]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (values / (values - 1)), self.momentum)
        return y

    def _normalize(self, x: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
        assert self.momentum is not None
        if self.training and not self.updates_statistics:
            running_mean, running_var = running_mean.clone(), running_var.clone()
        learned = self.weight, self.bias
        return F.batch_norm(x, running_mean, running_var, *learned, self.training, self.momentum, self.eps)


def batch_norm(channels: int, config: ModelConfig) -> nn.Module:
    return GroupBatchNorm2d(channels, config.bn_group_size, config.bn_eps, config.bn_momentum)


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias, since a batch norm always follows."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


class PaddedIdentity(nn.Module):
    """Shortcut option A where dimensions change: it keeps every ``stride``-th pixel and adds channels of zeros.

    It has no parameters (section 3.3). ``subsample="avg_pool"`` averages instead of skipping pixels (deviation D8).
    ``place="both_sides"`` puts half of the zeros before the channels of the input (deviation D24).
    """

    def __init__(self, extra_channels: int, stride: int, subsample: str, place: str = "end") -> None:
        super().__init__()
        self.stride, self.subsample = stride, subsample
        self.before = extra_channels // 2 if place == "both_sides" else 0
        self.after = extra_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        if self.subsample == "avg_pool":
            # A map of odd size is rounded up, as by a convolution of this stride.
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        elif self.stride > 1:
            # This equals x[:, :, ::stride, ::stride], but its gradient takes one kernel and keeps the layout of x.
            x = F.avg_pool2d(x, 1, self.stride)
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def shortcut(in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> nn.Module:
    """Build a shortcut of section 4.1: A pads, B projects where dimensions change, C projects everywhere."""
    same = in_channels == out_channels and stride == 1
    if config.shortcut == "C" or (config.shortcut == "B" and not same):
        return nn.Sequential(conv(in_channels, out_channels, 1, stride), batch_norm(out_channels, config))
    if same:
        return nn.Identity()
    return PaddedIdentity(out_channels - in_channels, stride, config.shortcut_subsample, config.option_a)


class BasicBlock(nn.Module):
    """Two 3x3 layers with batch norm; residual unless ``config.shortcut`` is none (Fig. 2, Fig. 5 left)."""

    expansion = 1
    """Output channels per channel of the 3x3 layers."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = batch_norm(out_channels, config)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = batch_norm(out_channels, config)
        self.shortcut = shortcut(in_channels, out_channels, stride, config) if config.shortcut != "none" else None

    def forward(self, x: Tensor) -> Tensor:
        # In place, since no backward pass needs the output of a batch norm, and memory traffic limits a small net.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """A 1x1 layer to a quarter of the output channels, a 3x3 layer, and a 1x1 layer back; residual unless
    ``config.shortcut`` is none (Fig. 5 right)."""

    expansion = 4
    """Output channels per channel of the 3x3 layer."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        channels = out_channels // self.expansion
        # By default the same layer takes the stride as in the authors' release (deviation D16).
        first, second = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        self.conv1 = conv(in_channels, channels, 1, first)
        self.bn1 = batch_norm(channels, config)
        self.conv2 = conv(channels, channels, 3, second)
        self.bn2 = batch_norm(channels, config)
        self.conv3 = conv(channels, out_channels, 1)
        self.bn3 = batch_norm(out_channels, config)
        self.shortcut = shortcut(in_channels, out_channels, stride, config) if config.shortcut != "none" else None

    def forward(self, x: Tensor) -> Tensor:
        # In place, as in the basic block.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        if self.shortcut is not None:
            y += self.shortcut(x)
        return F.relu(y, inplace=True)


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Compute ``block(x)`` without keeping its activations; the backward pass recomputes the same values.

    Running statistics are updated only once.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _frozen_statistics(block)

    y: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return y


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    layers = [m for m in block.modules() if isinstance(m, GroupBatchNorm2d)]
    for layer in layers:
        layer.updates_statistics = False
    try:
        yield
    finally:
        for layer in layers:
            layer.updates_statistics = True


class BlockNet(nn.Module):
    """A net whose body is a chain of blocks; ``fc`` maps the mean of the last feature map to the logits."""

    fc: nn.Linear
    skips_blocks = False
    """True if training steps skip blocks (as in stochastic depth), on each rank different ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        self.recompute = False
        """Whether training recomputes activations in the backward pass instead of keeping them."""

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the residual or plain blocks in the order of computation."""
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            yield from stage

    def body(self, x: Tensor) -> Tensor:
        """Apply all blocks."""
        for block in self.blocks():
            x = recomputed(block, x) if self.recompute and self.training else block(x)
        return x

    def features(self, x: Tensor) -> Tensor:
        """Compute the last feature map (N, C, h, w) of images (N, 3, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, num_classes) of images (N, 3, H, W)."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


def initialize(model: BlockNet, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw all convolutions from He's zero-mean Gaussian of variance 2 / fan (deviation D1), then the fully connected
    layer; batch norms start with weight one and bias zero."""
    mode: Literal["fan_in", "fan_out"] = "fan_out" if config.init == "he_fan_out" else "fan_in"
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    initialize_output(model.fc, config.fc_init, generator)


def initialize_output(fc: nn.Linear, fc_init: str, generator: torch.Generator) -> None:
    """Draw the fully connected layer (deviation D26).

    ``he`` is the rule of the convolutions, although no ReLU follows; its fan is always the number of inputs, since no
    layer follows whose signal the outputs could scale. ``torch`` is the default of ``nn.Linear``, weights and biases
    uniform within 1 / sqrt(inputs). ``normal_0.01`` is AlexNet's Gaussian with standard deviation 0.01.
    """
    nn.init.zeros_(fc.bias)
    if fc_init == "he":
        nn.init.kaiming_normal_(fc.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    elif fc_init == "torch":
        bound = fc.in_features**-0.5
        nn.init.uniform_(fc.weight, -bound, bound, generator=generator)
        nn.init.uniform_(fc.bias, -bound, bound, generator=generator)
    else:
        nn.init.normal_(fc.weight, std=0.01, generator=generator)
