"""ImageNet images for training and evaluation, decoded ahead."""

import functools
import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repro.config.run import DataConfig
from repro.data import PhotoSplit, PhotoStats
from repro.data.augment import PixelStats, generator_for, jitter, jitter_weights, normalize
from repro.data.feed import Feed
from repro.data.imagenet.decode import load_resized
from repro.data.imagenet.folders import evenly
from repro.data.imagenet.workers import CHUNK, CropTask, Cut, chunks, decoding_workers, read_ahead, read_crops

ALPHA = 0.1  # deviation of the colour noise, in eigenvalues (AlexNet, section 4.1) or their roots (AlexNet's code)


def pixel_stats(stats: PhotoStats, mean: str, std: str, device: torch.device) -> PixelStats:
    """Return the mean image or the mean colour, and the deviation of the colours or ones."""
    average = stats.mean_image if mean == "per_pixel" else stats.channel_mean.reshape(3, 1, 1)
    deviation = np.sqrt(stats.covariance.diagonal()) if std == "per_channel" else np.ones(3)
    return PixelStats(*(torch.from_numpy(a).float().to(device) for a in (average, deviation.reshape(3, 1, 1))))


class PhotoDraws(NamedTuple):
    """Random augmentation parameters of N images."""

    order: Tensor  # positions (N,) of the images in the training set
    shorter_side: Tensor
    place: Tensor  # positions (2, N) of the crops (``decode.Place``)
    flip: Tensor
    alpha: Tensor  # colour noise (3, N) in multiples of the eigenvalues
    crop_seed: Tensor  # of crops of random scale and aspect ratio; the image's size decides which of its draws fit
    jitter: Tensor  # changes (3, N) of brightness, contrast and saturation, each in [-1, 1)
    jitter_order: Tensor  # one of their six orders


def draw_photo_epoch(num_images: int, config: DataConfig, seed: int, epoch: int) -> PhotoDraws:
    """Draw an order of the images, and for each a shorter side, a place of the crop, a fair flip and colour noise.

    The draws of later recipes come last: the seed of a crop of random aspect ratio, and the changes of its colours.
    """
    generator = generator_for(seed, "epoch", epoch)
    order = torch.randperm(num_images, generator=generator)
    side = torch.randint(config.resize[0], config.resize[1] + 1, (num_images,), generator=generator)
    place = torch.rand(2, num_images, generator=generator, dtype=torch.float64)
    flip = torch.randint(0, 2, (num_images,), generator=generator).bool()
    alpha = ALPHA * torch.randn(3, num_images, generator=generator, dtype=torch.float64)
    crop_seed = torch.randint(2**62, (num_images,), generator=generator)
    changes = 2 * torch.rand(3, num_images, generator=generator) - 1
    jitter_order = torch.randint(6, (num_images,), generator=generator, dtype=torch.int8)
    # Draw everything even if it is unused, so that a switch changes nothing else.
    if not config.flip:
        flip.zero_()
    if config.colour == "none":
        alpha.zero_()
    return PhotoDraws(order, side, place, flip, alpha, crop_seed, changes, jitter_order)


def colours_of(stats: PhotoStats, config: DataConfig) -> Tensor:
    """Return the components (3, 3) of the colours of all pixels, a column each, as long as their noise needs."""
    sizes = np.sqrt(stats.eigenvalues) if config.colour == "pca_std" else stats.eigenvalues
    return torch.from_numpy(stats.eigenvectors * sizes)


def noise_of(alpha: Tensor, colours: Tensor) -> Tensor:
    """Return the colour noise (N, 3) of images: the sum of the components, each multiplied by its alpha (D17)."""
    return (alpha.T @ colours.T).float()


def noisy(images: Tensor, noise: Tensor, stats: PixelStats, config: DataConfig) -> Tensor:
    """Add colour noise (N, 3) to normalized images (section 3.4)."""
    images = images + noise[:, :, None, None] / stats.std
    # Krizhevsky's code scales noisy images down, so that training images are about as large as test images.
    return images / (1 + ALPHA) if config.colour == "pca_std" else images


