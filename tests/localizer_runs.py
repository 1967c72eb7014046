"""Small runs of localizers on drawn shapes."""

from __future__ import annotations

from pathlib import Path

from repro.config.run import RunConfig
from repro.data.localization import LocalizationDataset
from repro.data.localization.dataset import load_localization
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


def boxed(of: RunConfig) -> LocalizationDataset:
    return load_localization(of.data, of.paths.data, of.paths.work / "cache", workers=0)
