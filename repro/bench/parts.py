"""Measurements of a bench, the most important first.

When the time is up, the least important are missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from repro.config.arguments import apart
from repro.config.compose import parse, plan, product
from repro.config.run import IMAGENET_DEPTHS, RunConfig
from repro.errors import InputError

GPU_DEPTHS = (20, 56, 110)
CPU_DEPTHS = (20,)
RUNS_AT_ONCE = (1, 2, 4, 8)

PHOTO_SETS = {"imagenet", "tiny_imagenet"}
PHOTO_WORDS = {"model": "imagenet_resnet", "optim": "imagenet_sgd", "model.shortcut": "B"}
"""What is measured on photographs where the words do not say."""
PHOTO_GPU_DEPTH = 50
PHOTO_CPU_DEPTH = 18
PHOTO_CPU_BATCH = 8
"""Images of a step where the words say nothing: one of 256 would take a small processor half a minute."""

FIXED_BY_ALL = ("model", "model.depth", "optim.precision", "execution.step", "exp")


@dataclass(frozen=True)
class Part:
    """One measurement."""

    kind: str
    """A name in ``repro.bench.measure.MEASUREMENTS``, or ``processes``."""
    label: str
    config: RunConfig
    seconds: float
    """Of measuring, start-up apart."""
    limit: float
    """Seconds after which it is given up."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What the words ask for. ``names_nets``: whether they say which nets; without, the device decides, and on
    photographs also about precision and size of a batch."""

    configs: list[RunConfig]
    names_nets: bool
    names_precision: bool = False
    names_batch: bool = False

    @property
    def photos(self) -> bool:
        return self.configs[0].data.photos


def choose(words: Sequence[str], *, everything: bool) -> Choice:
    """The configurations that ``words`` describe, without those that differ in what no speed depends on (seeds).

    Raises:
        InputError: Some word is wrong, or ``everything`` decides what it sets.
    """
    settings = apart(words)[1]
    folders = [word for word in words if word not in settings]
    said = {override.key_or_group: override for override in map(parse, settings)}
    words = [*settings, *photo_words(said)]
    plan([*words, *folders])
    if everything and (fixed := [key for key in FIXED_BY_ALL if key in said]):
        raise InputError(f"--all measures a list of its own; leave out {fixed[0]}=, or leave out --all")
    given = {override.key_or_group: override for override in map(parse, words)}
    # A plan holds every run once, whatever its execution: sweeps over that are expanded here.
    execution = {key: o for key, o in given.items() if key.startswith("execution.")}
    others = [word for word, key in zip(words, given, strict=True) if key not in execution]
    configs: dict[object, RunConfig] = {}
    for point in product(execution):
        for config in plan([*folders, *others, *(o.input_line or "" for o in point.values())]).runs:
            key = (config.model, config.data, config.optim.precision, config.optim.batch_size, config.execution)
            configs.setdefault(key, config)
    if len({config.data.photos for config in configs.values()}) > 1:
        raise InputError("photographs are measured by themselves: name data=imagenet, data=tiny_imagenet or both alone")
    return Choice(
        list(configs.values()),
        names_nets="model.depth" in said or "exp" in said,
        names_precision="optim.precision" in said,
        names_batch=bool({"optim.batch_size", "model.bn_group_size", "scale"} & set(said)),
    )


def photo_words(said: dict[str, Any]) -> list[str]:
    """Words that make nets for photographs of a choice of data, where nothing was said of nets."""
    if "data" not in said or "exp" in said or not set(values(said["data"])) <= PHOTO_SETS:
        return []
    if "model" in said and set(values(said["model"])) != {"imagenet_resnet"}:
        return []
    return [f"{key}={value}" for key, value in PHOTO_WORDS.items() if key not in said]


def values(word: Any) -> list[str]:
    """All that a word, as ``repro.config.compose.parse`` reads it, gives its key."""
    return [str(v) for v in word.sweep_string_iterator()] if word.is_sweep_override() else [str(word.value())]


# --- small images -------------------------------------------------------------------------------------------------


def quick_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """The first net in its fastest way: under a minute in all on two cores."""
    config = choice.configs[0]
    if config.execution.step == "auto":
        config = with_step(config, device["best_step"])
    return [
        pairs_part(config, 20, 44),
        Part("ceilings", "the device's ceilings", config, 1, 10),
        case_part(config, 6, 30),
    ]


def usual_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """Each net asked for in each way that the device can run it, and each beside the textbook loop."""
    configs = choice.configs
    if not choice.names_nets:
        depths = GPU_DEPTHS if device["device"] == "cuda" else CPU_DEPTHS
        configs = [with_depth(config, depth) for depth in depths for config in configs]
    parts = [Part("ceilings", "the device's ceilings", configs[0], 3, 60)]
    compared: set[object] = set()
    for config in configs:
        modes = fastest_first(device) if config.execution.step == "auto" else [config.execution.step]
        parts += [case_part(with_step(config, mode), 12, 240) for mode in modes]
        if config.model not in compared:
            compared.add(config.model)
            parts.append(pairs_part(with_step(config, modes[0]), 24, 240))
    return parts


def all_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """All that the project's targets need: every net of Table 6, the precisions, the modes, what exactness costs, how
    many small runs a device can hold, and the memory of the deepest net. Eight minutes on a fast GPU."""
    best, base = device["best_step"], with_step(choice.configs[0], device["best_step"])
    net = {depth: with_depth(base, depth) for depth in (20, 32, 44, 56, 110, 1202)}
    parts = [
        Part("ceilings", "the device's ceilings", base, 3, 60),
        case_part(net[20], 6, 60),
        pairs_part(net[20], 20, 90),
        Part("threads", "ResNet-20, runs at once in threads", net[20], 12, 90, {"counts": RUNS_AT_ONCE}),
        case_part(net[110], 8, 60),
        case_part(net[1202], 15, 120),
        Part("processes", "ResNet-20, runs at once in processes", net[20], 12, 120, {"counts": RUNS_AT_ONCE}),
    ]
    parts += [case_part(with_precision(net[depth], "bf16"), 6, 60) for depth in (20, 110)]
    parts.append(case_part(checkpointed(net[1202]), 10, 120))
    parts += [case_part(not_deterministic(net[depth]), 6, 60) for depth in (20, 110)]
    parts += [case_part(with_precision(net[depth], "fp32"), 6, 60) for depth in (20, 110)]
    parts += [case_part(net[depth], 5, 60) for depth in (56, 32, 44)]
    others = [mode for mode in fastest_first(device) if mode != best]
    parts += [case_part(with_step(net[depth], mode), 6, 120) for mode in others for depth in (20, 110)]
    parts += [case_part(with_precision(net[1202], "bf16"), 10, 120), pairs_part(net[110], 15, 120)]
    parts += [case_part(with_step(net[1202], mode), 10, 150) for mode in others]
    return parts


def case_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("case", label(config), config, seconds, limit)


def pairs_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("pairs", f"{label(config)} beside the textbook loop", config, seconds, limit)


# --- photographs --------------------------------------------------------------------------------------------------


def quick_photo_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List the first net in its fastest way: under a minute in all on two cores."""
    config = photo_configs(choice, device)[0]
    if config.execution.step == "auto":
        config = with_step(config, device["best_step"])
    parts = [loader_part(config, 5, 20), training_part(config, 8, 45)]
    return parts + reference_parts([same_work(config, device)], 8, 45)


