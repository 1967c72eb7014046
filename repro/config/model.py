"""The settings of a net."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from repro.config.families import FAMILIES
from repro.config.parse import NOT_NEGATIVE, POSITIVE, Bound, OneOf, require

BN_MOMENTUM = Bound("must be above 0 and at most 1", lambda value: 0 < value <= 1)
DROPPED = Bound("must be at least 0 and below 1", lambda value: 0 <= value < 1)
SURVIVAL = Bound("must be above 0 and at most 1", lambda value: 0 < value <= 1)
COMPRESSION = SURVIVAL

BLOCK_LAYERS = {"single": 1, "basic": 2, "bottleneck": 3}
DENSE_LAYERS = {"single": 1, "bottleneck": 2}
"""Convolutions of a dense layer: 3x3, or 1x1 and 3x3."""
DENSE_GROWTH = {161: 48}
"""Growth of ImageNet's dense nets by depth; 32 in all others."""
ORDER_NAMES = {
    "bn_after_addition": "BN after addition",
    "relu_before_addition": "ReLU before addition",
    "relu_only": "ReLU-only pre-activation",
}
"""The paper's names of the orders that are neither the original nor full pre-activation."""

NET_FIELDS = (
    *(
        "block",
        "order",
        "shortcut_scale",
        "residual_scale",
        "gate",
        "gate_bias",
        "shortcut_dropout",
        "width",
        "kernels",
    ),
    *("dropout", "survival", "survival_last", "growth", "compression", "activation"),
)
"""Settings of later papers that make another net, which stands in no row that does not name it."""
ON_SHORTCUTS = ("shortcut_scale", "residual_scale", "gate", "shortcut_dropout", "survival")
"""Settings that change the addition of a block to its shortcut."""


