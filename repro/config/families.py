"""The families of nets."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.paths import PACKAGE
from repro.errors import InputError

IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
"""The columns of Table 1."""


@dataclass(frozen=True)
class Family:
    """Properties of a family that are known without building a net; ``repro.models.NETS`` has its class."""

    prefix: str
    """The name of its nets, as in ``ResNet-20``."""
    timed: tuple[int, tuple[tuple[int, int], ...]]
    """Batch size, and filters and map size of each stage, for measuring its speed."""
    recipe: str = "cifar10_recipe"
    """The paper's recipe of training it, in experiments/."""
    photos: bool = False
    """True for nets on ImageNet images, false for nets on CIFAR images."""
    depths: tuple[int, ...] = ()
    """The possible depths; if empty, those of three stages of blocks plus ``other_layers``."""
    other_layers: int = 2
    """Layers outside the blocks, as the paper counts them."""
    settings: frozenset[str] = frozenset()
    """Fields of ``ModelConfig`` that this family reads, but not all families."""
    shortcuts: tuple[str, ...] = ("A", "B", "C", "none")
    """The possible values of ``model.shortcut``."""
    is_dense: bool = False
    """True if layers read the outputs of all layers before them, in place of shortcuts."""
    is_body: bool = False
    """True for nets that are not trained here but are bodies of detectors, from weights of others."""
    own: bool = False
    """True for nets of the user's own, which ``repro.models.own.family`` registers."""


FAMILIES: dict[str, Family] = {
    "cifar_resnet": Family(
        "ResNet",
        (128, ((16, 32), (32, 16), (64, 8))),
        settings=frozenset({"constructed_from", "activation", "dropout"}),
    ),
    "imagenet_resnet": Family(
        "ResNet",
        (8, ((64, 56), (128, 28), (256, 14), (512, 7))),
        recipe="imagenet_recipe",
        photos=True,
        depths=(*IMAGENET_DEPTHS, 200),
        settings=frozenset({"pool_padding", "order", "width"}),
    ),
    "preact_resnet": Family(
        "ResNet",  # in the original order; the pre-activation in full is called PreResNet
        (128, ((16, 32), (32, 16), (64, 8))),
        recipe="identity_mappings/cifar10_recipe",
        settings=frozenset({"block", "order"}),
    ),
    # The depth of wide nets includes the first convolution and the three projections, not the fully connected layer.
    "wide_resnet": Family(
        "WRN",
        (32, ((64, 32), (128, 16), (256, 8))),
        recipe="wide_resnet/cifar_recipe",
        other_layers=4,
        settings=frozenset({"kernels", "width", "dropout"}),
    ),
    "densenet": Family(
        "DenseNet",
        (64, ((64, 32), (96, 16), (128, 8))),
        recipe="densenet/cifar_recipe",
        other_layers=4,
        settings=frozenset({"growth", "compression", "block", "dropout"}),
        shortcuts=("none",),
        is_dense=True,
    ),
    "imagenet_densenet": Family(
        "DenseNet",
        (8, ((64, 56), (128, 28), (256, 14), (512, 7))),
        recipe="densenet/imagenet_recipe",
        photos=True,
        depths=(121, 161, 169, 201, 264),
        settings=frozenset({"growth", "compression", "block", "dropout", "pool_padding"}),
        shortcuts=("none",),
        is_dense=True,
    ),
    "vgg": Family(
        "VGG",
        (8, ((64, 56), (128, 28), (256, 14), (512, 7))),
        recipe="imagenet_recipe",
        photos=True,
        depths=(16,),
        settings=frozenset({"width"}),
        shortcuts=("none",),
        is_body=True,
    ),
    "highway": Family(
        "Highway",
        (100, ((32, 32), (80, 16), (128, 8))),
        recipe="highway/cifar_recipe",
        depths=(11, 19, 32),
        settings=frozenset({"dropout"}),
        shortcuts=("A",),
    ),
}


def own_family(label: str, stages: tuple[tuple[int, int], ...] = ((16, 32), (32, 16), (64, 8)), **more: Any) -> Family:
    """Describe a family of the user's own.

    Args:
        label: The name of its nets, without the depth.
        stages: The filters and the map size of each stage, for estimating its speed.
        more: Other fields of ``Family``.
    """
    batch_size = 8 if more.get("photos") else 128
    found = Family(label, (batch_size, stages), own=True, **more)
    return dataclasses.replace(found, settings=frozenset(found.settings))


def registered(folder: Path) -> dict[str, tuple[str, Family]]:
    """Find module and family of the nets that the modules in ``folder`` register, by name.

    The modules are parsed and not imported, because they need torch.

    Raises:
        InputError: A module cannot be parsed, or the arguments of ``@family`` are not literals.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "@family(" not in text:
            continue
        try:
            classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
            for call in (mark for node in classes for mark in node.decorator_list if isinstance(mark, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "family":
                    name, *words = map(ast.literal_eval, call.args)
                    more = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
                    found[name] = path.stem, own_family(*words, **more)
        except (SyntaxError, TypeError, ValueError) as error:
            raise InputError(f"{path}: @family(name, label, …) cannot be read: {error}") from None
    return found


OWN_MODULES: dict[str, str] = {}
"""The module of each family of the user's own."""
for _name, (_module, _family) in registered(PACKAGE / "models").items():
    OWN_MODULES[_name], FAMILIES[_name] = _module, _family
