"""What a bench measures on photographs, in order of importance: the loader, the step, both, and torchvision's step."""

from __future__ import annotations

import dataclasses
from typing import Any

from repro.bench.parts import (
    Choice,
    Part,
    fastest_first,
    label,
    not_deterministic,
    with_depth,
    with_precision,
    with_step,
)
from repro.config.run import IMAGENET_DEPTHS, RunConfig

GPU_DEPTH = 50
CPU_DEPTH = 18
CPU_BATCH = 8
"""Images of a step where the words say nothing: one of 256 would take a small processor half a minute."""


def quick_photo_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """The first net in its fastest way: under a minute in all on two cores."""
    config = photo_configs(choice, device)[0]
    if config.execution.step == "auto":
        config = with_step(config, device["best_step"])
    parts = [loader_part(config, 5, 20), training_part(config, 8, 45)]
    return parts + reference_parts([same_work(config, device)], 8, 45)


def usual_photo_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """Each net asked for in each way that the device can run it, and beside torchvision's."""
    configs = photo_configs(choice, device)
    parts = [loader_part(config, 20, 120) for config in each_set(configs)]
    for config in configs:
        modes = fastest_first(device) if config.execution.step == "auto" else [config.execution.step]
        in_modes = [with_step(config, mode) for mode in modes]
        parts.append(training_part(in_modes[0], 15, 240))
        # Compiled and recorded steps may be faster or slower than the reference's; on a CPU they are not comparable.
        compared = in_modes[:1] if device["device"] == "cpu" else [c for c in in_modes if c.execution.step != "eager"]
        likewise = [same_work(c, device) for c in compared or in_modes]
        parts += reference_parts(likewise, 15, 240)
        parts += [training_part(c, 15, 240) for c in in_modes[1:]]
        parts += reference_parts([c for c in in_modes[:1] if c not in likewise], 15, 240)
    return parts


def all_photo_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """The same, then the other nets of Table 1 and the arithmetic of the recipe."""
    (config, *_) = photo_configs(choice, device)
    best = with_step(config, device["best_step"])
    parts = usual_photo_parts(choice, device)
    if config.model.name == "imagenet_resnet":
        others = [with_depth(best, depth) for depth in IMAGENET_DEPTHS if depth != config.model.depth]
        parts += [training_part(other, 8, 120) for other in others]
    recipe = choice.configs[0].optim.precision
    if recipe != config.optim.precision:
        parts.append(training_part(with_precision(best, recipe), 8, 120))
    return parts


def photo_configs(choice: Choice, device: dict[str, Any]) -> list[RunConfig]:
    """What was asked for; the device decides on what the words leave open: net, precision and size of the batch."""
    configs = choice.configs
    if not choice.names_nets:
        depth = GPU_DEPTH if device["device"] == "cuda" else CPU_DEPTH
        configs = [with_depth(c, depth) if c.model.name == "imagenet_resnet" else c for c in configs]
    if not choice.names_precision and device.get("bf16"):
        configs = [with_precision(c, "bf16") for c in configs]  # the reference's
    if not choice.names_batch and device["device"] != "cuda":
        configs = [with_group(with_batch(c, CPU_BATCH), CPU_BATCH) for c in configs]
    return configs


def each_set(configs: list[RunConfig]) -> list[RunConfig]:
    """The first configuration on each data set."""
    return list({c.data.name: c for c in reversed(configs)}.values())[::-1]


def same_work(config: RunConfig, device: dict[str, Any]) -> RunConfig:
    """Batch norm over the whole batch and free choice of algorithms, as the reference has them."""
    config = with_group(config, config.optim.batch_size)
    return not_deterministic(config) if device["device"] == "cuda" else config


def loader_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("loader", f"loading {config.data.name}", config, seconds, limit)


def training_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("training", f"{label(config)} alone and with its loader", config, seconds, limit)


def reference_parts(configs: list[RunConfig], seconds: float, limit: float) -> list[Part]:
    """Torchvision has the residual nets of Table 1 and no others."""
    return [
        Part("reference", f"{label(c)}{grouped(c)} beside torchvision's", c, seconds, limit)
        for c in configs
        if c.model.name == "imagenet_resnet" and c.model.shortcut != "none"
    ]


def grouped(config: RunConfig) -> str:
    group = config.model.bn_group_size
    return "" if group == config.optim.batch_size else f", batch norm in groups of {group},"


def with_batch(config: RunConfig, batch_size: int) -> RunConfig:
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch_size=batch_size))


def with_group(config: RunConfig, group_size: int) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, bn_group_size=group_size))
