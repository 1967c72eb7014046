"""Augmentation of batches on the device, from random draws.

An epoch's order, crops and flips are drawn at once, on the CPU, from a generator seeded by (seed, epoch). The batch of
a step depends on nothing else, so that a run resumes at any step without replaying and is the same on any device.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from repro.runtime.seeds import seed_of


class Draws(NamedTuple):
    """Random augmentation parameters of N images, each an int64 tensor (N,)."""

    order: Tensor  # positions of the images in the training set
    top: Tensor  # first rows of the crops in the padded images, 0 to 2 * pad
    left: Tensor
    flip: Tensor


@dataclass(frozen=True)
class PixelStats:
    """Mean and deviation of training pixels in [0, 1], each broadcastable to (3, H, W).

    ``whitening`` (D, D) is multiplied with whole images of D values after that (deviation D50).
    """

    mean: Tensor
    std: Tensor
    whitening: Tensor | None = None


def generator_for(*names: object) -> torch.Generator:
    """Return a CPU generator whose stream depends only on ``names``, as in ``generator_for(seed, "init")``."""
    return torch.Generator().manual_seed(seed_of(*names))


def draw_epoch(num_images: int, pad: int, flip: bool, seed: int, epoch: int) -> Draws:
    """Draw a permutation of the training set, and for each image one of (2*pad+1)^2 crops and a fair flip."""
    generator = generator_for(seed, "epoch", epoch)
    order = torch.randperm(num_images, generator=generator)
    offsets = torch.randint(0, 2 * pad + 1, (2, num_images), generator=generator)
    flips = torch.randint(0, 2, (num_images,), generator=generator)
    return Draws(order, offsets[0], offsets[1], flips if flip else torch.zeros_like(flips))


def pixel_stats(images: Tensor, mean: str, std: str) -> PixelStats:
    """Compute statistics of uint8 images (N, 3, H, W), from integer sums, which are the same on every device."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64, device=images.device)
    squares = torch.zeros(3, dtype=torch.int64, device=images.device)
    for chunk in torch.split(images, 5000):
        total += chunk.sum(0, dtype=torch.int64)
        squares += chunk.to(torch.int32).pow(2).sum((0, 2, 3), dtype=torch.int64)
    # Use float64 on the host: some devices do not have it, and the sums are a few kilobytes.
    sums = total.cpu().double()
    count = images.shape[0] * images.shape[2] * images.shape[3]
    channel_mean = sums.sum((1, 2)) / count
    pixel_mean = sums / images.shape[0] if mean == "per_pixel" else channel_mean.view(3, 1, 1)
    variance = squares.cpu().double() / count - channel_mean**2
    deviation = variance.sqrt().view(3, 1, 1) / 255 if std == "per_channel" else torch.ones(3, 1, 1)
    return PixelStats((pixel_mean / 255).float().to(images.device), deviation.float().to(images.device))


def normalize(images: Tensor, stats: PixelStats) -> Tensor:
    """Subtract the mean from images (N, 3, H, W) with pixels of 0 to 255, uint8 or changed by ``jitter``, and whiten
    them: float32, in about [-1, 1] (deviation D11)."""
    normalized = (images.float() / 255 - stats.mean) / stats.std
    if stats.whitening is None:
        return normalized
    # In the precision of the matrix: TF32 would keep three digits of sums of thousands of products.
    return (normalized.flatten(1).to(stats.whitening.dtype) @ stats.whitening).to(normalized.dtype).view_as(normalized)


GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in an image's grey."""
ORDERS = torch.tensor(list(itertools.permutations(range(3))))
"""The orders of brightness (0), contrast (1) and saturation (2)."""


def jitter_weights(changes: Tensor, order: Tensor) -> Tensor:
    """Return weights (N, 3, 3) for ``jitter``: by image and turn those of the image, of its mean grey and of its grey.

    Args:
        changes: The relative changes (3, N) of brightness, contrast and saturation, above -1.
        order: The number (N,) of their order among ``ORDERS``.
    """
    turns = ORDERS[order.long()]
    change = changes.T.gather(1, turns)
    # Each change is a blend with another image: black, grey of one value, or the image in grey (deviation D101).
    return torch.stack([1 + change, torch.where(turns == 1, -change, 0), torch.where(turns == 2, -change, 0)], -1)


def jitter(images: Tensor, weights: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of images (N, 3, H, W), in the order that ``weights`` has: float32.

    Nothing is clipped.
    """
    changed = images.float()
    for turn in range(3):
        own, mean, grey = (weight[:, None, None, None] for weight in weights[:, turn].unbind(1))
        # By numbers: a tensor of them could not be copied to the GPU within a CUDA graph.
        greys = GREY[0] * changed[:, :1] + GREY[1] * changed[:, 1:2] + GREY[2] * changed[:, 2:]
        changed = own * changed + mean * greys.mean((2, 3), keepdim=True) + grey * greys
    return changed


def augment(
    images: Tensor, draws: Draws, stats: PixelStats, pad: int, pad_order: str, pad_mode: str = "zeros"
) -> Tensor:
    """Pad, crop, flip and subtract the mean (section 4.2): uint8 (N, 3, H, W) to float32 of that shape.

    ``pad_order="after_mean"`` pads zeros after the mean is subtracted, so that the border has the mean colour;
    ``"before_mean"`` pads the raw image, so that the border is black (deviation D3). ``pad_mode="reflect"`` pads with
    the image's own pixels, mirrored at its edge.
    """
    if pad_mode == "reflect":
        padded = F.pad(normalize(images, stats), [pad] * 4, mode="reflect")
        return crop_and_flip(padded, draws, images.shape[-1])
    if pad_order == "after_mean":
        return crop_and_flip(F.pad(normalize(images, stats), [pad] * 4), draws, images.shape[-1])
    return normalize(crop_and_flip(F.pad(images, [pad] * 4), draws, images.shape[-1]), stats)


def crop_and_flip(padded: Tensor, draws: Draws, size: int) -> Tensor:
    """Crop (N, 3, H, W) to (N, 3, size, size) and flip, as drawn for each image."""
    steps = torch.arange(size, device=padded.device)
    rows = draws.top[:, None] + steps
    columns = draws.left[:, None] + torch.where(draws.flip.bool()[:, None], size - 1 - steps, steps)
    index = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
    num_images, channels = padded.shape[:2]
    pixels = padded.flatten(2).gather(2, index[:, None, :].expand(-1, channels, -1))
    return pixels.view(num_images, channels, size, size)
