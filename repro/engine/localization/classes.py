"""The likeliest classes of test images, by runs of classification."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from repro.config.parse import require
from repro.config.run import RunConfig
from repro.data.imagenet.loader import PhotoImages
from repro.data.localization import BoxedSplit
from repro.engine.detection.start import channel_values
from repro.errors import InputError
from repro.evaluation.multi_crop import EvaluatedImages, MultiView
from repro.evaluation.stored_net import file_of, stored_net
from repro.evaluation.trained import from_run
from repro.results.find import find_record
from repro.results.record import Record
from repro.runtime import distributed
from repro.runtime.device import num_workers

GUESSES = 5


def check_classes(config: RunConfig, planned: Collection[str] = ()) -> None:
    """Raise ``InputError`` if a run that predicts classes does not exist or is of other images.

    Runs that are ``planned`` before are looked at once they are finished.
    """
    for name in () if config.localization is None else config.localization.classes_of:
        if name not in planned:
            classifier(name, config)
            file_of(name, config.paths.work, config.paths.results)


def classifiers(config: RunConfig) -> list[Record]:
    """Read the records of the runs that predict classes; none if there is no such run."""
    return [] if config.localization is None else [classifier(name, config) for name in config.localization.classes_of]


def classifier(name: str, config: RunConfig) -> Record:
    """Read the record of a run that predicts classes.

    Raises:
        InputError: There is no such run, or it is not of classification or of other images.
    """
    try:
        record = find_record(name, [config.paths.work, config.paths.results / "runs"])
    except InputError as error:
        raise InputError(f"localization.classes_of={name} is not a finished run of classification: {error}") from None
    require(record.run_id == name, f"localization.classes_of={name} must be the whole id of a run: {record.run_id}")
    there = record.science.data.name
    require(
        there == config.data.name and config.data.photos,
        f"localization.classes_of={name} predicts classes of {there}, not of {config.data.name}: name a run of "
        "data=imagenet or data=tiny_imagenet",
    )
    return record


def predicted_classes(config: RunConfig, split: BoxedSplit, device: torch.device) -> np.ndarray:
    """Return the five likeliest classes (N, 5) of each image, the likeliest first (D89).

    Several runs are an ensemble, with the mean of their probabilities.

    Raises:
        InputError: A run does not exist, or its classes are not those of the images.
    """
    records = distributed.agreed(lambda: classifiers(config))
    scores = np.stack([probabilities(record, config, split, device) for record in records]).mean(0)
    return np.argsort(-scores, axis=1, kind="stable")[:, :GUESSES]


def probabilities(record: Record, config: RunConfig, split: BoxedSplit, device: torch.device) -> np.ndarray:
    """Return the probabilities (N, C) of all classes, by one run.

    Images are seen at several scales where the run itself was tested so (``eval.views``), else as their centre crops.
    """
    trained = from_run(record, config)
    stored = stored_net(record, config.paths.work, config.paths.results, config.paths.data)
    require(
        stored.classes == split.photos.classes,
        f"localization.classes_of={record.run_id} has other classes than the images of {split.photos.root}",
    )
    model = trained.build(len(stored.classes), device)
    ranks, workers = (distributed.rank(), distributed.size()), num_workers(config.execution, device)
    images = PhotoImages(split.photos, trained.config.data, device, *ranks, workers)
    crop_stats, whole_stats = (
        type(stats)(stats.mean.to(device), stats.std.to(device))
        for stats in (stored.stats, channel_values(stored.stats))
    )
    test = MultiView(model, EvaluatedImages(images, crop_stats, whole_stats), trained.config, device)
    scores: np.ndarray = test("multiscale" if "multiscale" in trained.config.eval.views else "1crop").scores
    return scores
