"""Names of weights: those of other public nets and ours.

torchvision's nets are ours for option B with ``stride_in=3x3`` (deviation D16); the CIFAR-10 nets of
akamaster/pytorch_resnet_cifar10 are ours for ``option_a=both_sides`` (deviation D24). Only the names differ.
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
OURS = re.compile(rf"stages\.([0-3])\.(\d+)\.(?:{LAYER}|shortcut\.([01]))\.{VALUE}")


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of a torchvision state dict under our names; the tensors are shared, not copied.

    ``num_batches_tracked``, which our batch norm stores but never counts or reads, comes along where the file has it;
    loading fills it in where it does not, as in files from before torch had it.

    Raises:
        InputError: A name is none of torchvision's ResNets of Table 1.
    """
    whose = "torchvision's ImageNet nets of 18 to 152 layers"
    return {_renamed(name, THEIRS, _our_name, whose): value for name, value in state.items()}


def from_akamaster(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of a state dict of akamaster's CIFAR-10 nets under our names, shared and not copied.

    Raises:
        InputError: A name belongs to none of these nets.
    """
    whose = "the CIFAR-10 nets of akamaster/pytorch_resnet_cifar10"
    named = {re.sub(r"^linear\.", "fc.", name): value for name, value in state.items()}
    return {_renamed(name, AKAMASTERS, _our_name, whose): value for name, value in named.items()}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of ``from_torchvision``, for the state dict of an ``ImageNetResNet``.

    Raises:
        InputError: A name is none of ours.
    """
    whose = "our ImageNet nets of 18 to 152 layers"
    return {_renamed(name, OURS, _their_name, whose): value for name, value in state.items()}


def _renamed(name: str, pattern: re.Pattern[str], rename: Callable[[re.Match[str]], str], whose: str) -> str:
    if OUTSIDE.fullmatch(name):
        return name
    found = pattern.fullmatch(name)
    if found is None:
        raise InputError(f"the weights hold {name!r}, which is not a part of {whose}")
    return rename(found)


def _our_name(found: re.Match[str]) -> str:
    stage, block, layer, projection, value = found.groups()
    return f"stages.{int(stage) - 1}.{block}.{layer or f'shortcut.{projection}'}.{value}"


def _their_name(found: re.Match[str]) -> str:
    stage, block, layer, projection, value = found.groups()
    return f"layer{int(stage) + 1}.{block}.{layer or f'downsample.{projection}'}.{value}"
