"""Settings of a localizer: its start, its layers, its loss and its test."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from repro.config.detection import OVERLAP, is_weight_file, validate_start
from repro.config.parse import NOT_NEGATIVE, POSITIVE, require

OF_REGIONS = ("proposals", "suppress", "foreground", "positive_share", "region_lr", "context")
"""Fields that only ``method="rcnn"`` reads; which localizer proposes is checked apart."""


@dataclass(frozen=True)
class LocalizationConfig:
    """A region proposal network with scores and boxes of every class, on the body of the net (appendix C).

    With ``method="rcnn"``, a net for single regions that scores and moves the proposals of such a network.
    """

    start: Annotated[str | None, "weights of the body: `random`, the id of a run, or a file of weights in `paths.data`"]
    start_images: Annotated[int, "training images over which a random body's batch norm is computed", POSITIVE]
    width: Annotated[int | None, "filters of the 3x3 layer; empty means those of the body's map (D81)", POSITIVE]
    anchor_scales: Annotated[tuple[float, ...], "sides of anchors, in units of 16 pixels (D84)"]
    positive: Annotated[float, "least overlap of a positive anchor with a box (D85)", OVERLAP]
    negative: Annotated[float, "overlap below which an anchor is negative (D85)", OVERLAP]
    samples: Annotated[int, "anchors of an image in the loss, at most half of them positive", POSITIVE]
    least_inside: Annotated[float, "least share of a box in a crop that is to learn it (D86)", OVERLAP]
    vote: Annotated[bool, "whether boxes that overlap the likeliest by a half are averaged with it (D88)"]
    scales: Annotated[tuple[int, ...], "shorter sides of the dense test; empty means none (D88)"]
    classes_of: Annotated[tuple[str, ...], "runs of classification whose five likeliest classes are tested too (D89)"]
    members: Annotated[tuple[str, ...], "runs of further localizers, an ensemble with this one in its test (D90)"] = ()
    method: Annotated[Literal["rpn", "rcnn"], "`rpn`, or `rcnn`: the net for its proposals (D91)"] = "rpn"
    proposals_of: Annotated[str | None, "rcnn: localizer that proposes; empty: that of these settings (D92)"] = None
    proposals: Annotated[int, "rcnn: most proposals of a class in an image", POSITIVE] = 200
    suppress: Annotated[float, "rcnn: overlap above which the less likely proposal is dropped (D92)", OVERLAP] = 0.7
    foreground: Annotated[float, "rcnn: least overlap of a positive proposal with a box (D91)", OVERLAP] = 0.5
    positive_share: Annotated[float, "rcnn: share of positive proposals in a batch (D91)", OVERLAP] = 0.25
    region_lr: Annotated[float | None, "rcnn: initial learning rate; empty: `optim.lr` (D91)", POSITIVE] = None
    context: Annotated[int, "rcnn: pixels around a proposal in its crop (D93)", NOT_NEGATIVE] = 16

    group = "localization"

    @property
    def start_is_file(self) -> bool:
        """True if the body starts from a file of weights."""
        return is_weight_file(self.start)

    @property
    def proposer(self) -> LocalizationConfig:
        """The settings of the localizer whose proposals a net for single regions takes by itself."""
        return replace(self, method="rpn", proposals_of=None, members=()).proper

    @property
    def proper(self) -> LocalizationConfig:
        """The same settings, with those that the method does not read at their defaults.

        So a region proposal network is one run, whatever the settings of the R-CNN on its proposals are.
        """
        return self if self.method == "rcnn" else replace(self, **of_regions())

    def validate(self) -> None:
        validate_start(self.group, self.start)
        require(
            len(self.anchor_scales) > 0 and all(scale > 0 for scale in self.anchor_scales),
            f"localization.anchor_scales={list(self.anchor_scales)} must be sizes above 0, as in [4,8,14]",
        )
        require(
            self.negative <= self.positive,
            f"localization.negative={self.negative} must be at most localization.positive={self.positive}",
        )
        require(
            self.samples % 2 == 0, f"localization.samples={self.samples} must be even: half of them may be positive"
        )
        require(
            len(set(self.scales)) == len(self.scales) and all(scale >= 32 for scale in self.scales),
            f"localization.scales={list(self.scales)} must be different shorter sides, each at least 32",
        )
        for key in ("members", "classes_of"):
            names = getattr(self, key)
            require(
                len(set(names)) == len(names), f"localization.{key}={list(names)} names a run twice: leave it out once"
            )
        require(
            self.method == "rcnn" or self.proposals_of is None,
            f"localization.proposals_of={self.proposals_of} is for localization.method=rcnn: leave it out, or add that",
        )


def of_regions() -> dict[str, Any]:
    """Return the fields that only R-CNN reads, at their defaults."""
    return {field.name: field.default for field in fields(LocalizationConfig) if field.name in OF_REGIONS}
