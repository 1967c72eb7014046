"""Comparison of two nets that should compute the same function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.config.run import RunConfig
from repro.data import Dataset, load_for, load_photos
from repro.data.augment import PixelStats, generator_for, normalize
from repro.data.batches import eval_images
from repro.errors import InputError
from repro.models.conversion.forms import Form, in_type

TOLERANCE = 1e-9
"""The largest difference of float64 logits, for logits up to 1; for larger ones in proportion."""
NUM_RANDOM = 256
"""Random images in place of test images that are missing."""

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ImageSet:
    """Normalized images for a comparison.

    Args:
        text: A description for the user.
        are_real: False for random images, whose labels mean nothing.
        batches: Yields at most so many float32 images (N, 3, H, W) with their labels (N,).
    """

    text: str
    are_real: bool
    batches: Callable[[int], Batches]


def images_of(config: RunConfig, stats: PixelStats | None) -> ImageSet:
    """Return the test images of a run, normalized with ``stats``, or random images if they are missing."""
    try:
        if stats is None:
            raise InputError("the statistics of the training pixels are missing")
        dataset = evaluated_set(config)
    except InputError as error:
        return random_images(config, str(error))
    found, pixels = eval_images(dataset, config, torch.device("cpu")), stats
    size = 25 if config.data.photos else 250

    def batches(most: int) -> Batches:
        for images, labels in found.batches(size):
            yield normalize(images[:most], pixels), labels[:most]
            most -= len(images)
            if most <= 0:
                return

    return ImageSet(f"{dataset.eval.name} images of {dataset.name}", True, batches)


def evaluated_set(config: RunConfig) -> Dataset:
    """Load the test images of a run; for ImageNet images no training images are read."""
    if not config.data.photos:
        return load_for(config, may_fetch=False)
    cache, workers = config.paths.work / "cache", config.execution.workers
    return load_photos(config.data, config.paths.data, cache=cache, workers=workers, only_val=True)


def random_images(config: RunConfig, reason: str) -> ImageSet:
    """Return random images, with a sentence on why the test images are not used."""
    size = config.data.image_size

    def batches(most: int) -> Batches:
        generator = generator_for("conversion")
        for start in range(0, min(most, NUM_RANDOM), 32):
            number = min(32, most - start, NUM_RANDOM - start)
            yield torch.randn(number, 3, size, size, generator=generator) / 4, torch.zeros(number, dtype=torch.int64)

    return ImageSet(f"random images, because {reason}", False, batches)


@dataclass(frozen=True)
class Flip:
    """An image with two predictions; each margin is the distance of a net's two largest logits."""

    image: int
    label: int
    before: int
    after: int
    margin_before: float
    margin_after: float


@dataclass(frozen=True)
class Comparison:
    """The logits of two nets on the same images.

    Args:
        difference: The largest difference of logits in float64, over ``images64`` images.
        largest: The largest absolute logit among them.
        errors_before: Errors in float32 over ``images32`` images.
        flips: The images whose predictions differ in float32.
    """

    images64: int
    difference: float
    largest: float
    images32: int
    errors_before: int
    errors_after: int
    flips: tuple[Flip, ...]

    @property
    def equal(self) -> bool:
        # Not <= alone: a difference that is not a number is never equal.
        return self.difference <= TOLERANCE * max(1.0, self.largest)


Net = nn.Module | Form


def compare(before: Net, after: Net, images: ImageSet, num64: int, num32: int) -> Comparison:
    """Run two nets on images, on ``num64`` of them in float64 and on ``num32`` in float32."""
    count64 = count32 = errors_before = errors_after = 0
    difference = largest = 0.0
    flips: list[Flip] = []
    with torch.inference_mode():
        one, other = in_precision(before, torch.float64), in_precision(after, torch.float64)
        for batch, _ in images.batches(num64):
            first, second = one(batch.double()), other(batch.double())
            # torch's maximum passes NaN on, Python's does not.
            difference = float(torch.tensor([difference, float((first - second).abs().max())]).double().max())
            largest = max(largest, float(first.abs().max()))
            count64 += len(batch)
        one, other = in_precision(before, torch.float32), in_precision(after, torch.float32)
        for batch, labels in images.batches(num32):
            first, second = one(batch), other(batch)
            errors_before += int((first.argmax(1) != labels).sum())
            errors_after += int((second.argmax(1) != labels).sum())
            flips += flips_of(first, second, labels, count32)
            count32 += len(batch)
    return Comparison(count64, difference, largest, count32, errors_before, errors_after, tuple(flips))


def in_precision(net: Net, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return a net in a precision; the weights of a trained net are float32, and lose nothing on the way back."""
    return net.to(dtype).eval() if isinstance(net, nn.Module) else in_type(net, dtype)


def flips_of(before: Tensor, after: Tensor, labels: Tensor, first: int) -> list[Flip]:
    """Return the images whose predictions differ, of a batch that begins with image ``first``."""
    margins = [top[:, 0] - top[:, 1] for top in (before.topk(2).values, after.topk(2).values)]
    one, other = before.argmax(1), after.argmax(1)
    return [
        Flip(first + i, int(labels[i]), int(one[i]), int(other[i]), float(margins[0][i]), float(margins[1][i]))
        for i in (one != other).nonzero()[:, 0].tolist()
    ]
