"""Records of localizers as finished runs write them, without training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.papers import load_recipe
from repro.results.localization_record import LocalizationRecord, LocalizationResult, ViewError
from repro.results.scales import own_recipe
from tests.planted import PROVENANCE, flat_config

RESNET = {"model.depth": 101, "model.shortcut": "B"}


def classifier(depth: int, seed: int = 0) -> str:
    """Return the id of the paper's classification run of a depth on ImageNet."""
    flat = {**load_recipe("imagenet_recipe").fields, "model.depth": depth, "model.shortcut": "B"}
    return flat_config(flat, seed, "paper", "imagenet_depth").run_id


def plant_localizer(
    root: Path,
    errors: Mapping[str, tuple[int, int | None]],
    seed: int = 0,
    *,
    run: Mapping[str, Any] = RESNET,
    scale: str = "paper",
    data: str = "imagenet_boxes",
    images: int = 50_000,
    classes: Sequence[str] = (),
    dirty: bool = False,
) -> Path:
    """Write the record of a localizer under ``root`` and return its folder.

    An R-CNN's record names the localizer that proposed.

    Args:
        errors: By view, the errors with the class given and among five predicted ones.
        run: Flat science fields on top of the recipe.
        classes: Runs that predict the classes; by itself ResNet-101, where there are errors among predicted ones.
    """
    fields = load_recipe("localization_recipe").fields
    flat = fields if scale == "paper" else own_recipe(fields, scale, data)
    start = {"localization.start": "weights.pth" if scale == "paper" else "random"}
    tested = any(top5 is not None for _, top5 in errors.values())
    predicting = {"localization.classes_of": list(classes) or [classifier(101)]} if tested else {}
    config = flat_config({**flat, **start, **predicting, **run}, seed, scale, "imagenet_localization")
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
    proposer = config.proposals_of
    digests = {} if proposer is None else {f"proposals of {proposer}": proposer.rpartition("-")[2]}
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
        provenance=dataclasses.replace(PROVENANCE, data_digests=digests, dirty=dirty),
        folder=root / config.run_id,
    )
    record.folder.mkdir(parents=True, exist_ok=True)
    (record.folder / "record.json").write_text(json.dumps(record.to_json()), encoding="utf-8")
    return record.folder
