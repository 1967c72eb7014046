"""The recipe of a scale, read without Hydra: the same as Hydra composes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from repro.config.arguments import choices
from repro.config.compose import plan
from repro.config.model import NET_FIELDS
from repro.config.run import later_defaults
from repro.papers import load_recipe
from repro.results.scales import fitted_experiments, own_recipe

IMAGENET = ("model=imagenet_resnet", "optim=imagenet_sgd", "eval=imagenet")
FITTED = [(scale, exp) for scale in choices("scale") for exp in fitted_experiments(scale)]
RECIPES = {"wide": "wide_resnet/cifar_recipe", "stochastic": "stochastic_depth/cifar10_recipe"}
RECIPES |= {"densenet": "densenet/cifar_recipe", "highway": "highway/cifar_recipe"}
RECIPES |= {"identity_mappings_activation": "identity_mappings/cifar10_recipe"}
RECIPES |= {"identity_mappings_depth": "identity_mappings/cifar10_recipe"}


def recipe_of(exp: str) -> str:
    if exp.endswith("_imagenet"):
        return f"{exp.removesuffix('_imagenet')}/imagenet_recipe"
    return RECIPES.get(exp, RECIPES.get(exp.partition("_")[0], "cifar10_recipe"))


def images_of(exp: str) -> tuple[str, str]:
    return ("imagenet", "shapes_photos") if exp.endswith("_imagenet") else ("cifar10", "synthetic")


CASES = [
    *(("cifar10_recipe", scale, data, "") for scale in choices("scale") for data in ("cifar10", "synthetic")),
    *(("imagenet_recipe", scale, data, "") for scale in choices("scale") for data in ("imagenet", "tiny_imagenet")),
    *((recipe_of(exp), scale, data, exp) for scale, exp in FITTED for data in images_of(exp)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "scale", "data", "exp"), CASES)
def test_the_own_recipe_of_a_scale_is_what_hydra_composes(recipe: str, scale: str, data: str, exp: str) -> None:
    own = own_recipe(load_recipe(recipe).fields, scale, data, exp)
    words = [f"scale={scale}", f"data={data}", *(IMAGENET if recipe == "imagenet_recipe" else ())]
    run = plan([*words, *([f"exp={exp}"] if exp else [])]).runs[0]
    composed = run.science.flat()
    rows = {"model.depth", "model.shortcut", *({"optim.warmup"} if exp else ())}  # set by a row or by the sweep
    rows |= {"model.name", *(f"model.{name}" for name in NET_FIELDS)}
    assert {key: value for key, value in own.items() if key not in rows} == {
        key: value for key, value in composed.items() if key not in rows
    }


def test_there_are_experiments_with_a_budget_of_their_own() -> None:
    assert ("demo", "cifar_warmup") in FITTED


def test_a_scale_that_has_no_file_sets_nothing() -> None:
    recipe = load_recipe("cifar10_recipe").fields
    assert own_recipe(recipe, "mine", "cifar10") == {**later_defaults(), **recipe}


def test_reading_a_scale_needs_neither_hydra_nor_torch() -> None:
    code = "import sys, repro.results.select; print(sorted({'hydra', 'omegaconf', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
