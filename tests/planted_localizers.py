"""Records of localizers as finished runs write them, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.papers import load_recipe
from repro.results.localization_record import LocalizationRecord, LocalizationResult, ViewError
from repro.results.scales import own_recipe
from tests.planted import PROVENANCE, flat_config

RESNET = {"model.depth": 101, "model.shortcut": "B"}


def plant_localizer(
    root: Path,
    errors: Mapping[str, tuple[int, int | None]],
    seed: int = 0,
    *,
    run: Mapping[str, Any] = RESNET,
    scale: str = "paper",
    data: str = "imagenet_boxes",
    images: int = 50_000,
) -> Path:
    """Write the record of a localizer under ``root`` and return its folder.

    Args:
        errors: By view, the errors with the class given and among five predicted ones.
        run: Flat science fields on top of the recipe.
    """
    fields = load_recipe("localization_recipe").fields
    flat = fields if scale == "paper" else own_recipe(fields, scale, data)
    start = {"localization.start": "weights.pth" if scale == "paper" else "random"}
    config = flat_config({**flat, **start, **run}, seed, scale, "imagenet_localization")
    views = [
        ViewError(
            view=view,
            errors=wrong,
            error=100 * wrong / images,
            top5_errors=top5,
            top5_error=None if top5 is None else 100 * top5 / images,
        )
        for view, (wrong, top5) in errors.items()
    ]
    record = LocalizationRecord(
        run_id=config.run_id,
        key=config.key,
        label=config.label,
        exp=config.exp,
        scale=scale,
        seed=seed,
        fingerprint=config.fingerprint,
        numerics_version=config.science.numerics_version,
        science=config.science,
        localization=LocalizationResult(split="val", images=images, left_out=0, views=tuple(views)),
        steps=config.optim.steps,
        params=47_000_000,
        macs=10_000_000_000,
        wall_seconds=100.0,
        images_per_second=10.0,
        execution={"device": "cuda", "threads": 2},
        provenance=PROVENANCE,
        folder=root / config.run_id,
    )
    record.folder.mkdir(parents=True, exist_ok=True)
    (record.folder / "record.json").write_text(json.dumps(record.to_json()), encoding="utf-8")
    return record.folder
