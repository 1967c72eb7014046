"""Parts of a bench, the most important first."""

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from repro.config.arguments import apart
from repro.config.compose import points
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch.published import FREE

PHOTO_WORDS = {"model": "imagenet_resnet", "optim": "imagenet_sgd", "model.shortcut": "B"}
"""The default net of ImageNet images."""
PHOTO_CPU_BATCH = 8  # the default batch of ImageNet images on a CPU: 256 would take half a minute per step

SAY_NETS = {"model", "model.depth", "exp"}
SAY_BATCH = {"optim.batch_size", "model.bn_group_size", "scale"}
FIXED_BY_ALL = ("model", "model.depth", "optim.precision", "execution.step", "exp")

NAMES = {
    "case": "{net}",
    "ceilings": "the device's ceilings",
    "loader": "loading {data}",
    "pairs": "{net} beside {others}",
    "spin": "{net}, threads that wait for each other",
    "together": "{net}, runs at once",
}


@dataclass(frozen=True)
class Part:
    """One measurement: a ``kind`` of ``repro.bench.measure.MEASUREMENTS``, ``spin`` or ``together``."""

    kind: str
    label: str
    config: RunConfig
    seconds: float  # of measuring, without the start
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The configurations of the command line, and the keys that it sets; the device decides about others."""

    configs: list[RunConfig]
    said: AbstractSet[str]

    @property
    def photos(self) -> bool:
        return self.configs[0].data.photos


def choose(words: Sequence[str], *, everything: bool) -> Choice:
    """Compose the configurations of ``words``, without those that differ only in seeds."""
    folders, settings = [word for word in words if word.startswith("paths.")], apart(words)[1]
    said = {word.partition("=")[0].lstrip("+"): word for word in settings}
    if "imagenet" in said.get("data", "") and "exp" not in said:
        settings += [f"{key}={value}" for key, value in PHOTO_WORDS.items() if key not in said]
    configs: dict[object, RunConfig] = {}
    for _, _, config in points([*folders, *settings]):
        key = (config.model, config.data, config.optim.precision, config.optim.batch_size, config.execution)
        configs.setdefault(key, config)
    if everything and (fixed := [key for key in FIXED_BY_ALL if key in said]):
        raise InputError(f"--all measures a list of its own; leave out {fixed[0]}=, or leave out --all")
    return Choice(list(configs.values()), said.keys())


def settled(choice: Choice, device: dict[str, Any]) -> list[RunConfig]:
    """Choose by the device the settings that the words leave open: nets, and for ImageNet precision and batch size."""
    cuda, photos, configs = device["device"] == "cuda", choice.photos, choice.configs
    if not SAY_NETS & choice.said:
        depths = {(True, True): (50,), (True, False): (18,), (False, True): (20, 56, 110), (False, False): (20,)}
        configs = [changed(config, "model", depth=depth) for depth in depths[photos, cuda] for config in configs]
    if photos and "optim.precision" not in choice.said and device["bf16"]:
        configs = [changed(config, "optim", precision="bf16") for config in configs]  # as in the reference
    if photos and not cuda and not SAY_BATCH & choice.said:
        configs = [changed(config, "optim", batch_size=PHOTO_CPU_BATCH) for config in configs]
        configs = [changed(config, "model", bn_group_size=PHOTO_CPU_BATCH) for config in configs]
    return configs


def quick_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List the first net in its fastest mode: less than a minute in all on two cores."""
    config = in_modes(settled(choice, device)[0], device)[0]
    if choice.photos:
        return [part("loader", config, 5), part("case", config, 8), *pairs([same_work(config, device)], 8)]
    return [*pairs([config], 20), part("ceilings", config, 1), part("case", config, 6)]


