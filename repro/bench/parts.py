"""Measurements of a bench, the most important first."""

import dataclasses
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from repro.config.arguments import apart
from repro.config.compose import parse, plan, product
from repro.config.run import RunConfig
from repro.errors import InputError

PHOTO_WORDS = {"model": "imagenet_resnet", "optim": "imagenet_sgd", "model.shortcut": "B"}
"""Nets for ImageNet images where the words do not say."""
PHOTO_CPU_BATCH = 8  # images of a step, unless set: 256 would take a small processor half a minute

SAY_NETS = {"model", "model.depth", "exp"}
SAY_BATCH = {"optim.batch_size", "model.bn_group_size", "scale"}
FIXED_BY_ALL = ("model", "model.depth", "optim.precision", "execution.step", "exp")


@dataclass(frozen=True)
class Part:
    """One measurement: a ``kind`` of ``repro.bench.measure.MEASUREMENTS``, or ``spin``."""

    kind: str
    label: str
    config: RunConfig
    seconds: float  # the time of measuring, start-up apart
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The configurations that the words ask for, and the keys that they set; the device decides about others."""

    configs: list[RunConfig]
    said: AbstractSet[str]

    @property
    def photos(self) -> bool:
        return self.configs[0].data.photos


def choose(words: Sequence[str], *, everything: bool) -> Choice:
    """Compose the configurations of ``words``, without those that differ in seeds: no speed depends on them."""
    settings = apart(words)[1]
    folders = [word for word in words if word not in settings]
    said = {override.key_or_group: override for override in map(parse, settings)}
    words = [*settings, *photo_words(said)]
    plan([*words, *folders])
    if everything and (fixed := [key for key in FIXED_BY_ALL if key in said]):
        raise InputError(f"--all measures a list of its own; leave out {fixed[0]}=, or leave out --all")
    # A plan holds every run once, whatever its execution: sweeps over that are expanded here.
    given = {override.key_or_group: override for override in map(parse, words)}
    execution = {key: o for key, o in given.items() if key.startswith("execution.")}
    others = [word for word, key in zip(words, given, strict=True) if key not in execution]
    configs: dict[object, RunConfig] = {}
    for point in product(execution):
        for config in plan([*folders, *others, *(o.input_line or "" for o in point.values())]).runs:
            key = (config.model, config.data, config.optim.precision, config.optim.batch_size, config.execution)
            configs.setdefault(key, config)
    return Choice(list(configs.values()), said.keys())


def photo_words(said: dict[str, Any]) -> list[str]:
    """Return words for ImageNet nets where ``said`` chooses ImageNet images and no experiment."""
    if "data" not in said or "exp" in said:
        return []
    word = said["data"]
    names = word.sweep_string_iterator() if word.is_sweep_override() else [word.value()]
    photos = {str(name) for name in names} <= {"imagenet", "tiny_imagenet"}
    return [f"{key}={value}" for key, value in PHOTO_WORDS.items() if photos and key not in said]


def settled(choice: Choice, device: dict[str, Any]) -> list[RunConfig]:
    """Settle by the device what the words leave open: nets, of ImageNet also the precision and the batch size."""
    cuda, photos, configs = device["device"] == "cuda", choice.photos, choice.configs
    if not SAY_NETS & choice.said:
        small_images, imagenet = ((20, 56, 110), (50,)) if cuda else ((20,), (18,))
        depths = imagenet if photos else small_images
        configs = [changed(config, "model", depth=depth) for depth in depths for config in configs]
    if photos and "optim.precision" not in choice.said and device["bf16"]:
        configs = [changed(config, "optim", precision="bf16") for config in configs]  # the reference's
    if photos and not cuda and not SAY_BATCH & choice.said:
        configs = [changed(config, "optim", batch_size=PHOTO_CPU_BATCH) for config in configs]
        configs = [changed(config, "model", bn_group_size=PHOTO_CPU_BATCH) for config in configs]
    return configs


def quick_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List the first net in its fastest way: under a minute in all on two cores."""
    config = in_modes(settled(choice, device)[0], device)[0]
    if choice.photos:
        return [part("loader", config, 5), part("case", config, 8), *pairs([same_work(config, device)], 8)]
    return [*pairs([config], 20), part("ceilings", config, 1), part("case", config, 6)]


def usual_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List each net asked for, beside others' loops, then what may make the first one faster, then the other modes."""
    photos, on_cpu = choice.photos, device["device"] == "cpu"
    modes = [in_modes(config, device) for config in settled(choice, device)]
    fastest, slower = [way[0] for way in modes], [config for way in modes for config in way[1:]]
    first, compared = fastest[0], [same_work(config, device) for config in fastest] if photos else fastest
    parts = [part("ceilings", first, 3), *(part("case", config, 12) for config in fastest), *pairs(compared[:1], 20)]
    if photos:
        parts.insert(1, part("loader", first, 20))
        # As the recipe has it, in groups of batch norm and deterministic: the difference is what these cost.
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
    """List what the targets in docs/performance.md need, the first first: eight minutes on a fast GPU."""
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
    """Make a part, named by what sets its configuration apart from others."""
    net, others = label(config), "torchvision's" if config.data.photos else "the textbook loop"
    names = {
        "case": net,
        "ceilings": "the device's ceilings",
        "loader": f"loading {config.data.name}",
        "pairs": f"{net} beside {others}",
        "spin": f"{net}, threads that wait for each other",
        "together": f"{net}, runs at once",
    }
    return Part(kind, names[kind], config, seconds, options)


def at_once(config: RunConfig) -> Part:
    """Compare the ways to train several runs on one GPU; branches of a graph take steps that are one."""
    ways = ("threads", "processes", "branches") if config.execution.step != "eager" else ("threads", "processes")
    return part("together", config, 5 * len(ways), ways=ways, counts=(1, 2, 4))


def pairs(configs: Sequence[RunConfig], seconds: float) -> list[Part]:
    """List comparisons with others' loops; torchvision has residual nets alone."""
    return [part("pairs", c, seconds) for c in configs if not c.data.photos or c.model.shortcut != "none"]


def in_modes(config: RunConfig, device: dict[str, Any]) -> list[RunConfig]:
    """Return ``config`` in its own step mode, or where that is open in each that the device has, the fastest first."""
    if config.execution.step != "auto":
        return [config]
    modes = dict.fromkeys([device["best_step"], *device["step_modes"]])
    return [changed(config, "execution", step=mode) for mode in modes]


def same_work(config: RunConfig, device: dict[str, Any]) -> RunConfig:
    """Set batch norm over the whole batch and free choice of algorithms, as torchvision's reference has them."""
    config = changed(config, "model", bn_group_size=config.optim.batch_size)
    return changed(config, "execution", deterministic=False) if device["device"] == "cuda" else config


def label(config: RunConfig) -> str:
    execution, group = config.execution, config.model.bn_group_size
    words = [config.model.label, config.optim.precision, execution.step]
    words += [] if execution.deterministic else ["not deterministic"]
    words += ["recomputing"] if execution.checkpoint_activations else []
    words += [] if group == config.optim.batch_size else [f"batch norm over {group}"]
    return " ".join(words)


def changed(config: RunConfig, group: str, **changes: Any) -> RunConfig:
    """Return ``config`` with other settings in one of its groups."""
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **changes)})
