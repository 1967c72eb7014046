"""Settings of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from repro.config.parse import POSITIVE, require


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation during training, and further tests of the final net (section 3.4)."""

    every_steps: Annotated[int | None, "steps between evaluations; empty means once an epoch", POSITIVE]
    train_error: Annotated[bool, "whether the final net was also tested on the training images"]
    train_images: Annotated[int | None, "number of training images for that test; empty means all", POSITIVE]
    bn_stats: Annotated[
        Literal["moving", "recomputed"], "batch-norm statistics in testing: `moving` or `recomputed` (D4)"
    ]
    bn_batches: Annotated[int, "training batches over which they are recomputed", POSITIVE]
    views: Annotated[tuple[Literal["10crop", "multiscale", "large_crop"], ...], "further tests of the final net"] = ()
    scales: Annotated[tuple[int, ...], "shorter sides of the multi-scale test"] = (224, 256, 384, 480, 640)
    flip_scales: Annotated[bool, "whether the multi-scale test includes horizontal flips (D19)"] = True
    gradient_flow: Annotated[bool, "whether signals and gradients of each layer were recorded"] = False
    crops_of: Annotated[
        Literal["rectangle", "square"],
        "ten crops: corners of the whole `rectangle` or of the centred `square` (D27)",
    ] = "rectangle"
    choose: Annotated[
        Literal["last", "validation"],
        "the epoch whose test error is reported: the `last`, or that of the lowest `validation` error (D48)",
    ] = "last"
    large_crop: Annotated[
        int | None,
        "side of the crop of `large_crop`, and shorter side of its image; empty means 320 where crops of training have "
        "224 pixels, and in proportion elsewhere (D102)",
    ] = None

    def validate(self) -> None:
        require(len(set(self.views)) == len(self.views), f"eval.views={list(self.views)} names a view twice")
        require(
            len(self.scales) > 0 and all(scale >= 32 for scale in self.scales),
            f"eval.scales={list(self.scales)} must be lengths of the shorter side, each at least 32",
        )
        side = self.large_crop
        require(side is None or side >= 32, f"eval.large_crop={side} must be a side of at least 32 pixels")

    def large_side(self, image_size: int) -> int:
        """Return the side of the larger crop for a net that was trained on crops of ``image_size`` (D102)."""
        return round(image_size * 320 / 224) if self.large_crop is None else self.large_crop