def usual_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List each net beside other loops, then what may make the first one faster, then slower modes."""
    photos, on_cpu = choice.photos, device["device"] == "cpu"
    modes = [in_modes(config, device) for config in settled(choice, device)]
    fastest, slower = [way[0] for way in modes], [config for way in modes for config in way[1:]]
    first, compared = fastest[0], [same_work(config, device) for config in fastest] if photos else fastest
    parts = [part("ceilings", first, 3), *(part("case", config, 12) for config in fastest), *pairs(compared[:1], 20)]
    if photos:
        parts.insert(1, part("loader", first, 20))
        # Also as in the recipe, deterministic and with groups of batch norm: the difference is their cost.
        compared += [] if on_cpu else fastest
    else:
        if device["bf16"] and "optim.precision" not in choice.said:
            parts.append(part("case", changed(first, "optim", precision="bf16"), 12))
        if on_cpu and device["threads"] > 1:
            parts.append(part("spin", first, 8))
        if not on_cpu:
            parts.append(at_once(first))
    return [*parts, *pairs(compared[1:], 20), *(part("case", config, 12) for config in slower)]


def all_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List the measurements for the targets in docs/performance.md: eight minutes on a fast GPU."""
    if choice.photos:
        return usual_parts(choice, device)
    base, *slower = in_modes(choice.configs[0], device)
    small = [changed(base, "model", depth=depth) for depth in (20, 110)]
    deepest = changed(base, "model", depth=1202)
    ways = [("execution", "deterministic", False), ("optim", "precision", "bf16"), ("optim", "precision", "fp32")]
    return [
        *(part("ceilings", base, 3), part("case", small[0], 6), *pairs(small[:1], 20)),
        *(at_once(small[0]), part("case", small[1], 8)),
        *(part("case", changed(config, group, **{name: value}), 6) for group, name, value in ways for config in small),
        *(part("case", deepest, 15), part("case", changed(deepest, "execution", checkpoint_activations=True), 10)),
        *(part("case", changed(mode, "model", depth=depth), 6) for mode in reversed(slower) for depth in (20, 110)),
    ]


def part(kind: str, config: RunConfig, seconds: float, **options: Any) -> Part:
    others = "torchvision's" if config.data.photos else "the textbook loop"
    name = NAMES[kind].format(net=label(config), data=config.data.name, others=others)
    return Part(kind, name, config, seconds, options)


def at_once(config: RunConfig) -> Part:
    """Compare the ways to train several runs on one GPU; branches of a graph need steps that are graphs."""
    ways = ("threads", "processes", "branches") if config.execution.step != "eager" else ("threads", "processes")
    return part("together", config, 5 * len(ways), ways=ways, counts=(1, 2, 4))


def pairs(configs: Sequence[RunConfig], seconds: float) -> list[Part]:
    """List comparisons with other loops; torchvision has only residual nets."""
    return [part("pairs", c, seconds) for c in configs if not c.data.photos or c.model.shortcut != "none"]


def in_modes(config: RunConfig, device: dict[str, Any]) -> list[RunConfig]:
    """Return ``config`` in its step mode, or for ``auto`` in each mode of the device, the fastest first."""
    if config.execution.step != "auto":
        return [config]
    modes = dict.fromkeys([device["best_step"], *device["step_modes"]])
    return [changed(config, "execution", step=mode) for mode in modes]


def same_work(config: RunConfig, device: dict[str, Any]) -> RunConfig:
    """Set batch norm over the whole batch and free choice of algorithms, as in torchvision's reference."""
    config = changed(config, "model", bn_group_size=config.optim.batch_size)
    return changed(config, "execution", deterministic=False) if device["device"] == "cuda" else config


def label(config: RunConfig) -> str:
    execution, group = config.execution, config.model.bn_group_size
    words = [config.model.label, config.optim.precision, execution.step]
    words += [] if execution.deterministic else [FREE]
    words += ["recomputing"] if execution.checkpoint_activations else []
    words += [] if group == config.optim.batch_size else [f"batch norm over {group}"]
    return " ".join(words)


def changed(config: RunConfig, group: str, **changes: Any) -> RunConfig:
    """Return ``config`` with other settings in one of its groups."""
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **changes)})


def speeds(each: list[float]) -> dict[str, Any]:
    """Return the row of parallel runs in the result of a part, from the images per second of each."""
    return {"runs": len(each), "images_per_second": sum(each), "each": each}
