"""Augmentation on the device, in batches, as pure functions of draws made beforehand.

An epoch's order, crops and flips are drawn at once, on the CPU, from a generator seeded by (seed, epoch): what a
step sees depends on nothing else, so a run restarts at any step without replaying and is the same on any device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What chance decides about a row of N images, as one int64 tensor (4, N) that moves to a device in one piece."""

    packed: Tensor

    @classmethod
    def of(cls, order: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Draws:
        return cls(torch.stack([order, top, left, flip.to(order.dtype)]))

    @property
    def order(self) -> Tensor:
        """Positions of the images in the training set."""
        return self.packed[0]

    @property
    def top(self) -> Tensor:
        """First row of the crop in the padded image, 0 to 2 * pad."""
        return self.packed[1]

    @property
    def left(self) -> Tensor:
        return self.packed[2]

    @property
    def flip(self) -> Tensor:
        return self.packed[3].bool()


@dataclass(frozen=True)
class PixelStats:
    """Mean and deviation of training pixels in [0, 1], each broadcastable to (3, H, W)."""

    mean: Tensor
    std: Tensor


def generator_for(*names: object) -> torch.Generator:
    """A CPU generator whose stream depends on ``names`` alone, as in ``generator_for(seed, "init")``."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


def draw_epoch(num_images: int, pad: int, flip: bool, seed: int, epoch: int) -> Draws:
    """A permutation of the training set, a crop offset for each image (all (2*pad+1)^2 alike) and a fair flip."""
    generator = generator_for(seed, "epoch", epoch)
    order = torch.randperm(num_images, generator=generator)
    offsets = torch.randint(0, 2 * pad + 1, (2, num_images), generator=generator)
    flips = torch.randint(0, 2, (num_images,), generator=generator).bool()
    return Draws.of(order, offsets[0], offsets[1], flips if flip else torch.zeros_like(flips))


def pixel_stats(images: Tensor, mean: str, std: str) -> PixelStats:
    """Statistics of uint8 training images (N, 3, H, W); sums are whole numbers, so the same on every device."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64, device=images.device)
    squares = torch.zeros(3, dtype=torch.int64, device=images.device)
    for chunk in torch.split(images, 5000):
        total += chunk.sum(0, dtype=torch.int64)
        squares += chunk.to(torch.int32).pow(2).sum((0, 2, 3), dtype=torch.int64)
    # float64 on the host: some devices have none, and the result is a few kilobytes.
    sums = total.cpu().double()
    count = images.shape[0] * images.shape[2] * images.shape[3]
    channel_mean = sums.sum((1, 2)) / count
    pixel_mean = sums / images.shape[0] if mean == "per_pixel" else channel_mean.view(3, 1, 1)
    variance = squares.cpu().double() / count - channel_mean**2
    deviation = variance.sqrt().view(3, 1, 1) / 255 if std == "per_channel" else torch.ones(3, 1, 1)
    return PixelStats((pixel_mean / 255).float().to(images.device), deviation.float().to(images.device))


def normalize(images: Tensor, stats: PixelStats) -> Tensor:
    """uint8 (N, 3, H, W) to float32 with the mean subtracted; values in about [-1, 1] (deviation D11)."""
    return (images.float() / 255 - stats.mean) / stats.std


def augment(images: Tensor, draws: Draws, stats: PixelStats, pad: int, pad_order: str) -> Tensor:
    """Pad, random crop, flip and mean subtraction (section 4.2): uint8 (N, 3, H, W) to float32 of that shape.

    ``pad_order="after_mean"`` pads zeros after the mean is subtracted, so the border is the mean image's;
    ``"before_mean"`` pads the raw image, so the border is black (deviation D3).
    """
    if pad_order == "after_mean":
        return crop_and_flip(F.pad(normalize(images, stats), [pad] * 4), draws, images.shape[-1])
    return normalize(crop_and_flip(F.pad(images, [pad] * 4), draws, images.shape[-1]), stats)


def crop_and_flip(padded: Tensor, draws: Draws, size: int) -> Tensor:
    """Cuts (N, 3, H, W) to (N, 3, size, size) at each image's own offset, mirrored where its flip says so."""
    steps = torch.arange(size, device=padded.device)
    rows = draws.top[:, None] + steps
    columns = draws.left[:, None] + torch.where(draws.flip[:, None], size - 1 - steps, steps)
    index = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
    num_images, channels = padded.shape[:2]
    pixels = padded.flatten(2).gather(2, index[:, None, :].expand(-1, channels, -1))
    return pixels.view(num_images, channels, size, size)