def usual_photo_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List each net asked for in each way that the device can run it, and beside torchvision's."""
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
    """List the usual parts, then the other nets of Table 1 and the arithmetic of the recipe."""
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
    """Settle what the words leave open, by the device: net, precision and size of the batch."""
    configs = choice.configs
    if not choice.names_nets:
        depth = PHOTO_GPU_DEPTH if device["device"] == "cuda" else PHOTO_CPU_DEPTH
        configs = [with_depth(c, depth) if c.model.name == "imagenet_resnet" else c for c in configs]
    if not choice.names_precision and device.get("bf16"):
        configs = [with_precision(c, "bf16") for c in configs]  # the reference's
    if not choice.names_batch and device["device"] != "cuda":
        configs = [with_group(with_batch(c, PHOTO_CPU_BATCH), PHOTO_CPU_BATCH) for c in configs]
    return configs


def each_set(configs: list[RunConfig]) -> list[RunConfig]:
    """Return the first configuration on each data set."""
    return list({c.data.name: c for c in reversed(configs)}.values())[::-1]


def same_work(config: RunConfig, device: dict[str, Any]) -> RunConfig:
    """Set batch norm over the whole batch and free choice of algorithms, as the reference has them."""
    config = with_group(config, config.optim.batch_size)
    return not_deterministic(config) if device["device"] == "cuda" else config


def loader_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("loader", f"loading {config.data.name}", config, seconds, limit)


def training_part(config: RunConfig, seconds: float, limit: float) -> Part:
    return Part("training", f"{label(config)} alone and with its loader", config, seconds, limit)


def reference_parts(configs: list[RunConfig], seconds: float, limit: float) -> list[Part]:
    """List comparisons with torchvision, which has the residual nets of Table 1 and no others."""
    return [
        Part("reference", f"{label(c)}{grouped(c)} beside torchvision's", c, seconds, limit)
        for c in configs
        if c.model.name == "imagenet_resnet" and c.model.shortcut != "none"
    ]


def grouped(config: RunConfig) -> str:
    group = config.model.bn_group_size
    return "" if group == config.optim.batch_size else f", batch norm in groups of {group},"


# --- shared -------------------------------------------------------------------------------------------------------


def fastest_first(device: dict[str, Any]) -> list[str]:
    best = device["best_step"]
    return [best, *(mode for mode in device["step_modes"] if mode != best)]


def label(config: RunConfig) -> str:
    """What sets a configuration apart from others, in words."""
    execution = config.execution
    words = [config.model.label, config.optim.precision, execution.step]
    words += ["not deterministic"] * (not execution.deterministic)
    words += ["recomputing"] * execution.checkpoint_activations
    return " ".join(words)


def with_depth(config: RunConfig, depth: int) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, depth=depth))


def with_precision(config: RunConfig, precision: Any) -> RunConfig:
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, precision=precision))


def with_step(config: RunConfig, step: Any) -> RunConfig:
    return dataclasses.replace(config, execution=dataclasses.replace(config.execution, step=step))


def checkpointed(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, execution=dataclasses.replace(config.execution, checkpoint_activations=True))


def not_deterministic(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, execution=dataclasses.replace(config.execution, deterministic=False))


def with_batch(config: RunConfig, batch_size: int) -> RunConfig:
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch_size=batch_size))


def with_group(config: RunConfig, group_size: int) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, bn_group_size=group_size))
