"""Nets of other projects, recognized by their weights' names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from repro.config.compose import plan
from repro.config.parse import require
from repro.config.run import RunConfig
from repro.data.augment import PixelStats
from repro.evaluation.trained import Trained
from repro.evaluation.weight_files import WeightsFile
from repro.models.foreign_weights import from_akamaster, from_torchvision, from_torchvision_dense

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean and deviation of ImageNet's pixels in torchvision's training scripts."""
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Pixels:
    """The preprocessing of a net: mean and deviation of each channel for pixels in [0, 1], shorter side for crops.

    A field is empty if it is unknown.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int | None = None


OUR_OWN = Pixels()


@dataclass(frozen=True)
class Origin:
    """The scripts that wrote weights.

    Args:
        name: A description for the user.
        to_ours: Renames the weights to our names.
        settings: Settings of the net that differ from our defaults.
    """

    name: str
    to_ours: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    settings: Mapping[str, str] = field(default_factory=dict)
    pixels: Pixels = OUR_OWN


def origin_of(weights: Mapping[str, Tensor]) -> Origin:
    """Recognize weights by their names."""

    def has(*parts: str) -> bool:
        return any(part in name for name in weights for part in parts)

    if has("stages."):
        return Origin("this project's own names", dict)
    if {"features.28.weight", "classifier.6.weight"} <= set(weights) and not has("running_mean"):
        settings = {"model": "vgg"}
        return Origin("torchvision's VGG nets", dict, settings, Pixels(IMAGENET_MEAN, IMAGENET_STD))
    if has("denseblock4."):
        name = "torchvision's ImageNet dense nets"
        return Origin(name, from_torchvision_dense, pixels=Pixels(IMAGENET_MEAN, IMAGENET_STD))
    if has("layer3.") and has("linear.") and not has("layer4."):
        # Its trainer.py normalizes CIFAR-10 images with the statistics of ImageNet.
        settings = {"model.shortcut": "B"} if has("shortcut.") else {"model.option_a": "both_sides"}
        name = "the CIFAR-10 nets of akamaster/pytorch_resnet_cifar10"
        return Origin(name, from_akamaster, settings, Pixels(IMAGENET_MEAN, IMAGENET_STD))
    if has("layer4."):
        # Its nets differ from those of Table 1 only in these two settings (deviation D16).
        settings = {"model.shortcut": "B", "model.stride_in": "3x3"}
        return Origin("torchvision's ImageNet nets", from_torchvision, settings, Pixels(IMAGENET_MEAN, IMAGENET_STD))
    if has("layer3."):
        # Many repositories use these names for CIFAR nets, with different pixels and places of zero channels.
        settings = {"model.shortcut": "B"} if has("downsample.") else {}
        name = "a net of three stages with torchvision's names, of an unknown script"
        return Origin(name, from_torchvision, settings)
    return Origin("nothing, by the names of the weights", dict)


def foreign_net(
    file: Path, found: WeightsFile, words: Sequence[str], given: Pixels
) -> tuple[Trained, PixelStats | None, str]:
    """Return the net of a file, which ``words`` describe, the statistics of its pixels, and a sentence on both.

    The statistics, broadcastable to (3, H, W), are those ``given``, or else those of the origin. They are None if
    neither is known; then those of our training images are used.

    Raises:
        InputError: The words do not describe one such net, or the statistics are not those of pixels in [0, 1].
    """
    origin = origin_of(found.weights)
    config, implied = _config(words, given, origin)
    stats, pixels = _pixel_stats(config, given, origin)
    trained = Trained(file.name, config, origin.to_ours(found.weights))
    return trained, stats, f"recognized: {origin.name}{implied}; pixels: {pixels}"


def _config(words: Sequence[str], given: Pixels, origin: Origin) -> tuple[RunConfig, str]:
    """Compose the run that the words describe; return it and the words added for ``origin``."""
    named = {word.partition("=")[0] for word in words}
    implied = {key: value for key, value in origin.settings.items() if key not in named}
    if "model.shortcut" in named:
        implied.pop("model.option_a", None)
    added = [f"{key}={value}" for key, value in implied.items()]
    runs = plan([*words, *added]).runs
    require(len(runs) == 1, f"--weights has one net, but the settings describe {len(runs)}")
    config = runs[0]
    if given.resize is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, eval_resize=given.resize))
    config.validate()
    return config, f" ({' '.join(added)})" if added else ""


def _pixel_stats(config: RunConfig, given: Pixels, origin: Origin) -> tuple[PixelStats | None, str]:
    data = config.data
    size = f"{data.image_size}x{data.image_size}"
    if data.photos:
        size += f" of a shorter side of {data.eval_resize}"
    mean, std, whose = origin.pixels.mean, origin.pixels.std, "as its scripts do"
    if given.mean:
        mean, std, whose = given.mean, given.std or (1.0, 1.0, 1.0), "as given"
    if not mean:
        deviation = "no deviation" if data.std == "none" else "the deviation of each channel"
        of = "mean image" if data.mean == "per_pixel" else "mean colour"
        return None, f"{size}, {of} and {deviation} of our training images; --mean and --std set others"
    sound = len(mean) == len(std) == 3 and all(0 <= m <= 1 for m in mean) and all(s > 0 for s in std)
    require(sound, "--mean and --std need three numbers each, for pixels from 0 to 1, as in --mean 0.485,0.456,0.406")
    stats = PixelStats(*(torch.tensor(values).view(3, 1, 1) for values in (mean, std)))
    return stats, f"{size}, mean {','.join(map(str, mean))}, deviation {','.join(map(str, std))}, {whose}"
