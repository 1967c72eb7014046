"""Comparison of a run's settings with the paper's recipe."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from repro.config.arguments import choices
from repro.config.families import FAMILIES
from repro.config.science import Science, later_defaults
from repro.papers import load_recipe, load_table, table_numbers
from repro.results.scales import DEFAULTS, compared, kind_of, label

NET = ("model.name", "model.depth", "model.shortcut")
"""Settings that name the net; they do not count as departures from a recipe."""


def from_paper(science: Science) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from the paper's recipe: the run's value and the recipe's.

    The recipe of a detector or localizer is that of the row of a table that is nearest to it.
    """
    if not science.is_classification:
        found, rows = compared(science), _rows(science.model.name, science.kind)
        return min((_differences(found, {**DEFAULTS, **fields, **run}) for fields, run in rows), key=len)
    return _differences(science.flat(), {**later_defaults(), **_fields(science.model.name)})


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (found[key], wanted.get(key)) for key in found if key not in NET and found[key] != wanted.get(key)}


def differing(science: Science, scale: str, exp: str) -> str:
    """Return the settings that differ from a scale's own recipe, as on the command line; empty if none does.

    It is empty for localizers.
    """
    if science.localization is not None:
        return ""
    net = {key: value for key, value in science.flat().items() if key in NET}
    rows = (
        [(_fields(science.model.name), net)] if science.is_classification else _rows(science.model.name, science.kind)
    )
    labels = [label(science, scale, fields, {**run, **net}, [exp]).partition(", ")[2] for fields, run in rows]
    return min(labels, key=lambda text: (bool(text), text.count(", ")))


@functools.cache
def _rows(model: str, kind: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the recipes of a task, each with the settings of every row of a table for bodies of the kind ``model``.

    Bodies and improvements have settings of their own, which only the rows know.
    """
    found: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for table in map(load_table, table_numbers()):
        fields = load_recipe(table.recipe).fields if table.recipe else {}
        if fields and kind_of(fields) == kind:
            runs = [row.run for row in table.rows if row.run is not None]
            name = fields["model.name"]
            found += [(fields, run) for run in runs if run.get("model.name", name) == model]
    return found


def scale_of_run(run_id: str) -> str:
    """Return the scale in a run's name, or ``paper`` if it has none."""
    key = run_id.rsplit("-", 2)[0]
    return next((scale for scale in choices("scale") if key.endswith(f"-{scale}")), "paper")


@functools.cache
def _fields(model: str) -> dict[str, Any]:
    return load_recipe(FAMILIES[model].recipe).fields
