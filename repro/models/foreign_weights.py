"""Names of weights in other public nets and in ours.

torchvision's nets equal ours with option B and ``stride_in=3x3`` (deviation D16); the CIFAR-10 nets of
akamaster/pytorch_resnet_cifar10 equal ours with ``option_a=both_sides`` (deviation D24). Only the names differ, also
those of torchvision's dense nets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from repro.errors import InputError

LAYER = r"((?:conv|bn)[1-3])"
VALUE = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
OUTSIDE = re.compile(rf"(?:conv1|bn1|fc)\.{VALUE}")
THEIRS = re.compile(rf"layer([1-4])\.(\d+)\.(?:{LAYER}|downsample\.([01]))\.{VALUE}")
AKAMASTERS = re.compile(rf"layer([1-3])\.(\d+)\.(?:{LAYER}|shortcut\.([01]))\.{VALUE}")
DENSE_LAYER = r"denseblock([1-4])\.denselayer(\d+)\.(norm|conv)\.?([12])"
THEIR_DENSE = re.compile(
    rf"(?:features\.(?:(conv0|norm0|norm5)|{DENSE_LAYER}|transition([1-3])\.(norm|conv))|(classifier))\.{VALUE}"
)
"""Their oldest files write norm.1 for norm1."""
DENSE_NAMES = {"conv0": "conv1", "norm0": "bn1", "norm5": "last", "classifier": "fc", "norm": "bn", "conv": "conv"}
OURS = re.compile(rf"stages\.([0-3])\.(\d+)\.(?:{LAYER}|shortcut\.([01]))\.{VALUE}")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the values of a torchvision state dict to our names; the tensors are shared, not copied.

    Raises:
        InputError: A name does not belong to torchvision's ResNets of Table 1.
    """
    whose = "torchvision's ImageNet nets of 18 to 152 layers"
    return {_renamed(name, THEIRS, _our_name, whose): value for name, value in state.items()}


def from_akamaster(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the values of a state dict of akamaster's CIFAR-10 nets to our names; the tensors are shared.

    Raises:
        InputError: A name does not belong to these nets.
    """
    whose = "the CIFAR-10 nets of akamaster/pytorch_resnet_cifar10"
    named = {re.sub(r"^linear\.", "fc.", name): value for name, value in state.items()}
    return {_renamed(name, AKAMASTERS, _our_name, whose): value for name, value in named.items()}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the values of an ``ImageNetResNet`` to torchvision's names.

    Raises:
        InputError: A name does not belong to our ImageNet nets.
    """
    whose = "our ImageNet nets of 18 to 152 layers"
    return {_renamed(name, OURS, _their_name, whose): value for name, value in state.items()}


def from_torchvision_dense(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the values of a state dict of torchvision's dense nets to our names; the tensors are shared, not copied.

    Raises:
        InputError: A name does not belong to these nets.
    """
    whose = "torchvision's dense nets of 121 to 201 layers"
    return {_renamed(name, THEIR_DENSE, _our_dense_name, whose): value for name, value in state.items()}


def _our_dense_name(found: re.Match[str]) -> str:
    alone, stage, layer, kind, number, before, kind_between, classifier, value = found.groups()
    if stage is not None:
        return f"stages.{int(stage) - 1}.{int(layer) - 1}.{DENSE_NAMES[kind]}{number}.{value}"
    if before is not None:
        return f"transitions.{int(before) - 1}.{DENSE_NAMES[kind_between]}.{value}"
    return f"{DENSE_NAMES[alone or classifier]}.{value}"


def _renamed(name: str, pattern: re.Pattern[str], rename: Callable[[re.Match[str]], str], whose: str) -> str:
    if OUTSIDE.fullmatch(name):
        return name
    found = pattern.fullmatch(name)
    if found is None:
        raise InputError(f"the weights contain {name!r}, which does not belong to {whose}")
    return rename(found)


def _our_name(found: re.Match[str]) -> str:
    stage, block, layer, projection, value = found.groups()
    return f"stages.{int(stage) - 1}.{block}.{layer or f'shortcut.{projection}'}.{value}"


def _their_name(found: re.Match[str]) -> str:
    stage, block, layer, projection, value = found.groups()
    return f"layer{int(stage) + 1}.{block}.{layer or f'downsample.{projection}'}.{value}"
