"""The output of `repro floors`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repro.config.compose import plan
from repro.data.localization import BoxedSplit
from repro.data.localization.dataset import load_boxes
from repro.evaluation.localization import (
    are_right,
    best_fixed_box,
    fixed_boxes,
    grid_of,
    percent_wrong,
    whole_images,
)
from repro.report.tables.frame import text_table


def floors(words: Sequence[str]) -> str:
    """Compute the localization errors of a data set's test images, the class given, that need no net.

    Args:
        words: Settings of the data, such as ``data=tiny_imagenet_boxes paths.data=…``.

    Raises:
        InputError: A word is invalid, or data is missing or faulty.
    """
    config = plan(["exp=imagenet_localization", *words]).runs[0]
    train, test = load_boxes(config.data, config.paths.data, config.paths.work / "cache")
    grid = grid_of(train)
    box = best_fixed_box(train, grid)
    unit = "" if len(np.unique(train.sizes, axis=0)) == 1 else f", of {grid[0]} in each image"
    first, last = f"columns {box[0]} to {box[2] - 1}", f"rows {box[1]} to {box[3] - 1}"
    rows = [
        row("the whole image", test, whole_images(test)),
        row(f"the fixed box best on training images ({first}, {last}{unit})", test, fixed_boxes(test, box, grid)),
    ]
    lines = [counted(split) for split in (train, test)]
    heading = ["box", "error (%)", f"over all {len(test) + test.left_out:,} images (%)"]
    return "\n".join([*lines, "", text_table(rows, heading, words=["box"])])


def row(name: str, split: BoxedSplit, found: np.ndarray) -> list[str]:
    """Return a floor's cells: its error over images with boxes, and where all others count as wrong."""
    right = are_right(found, split.boxes)
    every = np.concatenate([right, np.zeros(split.left_out, bool)])
    return [name, f"{percent_wrong(right):.2f}", f"{percent_wrong(every):.2f}"]


def counted(split: BoxedSplit) -> str:
    """Return ``val: 9,959 images with 9,959 valid boxes, 41 images without``."""
    total = sum(map(len, split.boxes))
    return f"{split.photos.name}: {len(split):,} images with {total:,} valid boxes, {split.left_out:,} images without"