def next_images(crops: Iterator[Tensor], count: int, device: torch.device) -> Tensor:
    """Join the parts of a batch of ``count`` images, in pinned memory for a GPU."""
    parts = list(itertools.islice(crops, -(-count // CHUNK)))
    if device.type != "cuda" or parts[0].is_cuda:
        return torch.cat(parts)
    return torch.cat(parts, out=torch.empty((count, *parts[0].shape[1:]), dtype=torch.uint8, pin_memory=True))


class PhotoFeed(Feed):
    """Training batches of ImageNet images, augmented by seed, epoch and image only."""

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
        super().__init__(len(split), batch_size, device, rank, num_ranks)
        self.split, self.config, self.seed = split, config, seed
        self.stats = pixel_stats(stats, config.mean, config.std, device)
        self._labels = torch.from_numpy(split.labels)
        self._colours = colours_of(stats, config)
        self._workers = decoding_workers(config.decoder, workers, device)
        self._planned: deque[PhotoDraws] = deque()  # draws of the steps that are being read ahead
        self._crops: Generator[Tensor] | None = None
        self._next_step = -1

    def draw(self, epoch: int) -> PhotoDraws:
        return draw_photo_epoch(len(self), self.config, self.seed, epoch)

    def load(self, step: int) -> tuple[Tensor, ...]:
        """Return uint8 crops (B, 3, S, S), labels (B,) and colour noise (B, 3) of ``step``, and read the next ahead.

        With ``data.jitter`` there are also weights (B, 3, 3) for ``repro.data.augment.jitter``.
        """
        if self._crops is None or step != self._next_step:
            self.close()
            self._crops = read_crops(self._tasks(step), self.config, self._workers)
        self._next_step = step + 1
        images = next_images(self._crops, self.part_size, self.device)
        draws = self._planned.popleft()
        noise = noise_of(draws.alpha, self._colours)
        others = [self._labels[draws.order], noise]
        if self.config.jitter:
            others.append(jitter_weights(self.config.jitter * draws.jitter, draws.jitter_order))
        return images, *(other.pin_memory() if self.device.type == "cuda" else other for other in others)

    def augment(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Change the colours if ``data.jitter`` says so, subtract the mean and add the colour noise (section 3.4)."""
        crops, labels, noise, *weights = inputs
        if weights:
            crops = jitter(crops, weights[0])
        return noisy(normalize(crops, self.stats), noise, self.stats, self.config), labels

    def close(self) -> None:
        if self._crops is not None:
            self._crops.close()
        self._crops, self._next_step = None, -1
        self._planned.clear()

    def draws(self, step: int) -> PhotoDraws:
        return PhotoDraws(*self.drawn(step))

    def _tasks(self, step: int) -> Iterator[CropTask]:
        """Yield the images to crop from ``step`` on, endlessly."""
        for coming in itertools.count(step):
            draws = self.draws(coming)
            self._planned.append(draws)
            paths = map(self.split.path, draws.order.tolist())
            places = zip(*draws.place.tolist(), strict=True)
            is_random = self.config.crop == "scale_aspect"
            seeds = draws.crop_seed.tolist() if is_random else [None] * len(draws.order)
            choices = zip(paths, draws.shorter_side.tolist(), places, draws.flip.tolist(), seeds, strict=True)
            yield from chunks([Cut(*choice) for choice in choices], CHUNK)


class PhotoImages:
    """ImageNet images to evaluate, ``limit`` or all: centre crops at the shorter side ``config.eval_resize``."""

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
        self.positions: np.ndarray = np.array_split(chosen, num_ranks)[rank]  # of this rank
        self._workers = decoding_workers(config.decoder, workers, device)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        side = self.config.eval_resize
        assert side is not None
        batches = chunks(self.positions, batch_size)
        parts = (part for batch in batches for part in chunks(batch, CHUNK))
        tasks: Iterator[CropTask] = ([Cut(self.split.path(i), side) for i in part] for part in parts)
        crops = read_crops(tasks, self.config, self._workers)
        for batch in batches:
            images = next_images(crops, len(batch), self.device)
            yield images.to(self.device, non_blocking=True), torch.from_numpy(self.split.labels[batch]).to(self.device)

    def whole(self, shorter_side: int, order: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor, int]]:
        """Yield position, whole image (uint8, 3, H, W) and label of the images at ``order``, or of all."""
        positions = self.positions.tolist() if order is None else order
        make = functools.partial(load_resized, shorter_side=shorter_side, decoder=self.config.decoder)
        images = read_ahead(make, map(self.split.path, positions), self._workers)
        for position, image in zip(positions, images, strict=True):
            # Copy: images wait for others of their shape, and each in shared memory would keep a file open.
            yield position, image.clone(), int(self.split.labels[position])
