"""The families of nets, an entry each."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
"""The columns of Table 1."""


@dataclass(frozen=True)
class Family:
    """What is known of a family without building a net; ``repro.models.NETS`` has its class."""

    prefix: str
    """The name of its nets, as in ``ResNet-20``."""
    timed: tuple[int, tuple[tuple[int, int], ...]]
    """Batch size, and the filters and map size of each stage, that its speed is measured at."""
    recipe: str = "cifar10_recipe"
    """The paper's recipe of training it, in experiments/."""
    photos: bool = False
    """True for ImageNet images, False for CIFAR's."""
    depths: tuple[int, ...] = ()
    """The depths that there are; where none is named, three stages of blocks and ``other_layers``."""
    other_layers: int = 2
    """Layers outside of the residual functions, as the paper counts them."""
    settings: frozenset[str] = frozenset()
    """The fields of ``ModelConfig`` that not every family reads, and this one does."""


FAMILIES = {
    "cifar_resnet": Family("ResNet", (128, ((16, 32), (32, 16), (64, 8))), settings=frozenset({"constructed_from"})),
    "imagenet_resnet": Family(
        "ResNet",
        (8, ((64, 56), (128, 28), (256, 14), (512, 7))),
        recipe="imagenet_recipe",
        photos=True,
        depths=(*IMAGENET_DEPTHS, 200),
        settings=frozenset({"pool_padding", "order", "width"}),
    ),
    "preact_resnet": Family(
        "PreResNet",
        (128, ((16, 32), (32, 16), (64, 8))),
        recipe="identity_mappings/cifar10_recipe",
        settings=frozenset({"block", "order"}),
    ),
    # Its papers' depth counts the first convolution and the three projections, not the fully connected layer.
    "wide_resnet": Family(
        "WRN",
        (32, ((64, 32), (128, 16), (256, 8))),
        recipe="wide_resnet/cifar_recipe",
        other_layers=4,
        settings=frozenset({"kernels", "width", "dropout"}),
    ),
}
