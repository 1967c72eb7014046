"""The runs that a command line describes.

Only this module knows Hydra; words mean what Hydra users expect: ``model.depth=20,56 seed=range(3)``. The whole sweep
is checked before anything starts: a mistyped key, a wrong type or an impossible depth is reported in one sentence.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from repro.config.arguments import apart, choices, refuse_placeholder
from repro.config.execution import PROTOCOLS
from repro.config.hydra_habits import refuse_setting
from repro.config.paths import resolve_paths, shared_dir
from repro.config.run import RunConfig
from repro.errors import InputError, nearest, nearest_key

MOST_VALUES = 10_000
"""The most values that one word may sweep over: a range may have no end."""
EPOCH_IMAGES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn": 604_388,
    "synthetic": 5000,
    "imagenet": 1_281_167,
    "tiny_imagenet": 100_000,
    "shapes_photos": 300,
    "shapes": 1000,
    "voc": 16_551,
    "coco": 82_783,
    "imagenet_det": 466_444,
}
"""Training images of each whole data set."""
GROUPS = ("model", "data", "optim", "eval", "detection", "localization", "execution", "exp", "scale")


@dataclass(frozen=True)
class Plan:
    """The runs that a command line asks for."""

    runs: list[RunConfig]
    protocol: str
    words: list[str]
    """The words as given; they repeat the plan."""
    line_of: dict[str, int]
    """By run id: the first line of the experiments' sweeps that asks for the run. Important lines come first."""
    experiments: dict[str, list[str]]
    """The run ids of each experiment in their order; experiments may share runs."""


def plan(words: list[str]) -> Plan:
    """Expand and check all runs that ``words`` describe.

    Raises:
        InputError: A word is invalid; nothing was started.
    """
    runs: dict[str, RunConfig] = {}
    line_of: dict[str, int] = {}
    experiments: dict[str, list[str]] = {}
    protocol = "paper"
    for number, protocol, config in points(words):  # noqa: B007  # all points have the same protocol
        runs.setdefault(config.run_id, config)
        line_of.setdefault(config.run_id, number)
        asked = experiments.setdefault(config.exp, [])
        asked += [] if config.run_id in asked else [config.run_id]
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol={protocol} is unknown: {nearest(str(protocol), PROTOCOLS)}")
    return Plan(list(runs.values()), protocol, words, line_of, experiments)


