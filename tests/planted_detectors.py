"""Records of detectors as finished runs write them, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.data.detection.voc import CLASSES
from repro.papers import load_recipe
from repro.results.detection_record import ClassPrecision, DetectionRecord, DetectionResult
from repro.results.scales import own_recipe
from tests.planted import PROVENANCE, flat_config

RESNET = {"model.depth": 101, "model.shortcut": "B"}
VGG = {
    "model.name": "vgg",
    "model.depth": 16,
    "model.shortcut": "none",
    "detection.pooled_size": 7,
    "detection.fixed": "conv2",
}
SMALL = {"model.depth": 18, "model.shortcut": "B"}
"""The net of reduced budgets."""


def plant_detector(
    root: Path,
    value: float,
    seed: int = 0,
    *,
    run: Mapping[str, Any] = RESNET,
    recipe: str = "voc_recipe",
    scale: str = "paper",
    data: str = "",
    images: int | None = None,
    over_overlaps: float | None = None,
    **provenance: Any,
) -> Path:
    """Write the record of a detector under ``root`` and return its folder.

    Args:
        value: mAP in percent; of COCO at an overlap of 0.5.
        over_overlaps: Of COCO the mean over the overlaps 0.5 to 0.95, by default half of ``value``.
        run: Flat science fields on top of the recipe.
    """
    fields = load_recipe(recipe).fields
    data = data or fields["data.name"]
    start = {"detection.start": "weights.pth" if scale == "paper" else "random"}
    flat = fields if scale == "paper" else own_recipe(fields, scale, data)
    config = flat_config({**flat, **start, **run}, seed, scale, f"{fields['data.name']}_detection")
    metric = config.detection.metric if config.detection is not None else ""
    names = {"voc": CLASSES, "shapes": ("disc", "frame", "cross"), "imagenet_det": ("n02084071",)}
    classes = tuple(ClassPrecision(name=name, ap=value) for name in names.get(data, ())) if metric != "coco" else ()
    mean = value / 2 if over_overlaps is None else over_overlaps
    coco = {"AP": mean, "AP50": value} if metric == "coco" else None
    record = DetectionRecord(
        run_id=config.run_id,
        key=config.key,
        label=config.label,
        exp=config.exp,
        scale=scale,
        seed=seed,
        fingerprint=config.fingerprint,
        numerics_version=config.science.numerics_version,
        science=config.science,
        detection=DetectionResult(
            split="test",
            images=images or {"voc": 4952, "coco": 40504, "imagenet_det": 10234}.get(data, 4),
            metric=metric,
            map=mean if metric == "coco" else value,
            classes=classes,
            coco=coco,
            detections=1000,
        ),
        steps=config.optim.steps,
        params=47_000_000,
        macs=100_000_000_000,
        wall_seconds=100.0,
        images_per_second=10.0,
        execution={"device": "cuda", "threads": 2},
        provenance=PROVENANCE if not provenance else PROVENANCE.__class__(**{**vars(PROVENANCE), **provenance}),
        folder=root / config.run_id,
    )
    record.folder.mkdir(parents=True, exist_ok=True)
    (record.folder / "record.json").write_text(json.dumps(record.to_json()), encoding="utf-8")
    losses = f"update,step,lr,rpn_scores\n1,1,0.001,0.7\n{record.steps},4,0.0001,0.1\n"
    (record.folder / record.curve_file).write_text(losses, encoding="utf-8")
    return record.folder
