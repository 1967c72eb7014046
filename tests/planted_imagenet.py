"""Records of ImageNet nets and their ensembles, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro.papers import load_recipe
from repro.results.ensembles import Ensemble, Member, ensemble_id
from repro.results.read import read_record
from tests.planted import edit, plant, scale_science

TINY = scale_science("demo", "tiny_imagenet", recipe_name="imagenet_recipe")
"""Science fields of a proxy on Tiny ImageNet."""


def plant_imagenet(
    root: Path,
    depth: int = 34,
    shortcut: str = "A",
    seed: int = 0,
    error: float = 30.0,
    *,
    views: dict[str, tuple[float, float]] | None = None,
    images: int = 50000,
    scale: str = "paper",
    science: dict[str, Any] | None = None,
) -> Path:
    """Write the record of a run of the paper's ImageNet recipe with the flat ``science`` fields on top.

    Args:
        error: Final top-1 error of one centre crop in percent; the top-5 error is a third of it.
        views: Top-1 and top-5 error in percent of each tested view.
    """
    fields = {**load_recipe("imagenet_recipe").fields, **(science or {})}
    folder = plant(root, depth, shortcut, seed, error, scale=scale, exp="imagenet_depth", science=fields)
    steps = fields["optim.steps"]
    final = {"split": "val", "loss": 1.2, "step": steps, **counts(error, error / 3, images)}
    edit(folder, "result", "final", value=final)
    edit(folder, "result", "best", value=final)
    tested = [{"view": view, "split": "val", **counts(*values, images)} for view, values in (views or {}).items()]
    edit(folder, "result", "views", value=tested)
    return folder


def counts(top1: float, top5: float, images: int) -> dict[str, float]:
    """Convert two percentages to counts among ``images``, and back to the percentages of these counts."""
    errors, top5_errors = round(top1 * images / 100), round(top5 * images / 100)
    return {
        "errors": errors,
        "images": images,
        "top1_error": 100 * errors / images,
        "top5_errors": top5_errors,
        "top5_error": 100 * top5_errors / images,
    }


def plant_ensemble(
    root: Path,
    runs: Sequence[Path],
    top5: float,
    *,
    images: int = 50000,
    data: str = "imagenet",
    view: str = "multiscale",
) -> Ensemble:
    """Write an ensemble of the planted ``runs``, tested on ``images`` of the validation set of ``data``."""
    records = [read_record(folder / "record.json") for folder in runs]
    errors = counts(3 * top5, top5, images)
    members = tuple(
        Member(r.run_id, r.fingerprint, r.label, view, "0" * 64, int(errors["errors"]), int(errors["top5_errors"]))
        for r in records
    )
    values: dict[str, Any] = {
        "ensemble_id": ensemble_id(members),
        "members": [vars(member) for member in members],
        "data": data,
        "split": "val",
        "images_digest": "0" * 64,
        "classes": 1000,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "finished": "2026-01-01T00:00:00+00:00",
        **errors,
    }
    folder = root / "ensembles" / values["ensemble_id"]
    folder.mkdir(parents=True)
    (folder / "ensemble.json").write_text(json.dumps({"schema": 1, **values}), encoding="utf-8")
    return Ensemble(**{**values, "members": members})
