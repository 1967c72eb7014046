"""The families of nets."""

from __future__ import annotations

from dataclasses import dataclass

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
    """The values of ``model.shortcut`` that this family can have, its usual one first if there are few."""
    is_dense: bool = False
    """True if layers read the outputs of all layers before them, in place of shortcuts."""


FAMILIES = {
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
        recipe="imagenet_recipe",
        photos=True,
        depths=(121, 161, 169, 201, 264),
        settings=frozenset({"growth", "compression", "block", "dropout", "pool_padding"}),
        shortcuts=("none",),
        is_dense=True,
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
