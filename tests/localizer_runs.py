"""Small runs of localizers on drawn shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repro.config.run import RunConfig
from repro.data.localization import LocalizationDataset
from repro.data.localization.dataset import load_localization
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.localization.prepared import PreparedLocalizer
from repro.engine.localization.testing import locate_all
from tests.runs import config

SMALL = (
    "exp=imagenet_localization",
    "localization.method=rpn",
    "data=shapes_boxes",
    "model.width=0.125",
    "localization.width=16",
)


def localizer_config(folder: Path, *words: str) -> RunConfig:
    """Compose a run of a narrow localizer at smoke scale."""
    given = {word.partition("=")[0] for word in words}
    return config(folder, *words, *(word for word in SMALL if word.partition("=")[0] not in given))


def boxes_of(net: PreparedLocalizer, classes: np.ndarray, view: str) -> np.ndarray:
    """Locate classes in all test images, without a stop."""
    net.config.work_dir.mkdir(parents=True, exist_ok=True)
    found = locate_all(net, classes, view, DetectionHooks())
    assert found is not None
    return found


def boxed(of: RunConfig) -> LocalizationDataset:
    return load_localization(of.data, of.paths.data, of.paths.work / "cache", workers=0)