@dataclass(frozen=True)
class ModelConfig:
    """The net: 6n+2 layers for CIFAR (paper, section 4.2), the columns of Table 1 for ImageNet, and later papers' nets.

    The defaults of fields that were added later give the first paper's nets.
    """

    name: Annotated[str, "family of nets, as in `cifar_resnet`", OneOf(FAMILIES)]
    depth: Annotated[int, "layers with weights, as in the net's name"]
    shortcut: Annotated[Literal["A", "B", "C", "none"], "option `A`, `B` or `C`, or `none` for the plain net"]
    shortcut_subsample: Annotated[Literal["stride", "avg_pool"], "how option A halves a map (D8)"]
    init: Annotated[Literal["he_fan_in", "he_fan_out"], "rule of the initial weights of convolutions (D1)"]
    bn_group_size: Annotated[int, "images whose batch-norm statistics are taken together (D6)", POSITIVE]
    bn_momentum: Annotated[float, "momentum of batch norm's moving statistics (D12)", BN_MOMENTUM]
    bn_eps: Annotated[float, "epsilon that batch norm adds to the variance (D12)", POSITIVE]
    stride_in: Annotated[Literal["1x1", "3x3"], "which layer of a bottleneck block has the stride (D16)"] = "1x1"
    constructed_from: Annotated[int | None, "depth of the trained net that training starts from (section 1)"] = None
    fc_init: Annotated[
        Literal["he", "torch", "normal_0.01"], "rule of the fully connected layer's initial weights (D26)"
    ] = "he"
    pool_padding: Annotated[Literal[0, 1], "pixels around the max pooling of ImageNet nets (D28)"] = 1
    option_a: Annotated[Literal["end", "both_sides"], "where option A's zero channels lie (D24)"] = "end"
    block: Annotated[
        Literal["single", "basic", "bottleneck"],
        "layers of a block of `preact_resnet`: 1, 2 or 3; of a dense layer: `single` 1, `bottleneck` 2",
    ] = "basic"
    order: Annotated[
        Literal["original", "bn_after_addition", "relu_before_addition", "relu_only", "full"],
        "order of batch norm, ReLU and addition; `full` is pre-activation (D29)",
    ] = "original"
    shortcut_scale: Annotated[float, "constant factor of the shortcut"] = 1.0
    residual_scale: Annotated[float, "constant factor of the residual function"] = 1.0
    gate: Annotated[Literal["none", "exclusive", "shortcut_only"], "gate on the shortcut, or on both paths (D30)"] = (
        "none"
    )
    gate_bias: Annotated[float, "initial bias of the gates"] = 0.0
    shortcut_dropout: Annotated[float, "share of values dropped on the shortcut", DROPPED] = 0.0
    width: Annotated[float, "factor of the filters of wide nets (D31)", POSITIVE] = 1.0
    kernels: Annotated[tuple[Literal[1, 3], ...], "kernel sizes of a block of `wide_resnet`, its B(…)"] = (3, 3)
    dropout: Annotated[float, "share of values dropped between layers (D32, D39, D42, D46)", DROPPED] = 0.0
    survival: Annotated[
        Literal["none", "linear", "uniform"], "stochastic depth: how survival depends on the block (D33)"
    ] = "none"
    survival_last: Annotated[float, "survival probability of the last block", SURVIVAL] = 0.5
    growth: Annotated[int, "feature maps that each dense layer adds; 0 in all other nets", NOT_NEGATIVE] = 0
    compression: Annotated[float, "share of the feature maps that a dense net's transition keeps", COMPRESSION] = 1.0
    activation: Annotated[Literal["relu", "maxout"], "activation of a layer in a block: `relu` or `maxout` (D45)"] = (
        "relu"
    )

    @property
    def bottleneck(self) -> bool:
        """True if blocks have three layers (Table 1: ImageNet nets of 50 layers and more)."""
        return self.block == "bottleneck" or (self.name == "imagenet_resnet" and self.depth >= 50)

    @property
    def is_random(self) -> bool:
        """True if training steps drop random blocks or values."""
        return self.survival != "none" or self.dropout > 0 or self.shortcut_dropout > 0

    @property
    def computed_share(self) -> float:
        """The average share of the blocks that a training step computes."""
        shares = {"none": 1.0, "linear": (1 + self.survival_last) / 2, "uniform": self.survival_last}
        return shares[self.survival]

    @property
    def block_layers(self) -> int:
        """Layers of a residual function, or of a dense layer."""
        if FAMILIES[self.name].is_dense:
            return DENSE_LAYERS.get(self.block, 0)
        return len(self.kernels) if self.name == "wide_resnet" else BLOCK_LAYERS[self.block]

    @property
    def is_own(self) -> bool:
        """True for a net of the user's own, which is marked in all results."""
        return FAMILIES[self.name].own

    @property
    def label(self) -> str:
        """The papers' name of the net: ``ResNet-20``, ``plain-20``, ``ResNet-34 B``, ``WRN-28-10 dropout 0.3``."""
        return " ".join([self._base_label(), *self._variants()])

    def _base_label(self) -> str:
        if FAMILIES[self.name].is_dense:
            kind = ("B" if self.block == "bottleneck" else "") + ("C" if self.compression < 1 else "")
            if self.name == "imagenet_densenet":
                is_usual = kind == "BC" and self.growth == DENSE_GROWTH.get(self.depth, 32)
                return f"DenseNet-{self.depth}" if is_usual else f"DenseNet-{kind}-{self.depth}-{self.growth}"
            return "-".join(["DenseNet", *([kind] if kind else []), str(self.depth), str(self.growth)])
        family = FAMILIES[self.name]
        is_wide = self.name == "wide_resnet" or self.width != 1
        prefix = "PreResNet" if self.order == "full" else family.prefix
        if is_wide and not family.is_body:
            prefix = "PreWRN" if self.order == "full" else "WRN"
        if self.shortcut == "none" and family.shortcuts != ("none",):
            prefix = "plain" if prefix == "ResNet" else f"plain {prefix}"
        width = f"-{self.width:g}" if is_wide else ""
        return f"{prefix}-{self.depth}{width}"

    def _variants(self) -> list[str]:
        """Return the words that distinguish a net from the usual net of its depth."""
        usual_shortcut = {"cifar_resnet": "A", "imagenet_resnet": "B" if self.bottleneck else "", "wide_resnet": "B"}
        usual_gate = ("exclusive", -2) if self.name == "highway" else ("none", self.gate_bias)
        usual_block = "bottleneck" if self.depth >= 164 and (self.depth - 2) % 9 == 0 else "basic"
        before_that = "B" if self.bottleneck else "A"
        words = {
            self.shortcut: self.shortcut not in ("none", usual_shortcut.get(self.name, before_that)),
            "both sides": self.option_a == "both_sides",
            f"from {self.constructed_from}": self.constructed_from is not None,
            self.block: self.name == "preact_resnet" and self.block != usual_block,
            ORDER_NAMES.get(self.order, ""): self.order in ORDER_NAMES,
            f"B({','.join(map(str, self.kernels))})": self.kernels != (3, 3),
            f"shortcut {self.shortcut_scale:g}": self.shortcut_scale != 1,
            f"residual {self.residual_scale:g}": self.residual_scale != 1,
            f"{self.gate.replace('_', '-')} gate {self.gate_bias:g}": (self.gate, self.gate_bias) != usual_gate,
            f"shortcut dropout {self.shortcut_dropout:g}": self.shortcut_dropout > 0,
            self.activation: self.activation != "relu",
            f"compression {self.compression:g}": self.compression not in (0.5, 1),
            f"dropout {self.dropout:g}": self.dropout > 0,
            f"stochastic depth {self.survival_last:g}": self.survival == "linear",
            f"uniform stochastic depth {self.survival_last:g}": self.survival == "uniform",
        }
        return [word for word, applies in words.items() if applies]

    def validate(self) -> None:
        require(len(self.kernels) > 0, "model.kernels=[] must name at least one layer, as in model.kernels=[3,3]")
        self._validate_family()
        self._validate_depth()
        changed = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        for name in sorted(changed & frozenset().union(*(family.settings for family in FAMILIES.values()))):
            owners = " or ".join(f"model={other}" for other, f in FAMILIES.items() if name in f.settings)
            require(
                name in FAMILIES[self.name].settings,
                f"model.{name}={_shown(getattr(self, name))} is for {owners}, not for model={self.name}",
            )
        origin = self.constructed_from
        require(
            origin is None or (origin >= 8 and (origin - 2) % 6 == 0 and origin < self.depth),
            f"model.constructed_from={origin} must be a smaller depth of 6n+2 layers than model.depth={self.depth}",
        )
        require(
            self.option_a == "end" or self.shortcut == "A",
            f"model.option_a={self.option_a} is for model.shortcut=A: model.shortcut={self.shortcut} pads no channels",
        )
        for name in sorted(changed & set(ON_SHORTCUTS)):
            value = f"model.{name}={_shown(getattr(self, name))}"
            require(self.shortcut != "none", f"{value} is for residual nets: model.shortcut=none has no shortcuts")
            require(origin is None, f"{value} is not for model.constructed_from={origin}: leave one of them out")
        require(
            origin is None or self.activation == "relu",
            f"model.activation={self.activation} is not for model.constructed_from={origin}: leave one of them out",
        )

    def _validate_family(self) -> None:
        """Refuse values that have no meaning in the net's family."""
        family = FAMILIES[self.name]
        require(
            self.shortcut in family.shortcuts,
            f"model.shortcut={self.shortcut} is not for model={self.name}: use {' or '.join(family.shortcuts)}",
        )
        require(
            self.name != "highway" or self.gate != "none",
            f"model.gate={self.gate} is not for model=highway: use exclusive or shortcut_only",
        )
        if family.is_dense:
            require(self.growth > 0, f"model.growth={self.growth} must be above 0 for model={self.name}, as in 12")
            known = " or ".join(DENSE_LAYERS)
            require(self.block in DENSE_LAYERS, f"model.block={self.block} is not for model={self.name}: use {known}")

    def _validate_depth(self) -> None:
        family, period = FAMILIES[self.name], 3 * self.block_layers
        if family.depths:
            known = ", ".join(map(str, family.depths))
            require(
                self.depth in family.depths, f"model.depth={self.depth} is not a depth of model={self.name}: {known}"
            )
            return
        least = period + family.other_layers
        below = max(least, self.depth - (self.depth - family.other_layers) % period)
        require(
            self.depth >= least and (self.depth - family.other_layers) % period == 0,
            f"model.depth={self.depth} is not a CIFAR depth: it must be {period}n+{family.other_layers} "
            f"(paper, section 4.2), for example {below} or {below + period}",
        )


def _shown(value: object) -> object:
    return str(list(value)).replace(" ", "") if isinstance(value, tuple) else value
