"""Proposals, warped to crops of one size: training batches, and those of single images (appendix C, D91 to D93)."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.augment import PixelStats, normalize
from repro.data.feed import Feed
from repro.data.imagenet.decode import Edges, Photo, PillowPhoto, open_photo
from repro.data.imagenet.loader import PhotoDraws, colours_of, draw_photo_epoch, next_images, noise_of, noisy
from repro.data.imagenet.workers import CHUNK, chunks, decoding_workers, read_ahead
from repro.data.localization import BoxedSplit, LocalizationDataset
from repro.models.detection.boxes import overlaps
from repro.models.detection.sampling import ImageDraw
from repro.runtime import distributed
from repro.runtime.device import num_workers

Item = Path | np.ndarray
"""A file, or a drawn image (H, W, 3) in memory."""
Warp = tuple[Item, np.ndarray, bool]
"""An image, boxes (n, 4) in it, and whether their crops are flipped."""


@dataclass(frozen=True)
class Regions:
    """This rank's proposals of a step, one of each of B images.

    ``images`` are their warped crops (B, 3, S, S), ``classes`` (B,) those of the images, ``boxes`` (B, 4) where the
    crops are from, ``labels`` (B,) 1 for an object of the class, and ``wanted`` (B, 4) the objects' boxes. Boxes of
    flipped crops are flipped.
    """

    images: Tensor
    classes: Tensor
    boxes: Tensor
    labels: Tensor
    wanted: Tensor


class Shuffled(Feed):
    """The order of the images and their colour noise, as in classification."""

    def __init__(self, config: RunConfig, num_images: int, rank: int, num_ranks: int) -> None:
        super().__init__(num_images, config.optim.batch_size, torch.device("cpu"), rank, num_ranks)
        self.config = config

    def draw(self, epoch: int) -> PhotoDraws:
        return draw_photo_epoch(len(self), self.config.data, self.config.seed, epoch)


@dataclass(frozen=True)
class Choice:
    """A proposal of a training image: its box, whether it is one of the class, the object's box, and its flip."""

    position: int
    box: np.ndarray
    label: int
    wanted: np.ndarray
    flip: bool


class RegionFeed:
    """Training batches of proposals, drawn over all images; each depends on the seed and the step alone (D91)."""

    def __init__(self, config: RunConfig, dataset: LocalizationDataset, stats: PixelStats, like: Tensor) -> None:
        assert config.localization is not None
        split = dataset.train
        self.config, self.split, self.stats, self.like = config, split, stats, like
        self._colours = colours_of(dataset.stats, config.data)
        self.own, self.proposals = config.localization, list[np.ndarray]()
        ranks = (distributed.rank(), distributed.size())
        self.order = Shuffled(config, len(split), *ranks)
        workers = 0 if split.drawn else num_workers(config.execution, like.device)
        self._workers = decoding_workers(config.data.decoder, workers, like.device)
        self._planned: deque[tuple[list[Choice], Tensor]] = deque()
        self._crops: Generator[Tensor] | None = None
        self._next_step = -1

    def batch(self, step: int) -> Regions:
        """Return this rank's part of the batch of ``step``, and read the next ones ahead."""
        if self._crops is None or step != self._next_step:
            self.close()
            self._crops = read_warped(self.tasks(step), self.config, self.stats, self._workers)
        self._next_step = step + 1
        pixels = next_images(self._crops, self.order.part_size, self.like.device).to(self.like.device)
        chosen, alpha = self._planned.popleft()
        noise = noise_of(alpha, self._colours).to(self.like.device)
        boxes, wanted = (torch.from_numpy(np.stack([getattr(c, name) for c in chosen])) for name in ("box", "wanted"))
        classes = torch.from_numpy(self.split.photos.labels[[c.position for c in chosen]])
        return Regions(
            noisy(normalize(pixels, self.stats), noise, self.stats, self.config.data).to(self.like.dtype),
            classes.to(self.like.device),
            boxes.to(self.like),
            torch.tensor([c.label for c in chosen], device=self.like.device),
            wanted.to(self.like),
        )

    def tasks(self, step: int) -> Iterator[list[Warp]]:
        """Yield the crops to make from ``step`` on, endlessly."""
        for coming in itertools.count(step):
            draws = PhotoDraws(*self.order.drawn(coming))
            chosen = [self.choose(position, coming) for position in draws.order.tolist()]
            self._planned.append(([flipped(c, int(self.split.sizes[c.position][1])) for c in chosen], draws.alpha))
            yield from chunks([(item_of(self.split, c.position), c.box[None], c.flip) for c in chosen], CHUNK)

    def choose(self, position: int, step: int) -> Choice:
        """Draw a proposal of an image; an image without any has its first box."""
        known, boxes = self.split.boxes[position], self.proposals[position].astype(np.float64)
        draw = ImageDraw(self.config.seed, step, self.split.photos.files[position])
        kind, place, flip = draw.values("region", 3).tolist()
        is_flipped = self.config.data.flip and flip < 0.5
        if not len(boxes):
            return Choice(position, known[0], 1, known[0], is_flipped)
        found = overlaps(torch.from_numpy(boxes), torch.from_numpy(known)).numpy()
        positive = found.max(1) >= self.own.foreground
        is_positive = positive.all() or (positive.any() and kind < self.own.positive_share)
        (candidates,) = np.nonzero(positive == is_positive)
        at = int(candidates[int(place * len(candidates))])
        return Choice(position, boxes[at], int(is_positive), known[found[at].argmax()], is_flipped)

    def close(self) -> None:
        """End the processes that read ahead, if there are any."""
        if self._crops is not None:
            self._crops.close()
        self._crops, self._next_step = None, -1
        self._planned.clear()


