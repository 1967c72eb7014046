"""Several views of every ImageNet image (paper, section 3.4)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data import Dataset
from repro.data.augment import PixelStats, normalize
from repro.data.batches import eval_images
from repro.data.imagenet.loader import PhotoImages, pixel_stats
from repro.evaluation import predictions
from repro.evaluation.layer_statistics import uncompiled
from repro.evaluation.predict import FullyConvolutional, centre_crop, crop_scores, dense_scores, ten_crops, training_map
from repro.evaluation.predictions import Predictions, digest_of_images, made_of
from repro.evaluation.scoring import Score, Scored, gathered, mean_of, scored
from repro.models.blocks import BlockNet
from repro.runtime import distributed

VIEWS = ("1crop", "10crop", "multiscale")


@dataclass(frozen=True)
class Photographs:
    """Images to test on, with the means that are subtracted from them."""

    images: PhotoImages
    crop_stats: PixelStats
    """For crops: the mean image, as in training."""
    whole_stats: PixelStats
    """For whole images: the channel mean."""


def photographs(
    dataset: Dataset, config: RunConfig, device: torch.device, stats: PixelStats | None = None
) -> Photographs:
    """Return the images that a run is evaluated on, with ``stats`` or else those of its training images."""
    images = eval_images(dataset, config, device)
    assert isinstance(images, PhotoImages)
    if stats is not None:
        return Photographs(images, stats, stats)
    assert dataset.photo_stats is not None
    crop_stats, whole_stats = (
        pixel_stats(dataset.photo_stats, mean, config.data.std, device) for mean in (config.data.mean, "per_channel")
    )
    return Photographs(images, crop_stats, whole_stats)


class MultiView:
    """Tests a net on a view of every image; each rank calls it alike and takes its part of the images.

    The net stays in its mode, training or evaluation.
    """

    def __init__(self, model: BlockNet, photographs: Photographs, config: RunConfig, device: torch.device) -> None:
        self.model, self.photographs, self.config, self.device = model, photographs, config, device
        self.size, self.precision = config.data.image_size, config.optim.precision
        # Pixels of a batch of the usual evaluation bound those of one here.
        self.batch_pixels = config.execution.eval_batch_size * self.size**2

    def __call__(self, view: str) -> Predictions:
        """Score all images on ``view``; the same on all ranks.

        Raises:
            RunError: A score is not finite, or an image was not counted once.
        """
        with evaluating(self.model):
            part = self.multiscale() if view == "multiscale" else self.crops(view)
        whole, split = gathered(part, self.photographs.images.num_images), self.photographs.images.split
        images = digest_of_images(split.files, split.labels)
        made = made_of(self.config, self.model.state_dict(), view, split.name, images)
        return Predictions(made, whole.scores, whole.labels)

    def crops(self, view: str) -> Scored:
        """Score ``10crop``, or ``1crop``: the centre alone."""
        stats, precision = self.photographs.crop_stats, self.precision
        num_crops = 10 if view == "10crop" else 1
        shorter_side = self.config.data.eval_resize or self.size

        def score(images: Tensor) -> Tensor:
            if num_crops == 1:
                return crop_scores(self.model, centre_crop(images, self.size)[:, None], stats, precision)
            area = centre_crop(images, shorter_side) if self.config.eval.crops_of == "square" else images  # D27
            return crop_scores(self.model, ten_crops(area, self.size), stats, precision)

        return self.scored(shorter_side, score, self.batch_pixels // num_crops)

    def multiscale(self) -> Scored:
        """Score whole images fully convolutionally, at every scale, with their flips (deviation D19)."""
        model, flip = FullyConvolutional(self.model, training_map(self.model, self.size)), self.config.eval.flip_scales

        def score(images: Tensor) -> Tensor:
            return dense_scores(model, normalize(images, self.photographs.whole_stats), self.precision, flip)

        return mean_of([self.scored(scale, score, self.batch_pixels) for scale in self.config.eval.scales])

    def scored(self, shorter_side: int, score: Score, batch_pixels: int) -> Scored:
        images = self.photographs.images
        photos = images.whole(shorter_side, by_shape(images, shorter_side))
        return scored(photos, lambda batch: score(batch.to(self.device)), self.model.fc.out_features, batch_pixels)


def test_views(model: BlockNet, dataset: Dataset, config: RunConfig, device: torch.device) -> list[dict[str, Any]]:
    """Test a trained net on the views of ``config.eval.views`` and keep the scores in the run's folder.

    Returns:
        One entry a view, as ``results.read.ViewResult`` reads it, the same on all ranks.

    Raises:
        RunError: A score is not finite, an image was not counted once, or the scores cannot be written.
    """
    test = MultiView(model, photographs(dataset, config, device), config, device)
    entries = []
    for view in config.eval.views:
        scores = test(view)
        path = predictions.path_of(config.work_dir, view)
        distributed.on_first(functools.partial(predictions.write, path, scores))
        entries.append({"view": view, "split": scores.made.split, **scores.counts.values()})
    return entries


def by_shape(images: PhotoImages, shorter_side: int) -> list[int] | None:
    """Order this rank's positions by the shape of their resized images; None where sizes are unknown."""
    if images.split.sizes is None:
        return None
    sizes = images.split.sizes[images.positions].astype(np.int64)
    heights, widths = (shorter_side * sizes // sizes.min(1, keepdims=True)).T
    order: list[int] = images.positions[np.lexsort((widths, heights))].tolist()
    return order


@contextlib.contextmanager
def evaluating(model: BlockNet) -> Iterator[None]:
    """Put the net into evaluation mode, without what pays off only for batches of one size; then back."""
    was_training, searches = model.training, torch.backends.cudnn.benchmark
    model.eval()
    torch.backends.cudnn.benchmark = False
    try:
        with torch.inference_mode(), uncompiled(model):
            yield
    finally:
        torch.backends.cudnn.benchmark = searches
        model.train(was_training)
