"""The paper's recipes of training and testing."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from repro.config.parse import build, require
from repro.config.paths import shared_dir
from repro.papers.toml_files import FIRST, Run, later_papers, reading, require_flat


@dataclass(frozen=True)
class Recipe:
    """All science fields that a row does not set: ``stated`` by the paper, or ``chosen`` here where it is silent."""

    name: str
    title: str
    stated: Run
    chosen: Run
    unset: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """All fields as ``{"optim.lr": 0.1, …}``, with None for those in ``unset``."""
        return {**self.stated, **self.chosen, **dict.fromkeys(self.unset)}


@functools.cache
def all_recipes() -> tuple[Recipe, ...]:
    """Load the recipes of all papers, those of the first one first."""
    folder, papers = shared_dir("experiments"), (FIRST, *later_papers())
    files = [(paper, file.stem) for paper in papers for file in sorted((folder / paper).glob("*_recipe.toml"))]
    return tuple(load_recipe(name if paper == FIRST else f"{paper}/{name}") for paper, name in files)


def load_recipe(name: str) -> Recipe:
    """Read the recipe ``experiments/resnet/<name>.toml``, or that of another folder by its path.

    Raises:
        InputError: There is no such recipe, or its file is invalid.
    """
    with reading(name) as values:
        recipe: Recipe = build(Recipe, values, name=name)
        require_flat(recipe.stated, "stated")
        require_flat(recipe.chosen, "chosen")
        named = [*recipe.stated, *recipe.chosen, *recipe.unset]
        twice = sorted({key for key in named if named.count(key) > 1})
        require(not twice, f"{', '.join(twice)} is named more than once")
    return recipe
