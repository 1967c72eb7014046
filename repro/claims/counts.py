"""Parameters and multiply-adds of the nets that a claim names, counted on the model: no run is needed."""

from __future__ import annotations

import dataclasses

from repro.config import DataConfig, ModelConfig, later_defaults
from repro.errors import InputError
from repro.paper.claims import Claims, Group
from repro.strict import build


def counted(claims: Claims, group: Group, metric: str) -> int:
    """``params`` or ``macs`` of the group's net.

    Raises:
        InputError: Recipe and run do not describe a net.
    """
    # Only here, since torch takes seconds to import and nothing else of the claims needs it.
    from repro.models.count import measure

    fields = {**later_defaults(), **claims.recipes[group.recipe], **group.run}
    model: ModelConfig = build(ModelConfig, _part(ModelConfig, fields, "model"), f"groups.{group.name}: model")
    data: DataConfig = build(DataConfig, _part(DataConfig, fields, "data"), f"groups.{group.name}: data")
    model.validate()
    size = measure(model, data.image_size, data.num_classes)
    value: int = getattr(size, metric)
    return value


def _part(kind: type, fields: dict[str, object], name: str) -> dict[str, object]:
    wanted = [field.name for field in dataclasses.fields(kind)]
    missing = [field for field in wanted if f"{name}.{field}" not in fields]
    if missing:
        raise InputError(f"the recipe does not set {name}.{missing[0]}")
    return {field: fields[f"{name}.{field}"] for field in wanted}
