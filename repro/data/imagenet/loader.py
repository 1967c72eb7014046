"""Photographs for training and evaluation: decoded, resized, cropped and mirrored on the host, ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repro.config.run import DataConfig
from repro.data import PhotoSplit, PhotoStats
from repro.data.augment import PixelStats, generator_for, normalize
from repro.data.imagenet.folders import evenly
from repro.data.imagenet.workers import (
    CHUNK,
    Cropper,
    Crops,
    Resizer,
    Unreadable,
    checked,
    decoding_workers,
    joined,
    read_ahead,
)

ALPHA = 0.1
"""Deviation of the colour noise, in eigenvalues (AlexNet, section 4.1) or in their square roots (its code)."""


def pixel_stats(stats: PhotoStats, mean: str, std: str, device: torch.device) -> PixelStats:
    """What is subtracted and divided by: the mean image or the mean colour; nothing or the colours' deviation."""
    average = stats.mean_image if mean == "per_pixel" else stats.channel_mean.reshape(3, 1, 1)
    deviation = np.sqrt(stats.covariance.diagonal()) if std == "per_channel" else np.ones(3)
    return PixelStats(*(torch.from_numpy(a).float().to(device) for a in (average, deviation.reshape(3, 1, 1))))


# --- chance -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhotoDraws:
    """What chance decides about a row of N images. ``place`` (2, N) is where in its room a crop begins, ``alpha``
    (3, N) the colour noise in multiples of the eigenvalues."""

    order: Tensor
    shorter_side: Tensor
    place: Tensor
    flip: Tensor
    alpha: Tensor

    def part(self, first: int, last: int) -> PhotoDraws:
        return PhotoDraws(*(column[..., first:last] for column in self.columns()))

    def columns(self) -> list[Tensor]:
        return [self.order, self.shorter_side, self.place, self.flip, self.alpha]

    @classmethod
    def joined(cls, parts: Sequence[PhotoDraws]) -> PhotoDraws:
        return cls(*(torch.cat(columns, -1) for columns in zip(*(p.columns() for p in parts), strict=True)))


def draw_photo_epoch(num_images: int, config: DataConfig, seed: int, epoch: int) -> PhotoDraws:
    """A permutation of the images, and for each a shorter side from ``config.resize`` (both ends included), a place of
    the crop, a fair flip and Gaussian colour noise. All is drawn whatever is used: a switch changes nothing else."""
    generator = generator_for(seed, "epoch", epoch)
    order = torch.randperm(num_images, generator=generator)
    side = torch.randint(config.resize[0], config.resize[1] + 1, (num_images,), generator=generator)
    place = torch.rand(2, num_images, generator=generator, dtype=torch.float64)
    flip = torch.randint(0, 2, (num_images,), generator=generator).bool()
    alpha = ALPHA * torch.randn(3, num_images, generator=generator, dtype=torch.float64)
    return PhotoDraws(order, side, place, flip & config.flip, alpha * (config.colour != "none"))


# --- training -----------------------------------------------------------------------------------------------------


