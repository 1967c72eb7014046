"""Classification nets, cut into a body for images and a top for regions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG
from torchvision.ops import FrozenBatchNorm2d

from repro.config.run import ModelConfig
from repro.models import build_any
from repro.models.blocks import GroupBatchNorm2d, PaddedIdentity
from repro.models.detection.sampling import ImageDraw, dropped
from repro.models.resnet import ImageNetResNet

Fixed = Literal["none", "conv1", "conv2"]
DROPOUT = 0.5
"""Dropout after both fully connected layers of VGG-16 in training, as in Fast R-CNN."""
VGG_FIRST_TRAINED: dict[Fixed, int] = {"none": 0, "conv1": 5, "conv2": 10}
"""Position among the layers of VGG-16 of conv1_1, conv2_1 and conv3_1, by the last layers that are not trained."""


class FrozenBatchNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """Batch norm as a fixed linear layer (appendix A): statistics, scale and shift are buffers in all modes.

    It computes what the classifier's layer computes in testing, to the bit.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def freeze_batch_norm(module: nn.Module) -> None:
    """Replace the batch norms within ``module`` by fixed ones with their present values."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm(child.num_features, child.eps)
            state = child.state_dict()
            state.pop("num_batches_tracked")
            frozen.load_state_dict(state)
            setattr(module, name, frozen.to(state["running_mean"]))
        else:
            freeze_batch_norm(child)


def recompute_statistics(net: nn.Module, images: Tensor) -> None:
    """Replace the batch-norm statistics of ``net`` by those of one pass over ``images``, in one group.

    A random net needs it before its batch norms are fixed: initial statistics, mean 0 and variance 1, would normalize
    nothing.
    """
    layers = [m for m in net.modules() if isinstance(m, GroupBatchNorm2d)]
    before = [(layer.momentum, layer.group_size) for layer in layers]
    for layer in layers:
        layer.momentum, layer.group_size = 1.0, len(images)
    was_training = net.training
    net.train()
    with torch.no_grad():
        net(images)
    net.train(was_training)
    for layer, (momentum, group_size) in zip(layers, before, strict=True):
        layer.momentum, layer.group_size = momentum, group_size


class Body(nn.Module):
    """Layers that compute the shared map (N, channels, H / 16, W / 16), sides rounded up, of images (N, 3, H, W).

    Those of VGG-16 are rounded down, as in torchvision.
    """

    channels: int

    def fixed(self, fixed: Fixed) -> list[str]:
        """Return the names of the parameters that are not trained (D53)."""
        raise NotImplementedError


class Top(nn.Module):
    """Layers that compute a feature vector (K, channels) of each region pooled from the map, (K, C, size, size)."""

    channels: int
    size: int
    """Side of the pooled regions."""

    def forward(self, pooled: Tensor, draws: Sequence[tuple[ImageDraw, int]] = ()) -> Tensor:
        """Compute the features; in training, ``draws`` has each image's draw and number of regions."""
        raise NotImplementedError


class ResNetBody(Body):
    """conv1 to conv4_x of an ImageNet net, plain or residual."""

    def __init__(self, net: ImageNetResNet) -> None:
        super().__init__()
        self.conv1, self.bn1, self.pool_padding = net.conv1, net.bn1, net.pool_padding
        self.stages = net.stages[:3]
        self.channels = next(m.in_channels for m in net.stages[3].modules() if isinstance(m, nn.Conv2d))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, 3, 2, self.pool_padding, ceil_mode=not self.pool_padding)
        features: Tensor = self.stages(x)
        return features

    def fixed(self, fixed: Fixed) -> list[str]:
        prefixes = {"none": (), "conv1": ("conv1.",), "conv2": ("conv1.", "stages.0.")}[fixed]
        return [name for name, _ in self.named_parameters() if name.startswith(prefixes)]


class ResNetTop(Top):
    """conv5_x and the average over positions.

    ``size`` 14 keeps the map that conv5_x was trained on, 7 after its stride of 2. Of size 7, a ``stride`` of 1 keeps 7
    positions, and 2 leaves 4 (D52).
    """

    def __init__(self, net: ImageNetResNet, size: int = 14, stride: int = 2) -> None:
        super().__init__()
        self.size, self.stage, self.last = size, net.stages[3], net.last
        self.channels = net.fc.in_features
        for layer in self.stage.modules():
            if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
                layer.stride = (stride, stride)
            elif isinstance(layer, PaddedIdentity) and layer.stride != 1:
                layer.stride = stride

    def forward(self, pooled: Tensor, draws: Sequence[tuple[ImageDraw, int]] = ()) -> Tensor:
        features: Tensor = self.last(self.stage(pooled)).mean((2, 3))
        return features


class VGGBody(Body):
    """conv1_1 to conv5_3 of torchvision's VGG-16, without the last max pooling."""

    def __init__(self, net: VGG) -> None:
        super().__init__()
        self.features = net.features[:-1]
        self.channels = next(m.out_channels for m in reversed(self.features) if isinstance(m, nn.Conv2d))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features

    def fixed(self, fixed: Fixed) -> list[str]:
        # [32], section 3.1: VGG-16 is trained from conv3_1 on, so with conv2.
        first = VGG_FIRST_TRAINED[fixed]
        return [name for name, _ in self.named_parameters() if int(name.split(".")[1]) < first]


class VGGTop(Top):
    """The layers fc6 and fc7 of torchvision's VGG-16, on regions of 7x7."""

    def __init__(self, net: VGG) -> None:
        super().__init__()
        self.size, self.channels = 7, net.classifier[3].out_features
        self.fc6, self.fc7 = net.classifier[0], net.classifier[3]

    def forward(self, pooled: Tensor, draws: Sequence[tuple[ImageDraw, int]] = ()) -> Tensor:
        x = pooled.flatten(1)
        for name, layer in {"fc6": self.fc6, "fc7": self.fc7}.items():
            x = F.relu(layer(x))
            if draws:
                pieces = x.split([count for _, count in draws])
                x = torch.cat([dropped(y, draw, name, DROPOUT) for y, (draw, _) in zip(pieces, draws, strict=True)])
        return x


def uncut_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a detector's body and top by their names in the classification net, which has one layer
    more."""
    places = {
        "body.": "",
        "head.top.stage.": "stages.3.",
        "head.top.last.": "last.",
        "head.top.fc6.": "classifier.0.",
        "head.top.fc7.": "classifier.3.",
    }
    return {
        place + name.removeprefix(prefix): value
        for name, value in weights.items()
        for prefix, place in places.items()
        if name.startswith(prefix)
    }


def build_uncut(
    config: ModelConfig, num_classes: int, generator: torch.Generator | None = None
) -> ImageNetResNet | VGG:
    """Build the classification net of a detector, initialized from ``generator`` if one is given."""
    net = build_any(config, num_classes, generator)
    assert isinstance(net, ImageNetResNet | VGG)
    return net


def cut(net: ImageNetResNet | VGG, size: int = 14, stride: int = 2) -> tuple[Body, Top]:
    """Return the body and the top of a copy of ``net``, its batch norms fixed at their present values.

    ``size`` and ``stride`` are those of ``ResNetTop``.
    """
    net = copy.deepcopy(net)
    freeze_batch_norm(net)
    if isinstance(net, VGG):
        return VGGBody(net), VGGTop(net)
    return ResNetBody(net), ResNetTop(net, size, stride)