def points(words: list[str]) -> Iterator[tuple[int, str, RunConfig]]:
    """Yield the plan's line, the protocol and the run of every point of the sweeps; runs may be equal.

    Raises:
        InputError: A word is invalid.
    """
    folders, settings_given = apart(words)
    given = [parse(word) for word in settings_given]
    twice = [key for key in {o.key_or_group for o in given} if sum(o.key_or_group == key for o in given) > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice")
    settings = Settings()
    for number, line in enumerate(lines(given, settings)):
        for point in line:
            values = settings.compose(point)
            yield number, values.pop("protocol"), run_config(values, point, folders)


def refuse_sweeps_of_execution(words: Sequence[str]) -> None:
    """Refuse to sweep over execution settings: all runs of such a sweep would be the same run.

    Raises:
        InputError: A word sweeps over the execution or the device.
    """
    for override in map(parse, apart(words)[1]):
        if override.is_sweep_override() and override.key_or_group.partition(".")[0] in ("execution", "device"):
            raise InputError(f"{override.key_or_group} cannot be swept over: all runs would be the same run")


def run_config(values: dict[str, Any], point: dict[str, Override], folders: dict[str, str]) -> RunConfig:
    for name in ("description", "sweep", "device"):
        values.pop(name, None)
    for name, empty in (("exp", ""), ("scale", "paper")):
        values[name] = str(point[name].value() or empty) if name in point else empty
    values["paths"] = resolve_paths(values["paths"] | folders)
    return RunConfig.from_dict(values)


def lines(given: list[Override], settings: Settings) -> Iterator[Iterator[dict[str, Override]]]:
    """Yield the points of each line of the experiments' ``sweep``; settings that the user gave override the line's."""
    user = {o.key_or_group: o for o in given}
    groups = {key: o for key, o in user.items() if key in GROUPS}
    for word in groups.values():
        settings.check(word, groups)
    for chosen in product(groups):
        for word in user.values():
            settings.check(word, chosen)
        yield from lines_of(chosen, user, settings)


def lines_of(
    chosen: dict[str, Override], user: dict[str, Override], settings: Settings
) -> Iterator[Iterator[dict[str, Override]]]:
    """Yield the points of each line of the ``sweep`` that the groups ``chosen`` compose.

    A line that names an experiment, as in ``exp=voc_detection data=shapes``, stands for the lines of that experiment.
    """
    composed = settings.composed(chosen)
    if "seed" in user and not user["seed"].is_sweep_override():
        OmegaConf.update(composed, "seed", user["seed"].value())  # lines may refer to it
    for line in composed.get("sweep") or [""]:
        swept = {o.key_or_group: o for o in map(parse, str(line).split())}
        if "exp" not in swept:
            yield product(swept | user | chosen)
            continue
        others = {key: o for key, o in chosen.items() if key != "exp"}
        groups = {key: o for key, o in swept.items() if key in GROUPS}
        own = {key: o for key, o in (swept | user).items() if key not in GROUPS}
        for below in product(groups | others):
            yield from lines_of(below, own, settings)


def product(words: dict[str, Override]) -> Iterator[dict[str, Override]]:
    """Yield every combination of the words that sweep, the first word varying slowest."""
    choices = [
        [parse(f"{o.key_or_group}={value}") for value in o.sweep_string_iterator()] if o.is_sweep_override() else [o]
        for o in words.values()
    ]
    for combination in itertools.product(*choices):
        yield dict(zip(words, combination, strict=True))


def parse(word: str) -> Override:
    """Read one word of the command line with Hydra's own parser.

    Raises:
        InputError: The word is not of Hydra's form ``key=value``.
    """
    if "=" not in word or word.startswith(("~", "=")):
        raise InputError(f"{word!r} is not a setting; write key=value, as in model.depth=56")
    refuse_placeholder(word)
    try:
        override: Override = OverridesParser.create().parse_override(word.lstrip("+"))
        swept = override.is_sweep_override()
        values = len(list(itertools.islice(override.sweep_string_iterator(), MOST_VALUES + 1))) if swept else 1
    except (HydraException, ValueError) as error:
        raise InputError(f"{word!r} cannot be read as a setting: {str(error).splitlines()[0]}") from error
    except ArithmeticError as error:
        raise InputError(f"{word!r} cannot be read as a setting: its numbers do not form a range") from error
    if values == 0:
        raise InputError(f"{word!r} sweeps over no value")
    if values > MOST_VALUES:
        raise InputError(f"{word!r} sweeps over more than {MOST_VALUES:,} values")
    return override


def steps_of_epochs(epochs: float, *, _root_: DictConfig) -> int:
    """Convert epochs to steps, rounded, for schedules in conf/ such as ``${epochs:200}``.

    An epoch has the training images of the run, without those that ``data.split`` holds out.
    """
    data, batch_size = _root_.data, int(_root_.optim.batch_size)
    images: int = EPOCH_IMAGES[data.name]
    if data.name == "synthetic":  # made to order
        images = data.train_images or images
    if data.split != "train":
        images -= images // 10
    images = min(images, data.train_images or images)
    return max(1, round(epochs * images / batch_size))


def total(values: Iterable[int]) -> int:
    """Add up numbers, for ``${total:${detection.steps}}`` in conf/."""
    return sum(int(value) for value in values)


def run_of(exp: str, depth: int, start: str = "", seed: int = 0, *, _root_: DictConfig) -> str:
    """Return the id of an experiment's run of a depth at this scale, for ``detection.start=${run:imagenet_depth,101}``.

    Where a localizer and the net for its proposals have that depth and seed, it is the second. ``start`` names the
    experiment from whose run of that depth a detector or a localizer starts in turn; the localizer also tests the
    classes of that run.
    """
    words = [f"exp={exp}", f"model.depth={depth}", f"scale={_root_.scale}", f"seed={seed}"]
    if start:
        before = run_of(start, depth, _root_=_root_)
        is_localizer = exp == "imagenet_localization"
        words += [f"localization.start={before}", f"localization.classes_of=[{before}]"] if is_localizer else []
        words += [] if is_localizer else [f"detection.start={before}"]
    return plan(words).runs[-1].run_id


OmegaConf.register_new_resolver("run", run_of, replace=True)
OmegaConf.register_new_resolver("total", total, replace=True)
OmegaConf.register_new_resolver("epochs", steps_of_epochs, replace=True)


class Settings:
    """Hydra's compositions, one for each choice of groups; single values are set on top without composing again."""

    def __init__(self, conf: Path | None = None) -> None:
        self._conf = (conf or shared_dir("conf")).absolute()
        self._newest = max(path.stat().st_mtime_ns for path in self._conf.rglob("*.yaml"))

    def composed(self, point: dict[str, Override]) -> DictConfig:
        """Compose the groups that ``point`` chooses.

        Raises:
            InputError: The files in conf/ do not compose.
        """
        words = tuple(o.input_line or "" for key, o in point.items() if key in GROUPS)
        # Each caller gets a copy of its own; unpickling makes it seven times as fast as copy.deepcopy.
        copied: DictConfig = pickle.loads(composition(words, self._conf, self._newest))
        OmegaConf.update(copied, "scale", str(point["scale"].value()) if "scale" in point else "paper", force_add=True)
        return copied

    def compose(self, point: dict[str, Override]) -> dict[str, Any]:
        """Return the values at ``point`` as plain Python, with interpolations resolved."""
        config = self.composed(point)
        try:
            for key, override in point.items():
                if key not in GROUPS:
                    OmegaConf.update(config, key, override.value())
            return plain_values(config, resolve=True)
        except OmegaConfBaseException as error:
            raise InputError(f"a setting does not fit: {str(error).splitlines()[0]}") from error

    def check(self, override: Override, groups: dict[str, Override]) -> None:
        """Refuse a word that the files in conf/ do not define for the chosen ``groups``.

        Raises:
            InputError: There is no such choice of a group, or no such key.
        """
        key = override.key_or_group
        if key in GROUPS:
            known = choices(key)
            for value in override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]:
                if str(value) not in known and not (key == "exp" and value is None):
                    kind = {"exp": "experiment", "data": "data set"}.get(key, key)
                    raise InputError(f"unknown {kind} {str(value)!r}: {nearest(str(value), known)}")
            return
        keys = set(flatten(plain_values(self.composed(groups), resolve=False))) - {"description", "sweep"}
        if key not in keys:
            refuse_setting(key)
            if others := choices_with(key):
                raise InputError(f"{key} is a setting of {' and '.join(others)}: add {others[0]}")
            raise InputError(f"unknown key {key!r}: {nearest_key(key, keys | set(GROUPS))}")


@functools.cache
def composition(words: tuple[str, ...], conf: Path, newest: int) -> bytes:
    """Compose and pickle the groups that ``words`` choose; kept by a process until a file changes (``newest``).

    Raises:
        InputError: The files in ``conf`` do not compose.
    """
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            return pickle.dumps(compose("config", overrides=list(words)))
    except HydraException as error:
        raise InputError(f"the configuration does not compose: {str(error).splitlines()[0]}") from error


def choices_with(key: str) -> list[str]:
    """Return the choices of a key's group that define the key, as ``execution=ddp`` defines ``execution.devices``."""
    group, _, name = key.partition(".")
    files = choices(group).items() if group in GROUPS else ()
    return [f"{group}={c}" for c, path in files if name in flatten(yaml.safe_load(path.read_text(encoding="utf-8")))]


def describe(group: str) -> dict[str, str]:
    """Return the choices of a group, each with the ``description`` or the first comment of its file."""
    texts = {}
    for name, path in choices(group).items():
        text = path.read_text(encoding="utf-8")
        comments = [line.lstrip("# ") for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
        told = yaml.safe_load(text).get("description")
        texts[name] = str(told or (comments[0] if comments else ""))
    return texts


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all values."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def plain_values(config: DictConfig, *, resolve: bool) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}