class PhotoFeed:
    """The training batches of photographs (``data.feeds.Feed``).

    Step t takes images [B*t, B*t + B) of the concatenated per-epoch permutations, as ``TrainStream`` does (D15), of
    which ``rank`` gets its consecutive part. What an image looks like depends on seed, epoch and image alone.

    Raises:
        InputError: ``data.decoder=nvjpeg`` without a GPU.
    """

    def __init__(
        self,
        split: PhotoSplit,
        stats: PhotoStats,
        config: DataConfig,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        num_ranks: int = 1,
        workers: int = 0,
    ) -> None:
        self.split, self.config, self.batch_size, self.seed, self.device = split, config, batch_size, seed, device
        self.part_size = batch_size // num_ranks
        """Images of a step on this rank."""
        self.stats = pixel_stats(stats, config.mean, config.std, device)
        self._part_start = rank * self.part_size
        self._labels = torch.from_numpy(split.labels)
        # The noise of an image is the sum of the components, each times its size and its alpha (deviation D17).
        sizes = np.sqrt(stats.eigenvalues) if config.colour == "pca_std" else stats.eigenvalues
        self._colours = torch.from_numpy(stats.eigenvectors * sizes)
        self._workers = decoding_workers(config.decoder, workers, device)
        self._cropper = Cropper(config.image_size, config.decoder)
        self._epochs: dict[int, PhotoDraws] = {}
        self._planned: deque[PhotoDraws] = deque()
        """Draws of the steps that are read ahead, the next one first."""
        self._crops: Generator[Tensor | Unreadable] | None = None
        self._next_step = -1

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.split)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented float32 images (B, 3, S, S) and labels (B,) of ``step``, counted from 0; B is this rank's part."""
        return self.augmented(tuple(t.to(self.device, non_blocking=True) for t in self.fed(step)))

    def fed(self, step: int) -> tuple[Tensor, ...]:
        """uint8 crops (B, 3, S, S), labels (B,) and colour noise (B, 3). Steps that follow on one another are read
        ahead; any other step begins anew.

        Raises:
            RunError: An image can no longer be read, or a process that decodes ended.
        """
        if self._crops is None or step != self._next_step:
            self.close()
            self._crops = read_ahead(self._cropper, self._tasks(step), self._workers)
        self._next_step = step + 1
        num_chunks = -(-self.part_size // CHUNK)
        images = joined([checked(next(self._crops)) for _ in range(num_chunks)], self.device)
        draws = self._planned.popleft()
        noise = (draws.alpha.T @ self._colours.T).float()
        labels = self._labels[draws.order]
        if self.device.type == "cuda":
            labels, noise = labels.pin_memory(), noise.pin_memory()
        return images, labels, noise

    def augmented(self, fed: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Mean subtracted, colour noise added (section 3.4): all of it on the device, as a CUDA graph needs."""
        crops, labels, noise = fed
        images = normalize(crops, self.stats) + noise[:, :, None, None] / self.stats.std
        # Krizhevsky's code shrinks what it made noisy, so that training images are about as large as those of tests.
        return (images / (1 + ALPHA) if self.config.colour == "pca_std" else images), labels

    def close(self) -> None:
        """Ends the processes that read ahead."""
        if self._crops is not None:
            self._crops.close()
        self._crops, self._next_step = None, -1
        self._planned.clear()

    def draws(self, step: int) -> PhotoDraws:
        """What chance decides about this rank's images of ``step``."""
        first = step * self.batch_size + self._part_start
        last = first + self.part_size
        parts = []
        for epoch in range(first // len(self), (last - 1) // len(self) + 1):
            start = epoch * len(self)
            parts.append(self._epoch(epoch).part(max(first - start, 0), min(last - start, len(self))))
        return PhotoDraws.joined(parts)

    def _epoch(self, epoch: int) -> PhotoDraws:
        if epoch not in self._epochs:
            # Only the epoch that ends and the one that begins are ever needed.
            self._epochs = {e: draws for e, draws in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = draw_photo_epoch(len(self), self.config, self.seed, epoch)
        return self._epochs[epoch]

    def _tasks(self, step: int) -> Iterator[Crops]:
        """What is to be decoded from ``step`` on, without end."""
        while True:
            draws = self.draws(step)
            self._planned.append(draws)
            for first in range(0, self.part_size, CHUNK):
                part = draws.part(first, first + CHUNK)
                down, across = part.place.tolist()
                yield Crops(
                    [str(self.split.root / self.split.files[i]) for i in part.order.tolist()],
                    part.shorter_side.tolist(),
                    list(zip(down, across, strict=True)),
                    part.flip.tolist(),
                )
            step += 1


# --- evaluation ---------------------------------------------------------------------------------------------------


class PhotoImages:
    """Photographs that are evaluated, this rank's part (``data.feeds.Images``): the shorter side
    ``config.eval_resize``, the centre crop.

    Args:
        limit: So many, evenly from all classes; None is all.

    Raises:
        InputError: ``data.decoder=nvjpeg`` without a GPU.
    """

    def __init__(
        self,
        split: PhotoSplit,
        config: DataConfig,
        device: torch.device,
        rank: int = 0,
        num_ranks: int = 1,
        workers: int = 0,
        limit: int | None = None,
    ) -> None:
        self.split, self.config, self.device = split, config, device
        chosen = np.arange(len(split)) if limit is None else evenly(split.labels, limit)
        self.num_images = len(chosen)
        self.positions: np.ndarray = np.array_split(chosen, num_ranks)[rank]
        """Of this rank's images in the split."""
        self._workers = decoding_workers(config.decoder, workers, device)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 centre crops (N, 3, S, S) and labels (N,) on the device; every batch is full but the last.

        Raises:
            RunError: An image can no longer be read, or a process that decodes ended.
        """
        starts = range(0, len(self.positions), batch_size)
        batches = [self.positions[start : start + batch_size] for start in starts]
        tasks = (self._task(b[first : first + CHUNK]) for b in batches for first in range(0, len(b), CHUNK))
        crops = read_ahead(Cropper(self.config.image_size, self.config.decoder), tasks, self._workers)
        for batch in batches:
            images = joined([checked(next(crops)) for _ in range(-(-len(batch) // CHUNK))], self.device)
            labels = torch.from_numpy(self.split.labels[batch])
            yield images.to(self.device, non_blocking=True), labels.to(self.device)

    def whole(self, shorter_side: int, order: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor, int]]:
        """This rank's images whole, one by one: position in the split, uint8 (3, H, W), label.

        Args:
            order: Positions, as of ``positions``, in the order in which they are wanted; None is their own.

        Raises:
            RunError: An image can no longer be read, or a process that decodes ended.
        """
        positions = self.positions.tolist() if order is None else order
        paths = (self._path(position) for position in positions)
        images = read_ahead(Resizer(shorter_side, self.config.decoder), paths, self._workers)
        for position, image in zip(positions, images, strict=True):
            # A copy: images wait for others of their shape, and each in shared memory would hold an open file.
            yield position, checked(image).clone(), int(self.split.labels[position])

    def _task(self, positions: np.ndarray) -> Crops:
        assert self.config.eval_resize is not None
        count = len(positions)
        paths = [self._path(position) for position in positions]
        return Crops(paths, [self.config.eval_resize] * count, None, [False] * count)

    def _path(self, position: int) -> str:
        return str(self.split.root / self.split.files[position])
