"""Small runs of detectors on drawn shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repro.config.run import RunConfig
from repro.data.detection.dataset import DetectionDataset, load_detection
from repro.runtime import checkpoint
from tests.runs import config

SMALL = (
    *("exp=voc_detection", "data=shapes", "model.width=0.125", "data.image_size=64", "detection.pooled_size=4"),
    *("execution.log_steps=1", "detection.rpn_width=16", "detection.test_proposals=10"),
)


def detector_config(folder: Path, *words: str) -> RunConfig:
    """Compose a run of a narrow detector at smoke scale."""
    given = {word.partition("=")[0] for word in words}
    return config(folder, *words, *(word for word in SMALL if word.partition("=")[0] not in given))


def shapes_of(config: RunConfig) -> DetectionDataset:
    return load_detection(config.data, config.paths.data)


def final_payload(of: RunConfig) -> dict[str, Any]:
    """Return the last checkpoint of a run, without times and places."""
    stored: dict[str, Any] = checkpoint.load(of.work_dir / checkpoint.FINAL)
    for name in ("parts", "train_seconds"):
        del stored["state"][name]
    return stored