def flipped(choice: Choice, width: int) -> Choice:
    """Return a choice whose boxes are flipped like its crop."""
    if not choice.flip:
        return choice
    boxes = (np.array([width - b[2], b[1], width - b[0], b[3]]) for b in (choice.box, choice.wanted))
    box, wanted = boxes
    return Choice(choice.position, box, choice.label, wanted, True)


def item_of(split: BoxedSplit, position: int) -> Item:
    return split.drawn[position] if split.drawn else Path(split.photos.path(position))


def read_warped(
    tasks: Iterable[Sequence[Warp]], config: RunConfig, stats: PixelStats, workers: int
) -> Generator[Tensor]:
    """Yield the crops of all boxes of each task, uint8 (n, 3, S, S), as in ``read_ahead``."""
    assert config.localization is not None
    # A crop shows the mean colour outside of the image, which is 0 once normalized (D93).
    colour = (255 * stats.mean.cpu().expand(3, *stats.mean.shape[1:]).mean((1, 2))).round().to(torch.uint8)
    size, context, decoder = config.data.image_size, config.localization.context, config.data.decoder
    make = functools.partial(make_warped, size=size, context=context, colour=colour, decoder=decoder)
    return read_ahead(make, tasks, workers)


def make_warped(task: Sequence[Warp], size: int, context: int, colour: Tensor, decoder: str) -> Tensor:
    crops = []
    for item, boxes, flip in task:
        photo = PillowPhoto(Image.fromarray(item)) if isinstance(item, np.ndarray) else open_photo(item, decoder)
        for box in boxes.tolist():
            crop = warped(photo, box, size, context, colour)
            crops.append(crop.flip(-1) if flip else crop)
    return torch.stack(crops)


def warped(photo: Photo, box: Edges, size: int, context: int, colour: Tensor) -> Tensor:
    """Warp a region of an image to a square: uint8 (3, size, size).

    Args:
        box: The region, of which at least a part is in the image.
        context: Pixels of the square on each side that show the surroundings of the region.
        colour: The value (3,) of pixels outside of the image.
    """
    share = context / (size - 2 * context)
    edges, places = [], []
    for low, high, limit in ((box[0], box[2], photo.width), (box[1], box[3], photo.height)):
        start, end = low - share * (high - low), high + share * (high - low)
        inside = max(start, 0.0), min(end, float(limit))
        first, last = (round((edge - start) / (end - start) * size) for edge in inside)
        first = min(first, size - 1)
        edges.append(inside)
        places.append((first, max(last, first + 1)))
    (left, right), (top, bottom) = places
    square = colour.to(torch.uint8)[:, None, None].repeat(1, size, size)
    region = (edges[0][0], edges[1][0], edges[0][1], edges[1][1])
    part = photo.region(region, bottom - top, right - left)
    square = square.to(part.device)
    square[:, top:bottom, left:right] = part
    return square
