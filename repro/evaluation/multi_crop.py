"""Tests on several views of ImageNet images (section 3.4)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
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
from repro.evaluation.predictions import Made, Predictions, digest_of_images, made_of
from repro.evaluation.scoring import Score, Scored, gathered, mean_of, scored
from repro.evaluation.views import FullyConvolutional, centre_crop, crop_scores, dense_scores, ten_crops, training_map
from repro.models.blocks import BlockNet
from repro.runtime import distributed
from repro.runtime.stop import Stopped

VIEWS = ("1crop", "10crop", "multiscale", "large_crop")


@dataclass(frozen=True)
class EvaluatedImages:
    """Images for a test, with the statistics that normalize them."""

    images: PhotoImages
    crop_stats: PixelStats
    """For crops, with the mean image as in training."""
    whole_stats: PixelStats
    """For images of other sizes, with the channel mean."""


def evaluated_images(
    dataset: Dataset, config: RunConfig, device: torch.device, stats: PixelStats | None = None
) -> EvaluatedImages:
    """Return the images that a run is evaluated on, with ``stats``, by default those of its training images."""
    images = eval_images(dataset, config, device)
    assert isinstance(images, PhotoImages)
    if stats is not None:
        return EvaluatedImages(images, stats, stats)
    assert dataset.photo_stats is not None
    crop_stats, whole_stats = (
        pixel_stats(dataset.photo_stats, mean, config.data.std, device) for mean in (config.data.mean, "per_channel")
    )
    return EvaluatedImages(images, crop_stats, whole_stats)


class MultiView:
    """Tests a net on a view of every image; all ranks call this, and each tests its part of the images.

    The net keeps its mode (training or evaluation).

    Args:
        stop: Asked before each batch whether the test shall end.
    """

    def __init__(
        self,
        model: BlockNet,
        evaluated: EvaluatedImages,
        config: RunConfig,
        device: torch.device,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stop = stop
        self.model, self.evaluated, self.config, self.device = model, evaluated, config, device
        self.size, self.precision = config.data.image_size, config.optim.precision
        # A batch has at most as many pixels as in the usual evaluation.
        self.batch_pixels = config.execution.eval_batch_size * self.size**2

    def __call__(self, view: str) -> Predictions:
        """Score all images on ``view``, with the same result on all ranks.

        Raises:
            RunError: A score is not finite, or an image was not scored exactly once.
            Stopped: Any rank was asked to stop.
        """
        part: Scored | None = None
        with evaluating(self.model), contextlib.suppress(Stopped):
            match view:
                case "multiscale":
                    part = self.multiscale()
                case "large_crop":
                    part = self.large_crop()
                case _:
                    part = self.crops(view)
        # Ranks have different numbers of batches, so they agree only after their parts.
        if distributed.on_any(part is None) or part is None:
            raise Stopped
        whole = gathered(part, self.evaluated.images.num_images)
        return Predictions(self.made(view), whole.scores, whole.labels)

    def made(self, view: str) -> Made:
        """Describe the scores on ``view``."""
        split = self.evaluated.images.split
        images = digest_of_images(split.files, split.labels)
        return made_of(self.config, self.model.state_dict(), view, split.name, images)

    def crops(self, view: str) -> Scored:
        """Score the ten crops of ``10crop``, or the centre crop of ``1crop``."""
        stats, precision = self.evaluated.crop_stats, self.precision
        num_crops = 10 if view == "10crop" else 1
        shorter_side = self.config.data.eval_resize or self.size

        def score(images: Tensor) -> Tensor:
            if num_crops == 1:
                return crop_scores(self.model, centre_crop(images, self.size)[:, None], stats, precision)
            area = centre_crop(images, shorter_side) if self.config.eval.crops_of == "square" else images  # D27
            return crop_scores(self.model, ten_crops(area, self.size), stats, precision)

        return self.scored(shorter_side, score, self.batch_pixels // num_crops)

    def large_crop(self) -> Scored:
        """Score a centre crop larger than those of training, as Identity Mappings does (deviation D102)."""
        side, stats = self.config.eval.large_side(self.size), self.evaluated.whole_stats

        def score(images: Tensor) -> Tensor:
            return crop_scores(self.model, centre_crop(images, side)[:, None], stats, self.precision)

        return self.scored(side, score, self.batch_pixels)

    def multiscale(self) -> Scored:
        """Score whole images fully convolutionally at all scales, with flips (deviation D19)."""
        model, flip = FullyConvolutional(self.model, training_map(self.model, self.size)), self.config.eval.flip_scales

        def score(images: Tensor) -> Tensor:
            return dense_scores(model, normalize(images, self.evaluated.whole_stats), self.precision, flip)

        return mean_of([self.scored(scale, score, self.batch_pixels) for scale in self.config.eval.scales])

    def scored(self, shorter_side: int, score: Score, batch_pixels: int) -> Scored:
        images = self.evaluated.images
        photos = images.whole(shorter_side, by_shape(images, shorter_side))

        def score_unless_stopped(batch: Tensor) -> Tensor:
            if self.stop():
                raise Stopped
            return score(batch.to(self.device))

        return scored(photos, score_unless_stopped, self.model.fc.out_features, batch_pixels)


def test_views(
    model: BlockNet,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,  # noqa: PT028  # this is no test of pytest
) -> list[dict[str, Any]]:
    """Test a trained net on ``config.eval.views`` and store the scores in the folder of the run.

    Views whose scores are there already, as after a stop, are not tested again.

    Returns:
        The fields of a ``ViewResult`` for each view, the same on all ranks.

    Raises:
        RunError: A score is not finite, an image was not scored exactly once, or the scores cannot be written.
        Stopped: Any rank was asked to stop.
    """
    test = MultiView(model, evaluated_images(dataset, config, device), config, device, stop)
    entries = []
    for view in config.eval.views:
        path = predictions.path_of(config.work_dir, view)
        kept = predictions.kept(path, test.made(view)) if distributed.is_first() else None
        entry = distributed.shared(None if kept is None else entry_of(kept))
        if entry is None:
            scores = test(view)
            distributed.on_first(functools.partial(predictions.write, path, scores))
            entry = entry_of(scores)
        entries.append(entry)
    return entries


def entry_of(scores: Predictions) -> dict[str, Any]:
    """Return the fields of a ``ViewResult``."""
    return {"view": scores.made.view, "split": scores.made.split, **scores.counts.values()}


def by_shape(images: PhotoImages, shorter_side: int) -> list[int] | None:
    """Order this rank's positions by the shape of their resized images; None if the sizes are unknown."""
    if images.split.sizes is None:
        return None
    sizes = images.split.sizes[images.positions].astype(np.int64)
    heights, widths = (shorter_side * sizes // sizes.min(1, keepdims=True)).T
    order: list[int] = images.positions[np.lexsort((widths, heights))].tolist()
    return order


@contextlib.contextmanager
def evaluating(model: BlockNet) -> Iterator[None]:
    """Put the net into evaluation mode, and restore its mode at the end."""
    # Batches differ in size, so searching for the fastest kernel and compiled blocks would not pay off.
    was_training, searches = model.training, torch.backends.cudnn.benchmark
    model.eval()
    torch.backends.cudnn.benchmark = False
    try:
        with torch.inference_mode(), uncompiled(model):
            yield
    finally:
        torch.backends.cudnn.benchmark = searches
        model.train(was_training)
