"""The likeliest classes of test images, by a run of classification."""

from __future__ import annotations

import numpy as np
import torch

from repro.config.parse import require
from repro.config.run import RunConfig
from repro.data.imagenet.loader import PhotoImages
from repro.data.localization import BoxedSplit
from repro.engine.detection.start import channel_values
from repro.evaluation.multi_crop import EvaluatedImages, MultiView
from repro.evaluation.stored_net import file_of, stored_net
from repro.evaluation.trained import from_run
from repro.results.find import find_record
from repro.results.record import Record
from repro.runtime import distributed
from repro.runtime.device import num_workers

GUESSES = 5


def check_classes(config: RunConfig) -> None:
    """Raise ``InputError`` if the run that predicts classes does not exist or is of other images."""
    if config.localization is not None and config.localization.classes_of is not None:
        record = classifier(config)
        file_of(record.run_id, config.paths.work, config.paths.results)


def classifier(config: RunConfig) -> Record:
    """Read the record of the run that predicts classes."""
    assert config.localization is not None and config.localization.classes_of is not None
    name = config.localization.classes_of
    record = find_record(name, [config.paths.work, config.paths.results / "runs"])
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

    Images are seen at several scales where the run itself was tested so (``eval.views``), else as their centre crops.

    Raises:
        InputError: The run does not exist, or its classes are not those of the images.
    """
    record = distributed.agreed(lambda: classifier(config))
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
    scores = test("multiscale" if "multiscale" in trained.config.eval.views else "1crop").scores
    return np.argsort(-scores, axis=1, kind="stable")[:, :GUESSES]
