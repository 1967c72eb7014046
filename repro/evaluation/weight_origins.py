"""Origins of foreign weights, recognized by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from repro.models.foreign_weights import from_akamaster, from_torchvision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of the pixels of ImageNet, as torchvision's training scripts subtract it."""
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Origin:
    """The scripts that wrote weights.

    Args:
        name: For the user.
        to_ours: Gives the weights under our names.
        settings: Of the net that the weights fit, where they are not our defaults.
        mean, std: Of the pixels in [0, 1] that it was trained on, for each channel; empty where that is not known.
    """

    name: str
    to_ours: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    settings: Mapping[str, str] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def origin_of(weights: Mapping[str, Tensor]) -> Origin:
    """Recognize weights by their names; names that nobody is known for are left as they are."""

    def has(*parts: str) -> bool:
        return any(part in name for name in weights for part in parts)

    if has("stages."):
        return Origin("this project's own names", dict)
    if has("layer3.") and has("linear.") and not has("layer4."):
        # Its pixels are normalized with the statistics of ImageNet, though they are CIFAR-10's (its trainer.py).
        settings = {"model.shortcut": "B"} if has("shortcut.") else {"model.option_a": "both_sides"}
        name = "the CIFAR-10 nets of akamaster/pytorch_resnet_cifar10"
        return Origin(name, from_akamaster, settings, IMAGENET_MEAN, IMAGENET_STD)
    if has("layer4."):
        # Its nets are those of Table 1 but for these two (deviation D16).
        settings = {"model.shortcut": "B", "model.stride_in": "3x3"}
        return Origin("torchvision's ImageNet nets", from_torchvision, settings, IMAGENET_MEAN, IMAGENET_STD)
    if has("layer3."):
        # Many repositories name CIFAR nets so, each with pixels and places of zero channels of its own.
        return Origin(
            "a net of three stages with torchvision's names, of an unknown script",
            from_torchvision,
            {"model.shortcut": "B"} if has("downsample.") else {},
        )
    return Origin("nothing, by the names of the weights", dict)
