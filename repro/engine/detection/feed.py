"""The batches of a detector's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.augment import PixelStats, generator_for
from repro.data.detection.dataset import DetectionDataset
from repro.data.detection.scaled import scaled_image, scaled_objects
from repro.models.detection.images import ScaledImage, Targets
from repro.models.detection.sampling import ImageDraw
from repro.runtime import distributed


@dataclass(frozen=True)
class Batch:
    """This rank's images of an update, their positions in the training set, and which of them are flipped."""

    positions: list[int]
    flips: list[bool]
    images: list[ScaledImage]
    objects: list[Targets]
    draws: list[ImageDraw]


class DetectionFeed:
    """Batches by step of training and update; each depends on the seed and on these two alone (deviation D64)."""

    def __init__(self, config: RunConfig, dataset: DetectionDataset, stats: PixelStats, like: Tensor) -> None:
        assert config.detection is not None
        self.split, self.stats, self.like, self.seed = dataset.train, stats, like, config.seed
        self.flip = config.data.flip
        self.sides = (config.data.image_size, config.detection.longest_side)
        self._epoch: tuple[tuple[int, int], Tensor, Tensor] | None = None

    def batch(self, part: int, update: int, before: int, batch_size: int) -> Batch:
        """Read this rank's part of a batch.

        Args:
            part: The step of training, from 0.
            update: The update in it, from 0.
            before: The updates of all earlier steps of training.
            batch_size: Images on all ranks.
        """
        share = batch_size // distributed.size()
        first = update * batch_size + distributed.rank() * share
        drawn = [self.draw(part, place) for place in range(first, first + share)]
        images = [scaled_image(self.split, at, self.sides, self.stats, self.like, flip) for at, flip in drawn]
        objects = [
            scaled_objects(self.split, at, image.scale, self.like, flip)
            for (at, flip), image in zip(drawn, images, strict=True)
        ]
        draws = [ImageDraw(self.seed, before + update, self.split.ids[at]) for at, _ in drawn]
        return Batch([at for at, _ in drawn], [flip for _, flip in drawn], images, objects, draws)

    def draw(self, part: int, place: int) -> tuple[int, bool]:
        """Return the position in the training set, and whether it is flipped, of the image at ``place`` of a step."""
        epoch, within = divmod(place, len(self.split))
        if self._epoch is None or self._epoch[0] != (part, epoch):
            generator = generator_for(self.seed, "detection", part, epoch)
            order = torch.randperm(len(self.split), generator=generator)
            flips = torch.rand(len(self.split), generator=generator) < 0.5
            self._epoch = ((part, epoch), order, flips)
        _, order, flips = self._epoch
        return int(order[within]), self.flip and bool(flips[within])

    def image(self, position: int) -> ScaledImage:
        """Read a training image as it is, to propose regions in it."""
        return scaled_image(self.split, position, self.sides, self.stats, self.like)


def mirrored(boxes: Tensor, image: ScaledImage) -> Tensor:
    """Return boxes (n, 4) of a scaled image as they lie in its flipped copy."""
    width = image.size[1]
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def proposals_in(batch: Batch, proposals: Sequence[Tensor]) -> list[Tensor]:
    """Return the stored proposals of a batch's images (deviation D65)."""
    found = []
    for position, flip, image in zip(batch.positions, batch.flips, batch.images, strict=True):
        boxes = proposals[position].to(image.pixels)
        found.append(mirrored(boxes, image) if flip else boxes)
    return found
