"""Exact numbers: parameters and multiply-adds of a net, errors counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from repro.config.parse import build
from repro.config.run import DataConfig, ModelConfig, later_defaults
from repro.errors import InputError
from repro.papers.claims import Claims, Comparison, Group


def count(claims: Claims, c: Comparison, of_runs: Sequence[float]) -> tuple[bool, tuple[float, ...], str]:
    """Return whether the numbers are as ``c`` says, the different ones among them, and how they were counted.

    Args:
        of_runs: The numbers that runs counted; those of a net need none.
    """
    of_net = c.metric in ("params", "macs")
    numbers = [float(counted(claims, claims.groups[name], c.metric)) for name in c.groups] if of_net else list(of_runs)
    fits = len(set(numbers)) == 1 if len(c.groups) == 2 else all(_within(c, number) for number in numbers)
    return fits, tuple(dict.fromkeys(numbers)), "counted on the model" if of_net else "counted in every run"


def _within(c: Comparison, number: float) -> bool:
    return (
        (c.above is None or number > c.above)
        and (c.below is None or number < c.below)
        and (c.equals is None or number == c.equals)
    )


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
