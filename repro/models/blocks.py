"""Residual blocks, shortcuts and grouped batch norm.

Sources: paper, sections 3.2 to 3.4 and 4.1; experiments/DEVIATIONS.md lists the choices that the paper leaves open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from repro.config.run import ModelConfig
from repro.models.chance import Draw, Dropout, surviving
from repro.models.joins import Join, join
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
        from repro.models.batch_norm_across_ranks import normalize_across  # loads torch's compiler, seconds

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


def shortcut(in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> nn.Module | None:
    """Build a shortcut of section 4.1: A pads, B projects where dimensions change, C projects everywhere."""
    if config.shortcut == "none":
        return None
    same = in_channels == out_channels and stride == 1
    if config.shortcut == "C" or (config.shortcut == "B" and not same):
        return nn.Sequential(conv(in_channels, out_channels, 1, stride), batch_norm(out_channels, config))
    if same:
        return nn.Identity()
    return PaddedIdentity(out_channels - in_channels, stride, config.shortcut_subsample, config.option_a)


class ResidualBlock(nn.Module):
    """Layers with a shortcut, or plain layers without one (Fig. 2)."""

    expansion = 1
    """Output channels per channel of the 3x3 layers."""
    shortcut: nn.Module | None
    join: Join | None
    """The addition; None is a plain sum."""

    def residual(self, x: Tensor) -> Tensor:
        """Compute the residual function of the block's input; the result may be changed in place."""
        raise NotImplementedError

    def finished(self, y: Tensor) -> Tensor:
        """Apply the layers after the addition, in place, since no backward pass needs the sum."""
        return F.relu(y, inplace=True)

    def forward(self, x: Tensor, survival: float = 1.0) -> Tensor:
        """Compute the block with its residual function weighted by ``survival``; with 0 the function is skipped."""
        if survival == 0:
            carried = self.joined(x, None)
            return self.finished(carried.clone() if carried is x else carried)
        y = self.residual(x)
        y = y if survival == 1 else survival * y
        return self.finished(y if self.shortcut is None else self.joined(x, y))

    def joined(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Add the shortcut of ``x`` and its residual function, which is None if it is skipped."""
        assert self.shortcut is not None
        carried: Tensor = self.shortcut(x)
        if self.join is not None:
            joined: Tensor = self.join(x, carried, residual)
            return joined
        if residual is None:
            return carried
        residual += carried
        return residual


PIECES = {"relu": 1, "maxout": 2}
"""Outputs of a convolution for each channel after the activation."""


def activate(y: Tensor, activation: str) -> Tensor:
    """Apply ReLU in place, or take the larger one of the two pieces of each channel (deviation D45)."""
    if activation == "relu":
        return F.relu(y, inplace=True)
    one, other = y.chunk(2, 1)
    # torch.maximum would give the same, but its gradient is not channels last.
    return torch.where(one >= other, one, other)


class BasicBlock(ResidualBlock):
    """Two 3x3 layers with batch norm; residual unless ``config.shortcut`` is none (Fig. 2, Fig. 5 left).

    With maxout the first layer has two pieces for each channel; with dropout, values are dropped between the layers
    (deviations D45 and D46).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.conv1 = conv(in_channels, PIECES[config.activation] * out_channels, 3, stride)
        self.bn1 = batch_norm(PIECES[config.activation] * out_channels, config)
        # A layer that drops nothing would change the numbers of the others, and with them what these drop.
        self.dropout = Dropout(config.dropout) if config.dropout else None
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = batch_norm(out_channels, config)
        self.shortcut = shortcut(in_channels, out_channels, stride, config)
        self.join = join(in_channels, out_channels, stride, config)

    def residual(self, x: Tensor) -> Tensor:
        # In place, since no backward pass needs the output of a batch norm, and memory traffic limits a small net.
        y = activate(self.bn1(self.conv1(x)), self.activation)
        if self.dropout is not None:
            y = self.dropout(y)
        normalized: Tensor = self.bn2(self.conv2(y))
        return normalized


class Bottleneck(ResidualBlock):
    """A 1x1 layer to a quarter of the output channels, a 3x3 layer, and a 1x1 layer back; residual unless
    ``config.shortcut`` is none (Fig. 5 right)."""

    expansion = 4
    """Output channels per channel of the 3x3 layer."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        channels = int(out_channels // self.expansion * config.width)
        # By default the same layer takes the stride as in the authors' release (deviation D16).
        first, second = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        self.conv1 = conv(in_channels, channels, 1, first)
        self.bn1 = batch_norm(channels, config)
        self.conv2 = conv(channels, channels, 3, second)
        self.bn2 = batch_norm(channels, config)
        self.conv3 = conv(channels, out_channels, 1)
        self.bn3 = batch_norm(out_channels, config)
        self.shortcut = shortcut(in_channels, out_channels, stride, config)
        self.join = join(in_channels, out_channels, stride, config)

    def residual(self, x: Tensor) -> Tensor:
        # In place, as in the basic block.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        normalized: Tensor = self.bn3(self.conv3(y))
        return normalized


def recomputed(block: nn.Module, *inputs: object) -> Tensor:
    """Compute ``block(*inputs)`` without keeping its activations; the backward pass recomputes the same values.

    Running statistics are updated only once.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        return contextlib.nullcontext(), _frozen_statistics(block)

    y: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
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
    survival: Sequence[float] = ()
    """Survival probability of each block for stochastic depth; empty if no block is ever skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential()
        self.recompute = False
        """Whether training recomputes activations in the backward pass instead of keeping them."""
        self.seed = 0
        """Seed of the random choices in training steps."""
        self.is_random = False
        """True if training steps drop random blocks or values."""
        self._draw: Draw | None = None

    @property
    def skips_blocks(self) -> bool:
        """True if training steps may skip blocks (stochastic depth)."""
        return len(self.survival) > 0

    @contextlib.contextmanager
    def drawing(self, draw: Draw) -> Iterator[None]:
        """Drop values and blocks chosen by ``draw`` inside the context; outside, passes compute the expected net."""
        layers = [m for m in self.modules() if isinstance(m, Dropout)]
        for number, layer in enumerate(layers):
            layer.number, layer.draw = number, draw
        self._draw = draw
        try:
            yield
        finally:
            self._draw = None
            for layer in layers:
                layer.draw = None

    def factors(self) -> list[float]:
        """Return the weight of each block's residual function in a pass: 0 or 1 if blocks are drawn."""
        if self._draw is None:
            return list(self.survival)
        return [float(survives) for survives in surviving(self.survival, self._draw)]

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the residual or plain blocks in the order of computation."""
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            yield from stage

    def body(self, x: Tensor) -> Tensor:
        """Apply all blocks."""
        factors = self.factors()
        for number, block in enumerate(self.blocks()):
            inputs = (x,) if not factors or factors[number] == 1 else (x, factors[number])
            x = recomputed(block, *inputs) if self.recompute and self.training else block(*inputs)
        return x

    def features(self, x: Tensor) -> Tensor:
        """Compute the last feature map (N, C, h, w) of images (N, 3, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, num_classes) of images (N, 3, H, W)."""
        logits: Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits
