"""Recipes with the changes of each scale in conf/."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from repro.config.detection import DetectionConfig, is_weight_file
from repro.config.families import FAMILIES
from repro.config.localization import of_regions
from repro.config.model import ModelConfig
from repro.config.numerics import NUMERICS_VERSION
from repro.config.paths import shared_dir
from repro.config.science import OF_BOXES, DataConfig, Science, later_defaults
from repro.papers import FIRST, later_papers, load_recipe
from repro.papers.recipes import all_recipes

GROUPS = ("model", "data", "optim", "eval", "detection", "localization")
"""The groups of science in a file; the others are execution and text."""

TOTAL = "${total:${"
"""The beginning of a sum in conf/, as in ``${total:${detection.steps}}``."""
IMAGENET = "imagenet"
"""The start of a detector whose body was trained on ImageNet (deviation D70)."""

COCO = "coco"
"""The start of a detector that was trained on COCO by the recipe of Table 8 before (deviation D77)."""

OF_IMAGES: Mapping[str, Any] = {
    f"data.{field.name}": list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(DataConfig)
    if field.name in OF_BOXES
}
"""The fields of images with boxes, flat, as they are without any."""
OF_DETECTORS: Mapping[str, Any] = {
    f"detection.{field.name}": list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(DetectionConfig)
    if field.default is not dataclasses.MISSING
}
"""The later fields of detectors, at their defaults."""
OF_REGIONS: Mapping[str, Any] = {f"localization.{name}": value for name, value in of_regions().items()}
"""The fields of localizers that only R-CNN reads, at their defaults."""
DEFAULTS: Mapping[str, Any] = {**OF_IMAGES, **OF_DETECTORS, **later_defaults()}
"""Values of the fields that a recipe may leave out."""


def compared(science: Science) -> dict[str, Any]:
    """Return the fields of a run as recipes write them, flat.

    The weights that a detector starts from differ between seeds and users: ``imagenet`` stands for a file of weights
    and for a run of the paper's recipe on ImageNet, and the key of any other run for its id (deviation D70). So do the
    keys of an ensemble's further nets for their ids, in any order.
    """
    fields = science.flat()
    for part, name in ((science.detection, "detection.members"), (science.localization, "localization.members")):
        if part is not None:
            fields[name] = sorted(key_of(member) for member in part.members)
    for key in ("detection.start", "localization.start", "localization.proposals_of"):
        if key in fields:
            fields[key] = known_weights(fields[key], science.model)
    if science.localization is not None:
        # A run with predicted classes has the boxes of a run without them, and one number more. Rows of tables say
        # which of the paper's nets predict them; any other net is a departure.
        own = science.localization.classes_of
        fields["localization.classes_of"] = [] if known_classes(science) else sorted(map(key_of, own))
    if science.detection is not None and science.detection.pretrained == COCO:
        # Training checks that the run is what ``pretrained`` says; a file or random weights are not COCO's.
        is_full = fields["detection.start"] == IMAGENET
        if not is_full and (science.detection.start or "").count("-") > 2:
            fields["detection.start"] = COCO
    return as_read(fields)


def as_read(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat fields of a run, with those of R-CNN at their defaults for a region proposal network.

    Files of scales set them for both methods, and runs of earlier code have them.
    """
    return {**fields, **OF_REGIONS} if fields.get("localization.method") == "rpn" else {**fields}


def known_classes(science: Science) -> tuple[str, ...]:
    """Return the keys of the runs that predict a localizer's classes, sorted, if all are by the recipe of ImageNet."""
    names = () if science.localization is None else science.localization.classes_of
    is_known = all(is_of_imagenet(name, science.model) for name in names)
    return tuple(sorted(map(key_of, names))) if is_known else ()


def known_weights(start: str | None, model: ModelConfig) -> str | None:
    """Return ``imagenet`` for a file of weights and for a run of the paper's recipe, or the key of another run."""
    if start is None:
        return None
    if is_weight_file(start) or _is_on_imagenet(start, model):
        return IMAGENET
    return key_of(start)


def key_of(run_id: str) -> str:
    """Return the key of a run's id: its data, net and scale, without seed and fingerprint."""
    return run_id.rsplit("-", 2)[0] if run_id.count("-") > 2 else run_id


def kind_of(recipe: Mapping[str, Any]) -> str:
    """Return the task of a recipe's runs, as ``Science.kind``."""
    groups = {key.partition(".")[0] for key in recipe}
    return next((kind for kind in ("detection", "localization") if kind in groups), "classification")


@functools.cache
def _is_on_imagenet(run_id: str, model: ModelConfig) -> bool:
    """Return whether the id is that of a run of a net by the recipe of its family, in any version of the numerics."""
    found = re.fullmatch(r"imagenet-.+-s(\d+)-([0-9a-f]{8})", run_id)
    if found is None or model.name != "imagenet_resnet":
        return False
    # The name alone does not tell a changed budget from the paper's.
    net = {"model.depth": model.depth, "model.shortcut": model.shortcut}
    run = Science.from_flat({**load_recipe(FAMILIES[model.name].recipe).fields, **net}, int(found[1]))
    versions = range(1, NUMERICS_VERSION + 1)
    return any(run.fingerprint(version).startswith(found[2]) for version in versions)


def is_of_imagenet(run_id: str, model: ModelConfig) -> bool:
    """Return whether the id is that of a run of any net of the first paper by its recipe for ImageNet."""
    depths, shortcuts = (18, 34, 50, 101, 152), ("none", "A", "B", "C")
    nets = (dataclasses.replace(model, depth=d, shortcut=s) for d in depths for s in shortcuts)  # type: ignore[arg-type]
    return any(_is_on_imagenet(run_id, net) for net in nets)


def is_of_detector(recipe: Mapping[str, Any]) -> bool:
    """Return whether a recipe trains detectors."""
    return kind_of(recipe) == "detection"


def own_recipe(recipe: Mapping[str, Any], scale: str, data: str, exp: str = "") -> dict[str, Any]:
    """Compose the settings of ``scale``, flat: ``recipe``, overridden by files of conf/ in Hydra's order.

    Args:
        recipe: The flat science fields of ``Recipe.fields``.
        data: The data set; scales have other steps and sizes for ImageNet images (``conf/fitted``).
        exp: The experiment, which may have its own budget at this scale (``conf/fitted_exp``).
    """
    chosen = {**_file(f"scale/{scale}"), **_file(f"fitted/{scale}_{data}"), **_file(f"fitted_exp/{scale}_{exp}")}
    of_images = {} if kind_of(recipe) == "classification" else OF_IMAGES
    of_task = OF_DETECTORS if is_of_detector(recipe) else {}
    fields = {**of_images, **of_task, **later_defaults(), **recipe}
    if data != data_of(recipe):
        # Lists of images belong to one data set. An experiment's settings of its images apply to other data sets too.
        fields |= {**of_images, **_file(f"data/{data}", "data"), **(_file(f"exp/{exp}") if exp else {})}
    fields |= chosen
    # A value such as ${optim.batch_size} follows the one that it names, unless the scale sets it.
    for key, value in _file(f"model/{recipe['model.name']}", "model").items():
        if key not in chosen and isinstance(value, str) and value.startswith("${"):
            fields[key] = fields[value[2:-1]]
    for key, value in fields.items():
        if isinstance(value, str) and value.startswith(TOTAL):
            fields[key] = sum(fields[value.removeprefix(TOTAL).rstrip("}")])
    return fields


def data_of(fields: Mapping[str, Any]) -> str:
    """Return the choice of ``data=`` that flat fields have, as in ``imagenet`` or ``imagenet_boxes``."""
    name: str = fields["data.name"]
    return f"{name}_boxes" if fields.get("data.boxes") else name


@functools.cache
def fitted_experiments(scale: str) -> tuple[str, ...]:
    """List the experiments that have their own budget at ``scale``."""
    files = sorted((shared_dir("conf") / "fitted_exp").glob(f"{scale}_*.yaml"))
    # Some have other runs only.
    return tuple(file.stem.removeprefix(f"{scale}_") for file in files if _file(f"fitted_exp/{file.stem}"))


def label(
    science: Science, scale: str, recipe: Mapping[str, Any], run: Mapping[str, Any], experiments: Collection[str] = ()
) -> str:
    """Name the column of a proxy: its scale, and the settings that differ from the scale's own recipe.

    Examples are ``demo``; ``smoke, optim.nesterov=true``; ``demo, data=synthetic``; and ``demo, exp=cifar_warmup`` for
    an experiment's own budget, which counts as the scale's own recipe in a column of ``experiments``. A run at the
    paper's scale that departs from the paper is ``custom, …``.
    """
    data, paper = data_of(science.flat()), paper_of(recipe)
    # A budget of another paper's experiment is no budget of this recipe.
    fitted = [
        exp for exp in fitted_experiments(scale) if exp in experiments or paper in (None, paper_of_experiment(exp))
    ]
    home = next((exp for exp in fitted if exp in experiments), "")
    fields = compared(science)
    words = ["custom" if scale == "paper" else scale]
    words += [f"data={data}"] if data != data_of(recipe) else []
    found = []
    for exp in (home, *(other for other in fitted if other != home)):
        wanted = as_read({**own_recipe(recipe, scale, data, exp), **run})
        changed = [f"{key}={word(value)}" for key, value in fields.items() if wanted.get(key, ...) != value]
        found.append([*([f"exp={exp}"] if exp and exp != home else []), *changed])
        if not found[-1]:
            break  # no experiment's budget is nearer
    return ", ".join([*words, *min(found, key=lambda names: (sum(map(is_setting, names)), len(names)))])


def is_setting(name: str) -> bool:
    """Tell whether a word of a label is a setting; an experiment's budget makes no other recipe."""
    return not name.startswith("exp=")


def paper_of(recipe: Mapping[str, Any]) -> str | None:
    """Return the folder of the paper of a recipe's fields; None if no paper has this recipe."""
    found = next((one for one in all_recipes() if one.fields == recipe), None)
    return None if found is None else found.name.rpartition("/")[0] or FIRST


@functools.cache
def paper_of_experiment(exp: str) -> str:
    """Return the folder of the paper of an experiment, whose name begins with that of a later paper."""
    return next((paper for paper in later_papers() if exp.startswith(paper)), FIRST)


def scale_of(name: str) -> str:
    """Return the scale of a column: its first word."""
    return name.partition(", ")[0]


def word(value: object) -> str:
    """Format ``value`` as on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


@functools.cache
def _file(name: str, group: str = "") -> dict[str, Any]:
    """Read the science of ``conf/<name>.yaml``, flat; a missing file has none.

    Args:
        group: The group to which the fields at the top of the file belong, if it is about one group.
    """
    path = shared_dir("conf") / f"{name}.yaml"
    if not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    fields: dict[str, Any] = {}
    for base in values.pop("defaults", []):
        fields |= _file(f"{group}/{base}", group) if group else {}
    groups = {group: values} if group else {name: values.get(name) or {} for name in GROUPS}
    return fields | {f"{name}.{key}": value for name, part in groups.items() for key, value in part.items()}
