"""Settings of a detector: its training, its layers and its test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from repro.config.parse import NOT_NEGATIVE, POSITIVE, Bound, require

OVERLAP = Bound("must be at least 0 and at most 1", lambda value: 0 <= value <= 1)
WEIGHT_FILES = (".pth", ".pt", ".safetensors")


def is_weight_file(start: str | None) -> bool:
    return start is not None and start.endswith(WEIGHT_FILES)


def validate_start(group: str, start: str | None) -> None:
    """Refuse weights to start from that are neither a name of a run nor that of a file."""
    require(
        start is None or (start != "" and not {"/", "\\"} & set(start)),
        f"{group}.start={start!r} must be random, the id of a run, or the name of a file in paths.data",
    )


@dataclass(frozen=True)
class DetectionConfig:
    """Faster R-CNN on the body of the net (appendix A; "[32]" is the paper's reference to Faster R-CNN).

    Alternating training has four steps, which ``steps`` and ``drops`` list: region proposal network, region head, and
    both again on shared layers. Joint training has one.
    """

    training: Annotated[Literal["alternating", "joint"], "the four steps of [32], or all parts together"]
    start: Annotated[str | None, "weights of the body: `random`, the id of a run, or a file of weights in `paths.data`"]
    start_images: Annotated[int, "training images over which a random body's batch norm is computed", POSITIVE]
    steps: Annotated[tuple[int, ...], "optimizer updates of each step of training"]
    drops: Annotated[tuple[int, ...], "updates of each step after which its learning rate drops"]
    rpn_batch_size: Annotated[int, "images of an update of steps 1 and 3, on all devices together", POSITIVE]
    longest_side: Annotated[int, "limit of an image's longer side, in pixels", POSITIVE]
    anchor_scales: Annotated[tuple[float, ...], "sides of anchors, in units of 16 pixels"]
    rpn_width: Annotated[int | None, "filters of the 3x3 layer; empty means those of the body's map (D54)", POSITIVE]
    box_norm: Annotated[Literal["locations", "batch"], "divisor of the proposals' box loss (D56)"]
    rpn_samples: Annotated[int, "anchors of an image in the loss", POSITIVE]
    least_side: Annotated[float, "least side of a proposal, in pixels of the original image", NOT_NEGATIVE]
    train_proposals: Annotated[int, "proposals of an image for training the region head", POSITIVE]
    test_proposals: Annotated[int, "proposals of an image in testing", POSITIVE]
    fixed: Annotated[Literal["none", "conv1", "conv2"], "last layers of the body that are not trained (D53)"]
    pooling: Annotated[Literal["pool", "align"], "RoI pooling, or RoI align"]
    pooled_size: Annotated[int, "side of a pooled region (D52)", POSITIVE]
    top_stride: Annotated[Literal[1, 2], "stride of conv5_x on a region (D52)"]
    samples: Annotated[int, "regions of an image in the loss", POSITIVE]
    background: Annotated[float, "least overlap with an object of a region that learns background", OVERLAP]
    context: Annotated[bool, "whether the whole image's feature stands beside each region's (D61)"]
    scales: Annotated[tuple[int, ...], "shorter sides in testing; empty means that of training (D60)"]
    refine: Annotated[bool, "whether boxes are refined and vote in testing (D59)"]
    metric: Annotated[
        Literal["voc07", "voc12", "coco", "ilsvrc"],
        "average precision over 11 points, over all, COCO's twelve numbers, or that of ImageNet's detection (D99)",
    ]
    pretrained: Annotated[
        Literal["classifier", "coco", "detector"],
        "the run of `start`: of classification, a detector by the recipe of COCO, or another detector (D77)",
    ] = "classifier"
    members: Annotated[tuple[str, ...], "runs of further detectors, an ensemble with this one in its test (D71)"] = ()

    group = "detection"

    @property
    def num_steps(self) -> int:
        """Steps of training: four, or one."""
        return 4 if self.training == "alternating" else 1

    @property
    def start_is_file(self) -> bool:
        """True if the body starts from a file of weights."""
        return is_weight_file(self.start)

    def validate(self) -> None:
        for name in ("steps", "drops"):
            values = getattr(self, name)
            require(
                len(values) == self.num_steps and all(value > 0 for value in values),
                f"detection.{name}={list(values)} must have {self.num_steps} numbers above 0, one for each step of "
                f"detection.training={self.training}",
            )
        # At the last update itself a drop has no effect, as a step of one update needs it.
        require(
            all(drop <= steps for drop, steps in zip(self.drops, self.steps, strict=True)),
            f"detection.drops={list(self.drops)} must not lie beyond detection.steps={list(self.steps)}",
        )
        validate_start(self.group, self.start)
        require(
            len(self.anchor_scales) > 0 and all(scale > 0 for scale in self.anchor_scales),
            f"detection.anchor_scales={list(self.anchor_scales)} must be sizes above 0, as in [8,16,32]",
        )
        require(
            len(set(self.scales)) == len(self.scales) and all(scale >= 32 for scale in self.scales),
            f"detection.scales={list(self.scales)} must be different shorter sides, each at least 32",
        )
        require(
            len(set(self.members)) == len(self.members),
            f"detection.members={list(self.members)} names a run twice: leave it out once",
        )
