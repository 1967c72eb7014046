"""Comparison of a run's settings with the paper's recipe."""

from __future__ import annotations

import functools
from typing import Any

from repro.config.families import FAMILIES
from repro.config.paths import shared_dir
from repro.config.science import Science, later_defaults
from repro.papers import load_recipe
from repro.results.scales import label

NET = ("model.name", "model.depth", "model.shortcut")
"""Settings that name the net; they do not count as departures from a recipe."""


def from_paper(science: Science) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from the paper's recipe: the run's value and the recipe's."""
    wanted, found = {**later_defaults(), **_fields(science.model.name)}, science.flat()
    return {key: (found[key], wanted.get(key)) for key in found if key not in NET and found[key] != wanted.get(key)}


def differing(science: Science, scale: str, exp: str) -> str:
    """Return the settings that differ from a scale's own recipe, as on the command line; empty if none does.

    It is empty for detectors and localizers: bodies have settings of their own, which only the rows of the tables know.
    """
    if not science.is_classification:
        return ""
    net = {key: value for key, value in science.flat().items() if key in NET}
    return label(science, scale, _fields(science.model.name), net, [exp]).partition(", ")[2]


def scale_of_run(run_id: str) -> str:
    """Return the scale in a run's name, or ``paper`` if it has none."""
    key = run_id.rsplit("-", 2)[0]
    scales = [path.stem for path in (shared_dir("conf") / "scale").glob("*.yaml")]
    return next((scale for scale in scales if key.endswith(f"-{scale}")), "paper")


@functools.cache
def _fields(model: str) -> dict[str, Any]:
    return load_recipe(FAMILIES[model].recipe).fields
