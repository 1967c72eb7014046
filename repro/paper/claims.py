"""The paper's claims: what each says and the comparisons that decide it, or why no run of ours can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from repro.errors import InputError, nearest
from repro.paper.reading import Run, fill, flat_fields, read_toml
from repro.paper.recipes import load_recipe
from repro.paper.tables import Published
from repro.strict import build, require

Metric = Literal[
    "top1_error",
    "train_running_error",
    "10crop_top1_error",
    "10crop_top5_error",
    "multiscale_top1_error",
    "multiscale_top5_error",
    "curve_train_error",
    "curve_eval_error",
    "response_std",
    "lowest_forward_std",
    "log10_gradient_ratio",
    "start_difference",
    "params",
    "macs",
]
"""One number of a run, as ``repro.claims.quantities`` reads it from a record; params and macs come from the model."""

Test = Literal["order", "equal", "value", "gap", "bound", "trend", "throughout", "count"]

NEEDS: dict[str, tuple[str, ...]] = {
    "order": (),
    "equal": ("margin",),
    "value": ("published", "margin"),
    "gap": ("published", "margin"),
    "bound": (),
    "trend": ("direction",),
    "throughout": (),
    "count": (),
}
"""What a test must be given besides its groups."""

LIMITS = ("above", "below", "equals")
WINDOWED = ("curve_train_error", "curve_eval_error")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only: the recipe with ``run`` on top, and how many ``seeds`` are needed."""

    name: str
    label: str
    recipe: str
    seeds: int
    run: Run
    proxy_experiment: str = ""
    """The experiment whose own budget its proxies have (conf/fitted_exp)."""


@dataclass(frozen=True)
class Comparison:
    """One statistical question of a claim.

    ``test`` reads the groups in their order: ``order`` says that the first has the lower values (where there is one
    group only, lower than the published value), ``equal`` that two differ by less than ``margin`` (one: from the
    published value), ``value`` that a published value could be one more of our runs, ``gap`` the same of the second
    group's lead over the first, ``bound`` that the mean lies ``above`` or ``below`` a number, ``trend`` that values
    rise or fall over the groups, ``throughout`` that the first group's curve lies below the second's at every
    evaluation, ``count`` that an exact number fits its limits or is the same in two groups.

    ``margin`` of a ``value`` or ``gap``: half the width up to which the interval says something. ``window`` is the part
    of the steps that a curve is averaged over.
    A comparison with ``decides = false`` is shown and has no part in the verdict.
    """

    name: str
    test: Test
    metric: Metric
    groups: tuple[str, ...]
    published: Published | None = None
    margin: float | None = None
    above: float | None = None
    below: float | None = None
    equals: float | None = None
    direction: Literal["rising", "falling"] | None = None
    window: tuple[float, ...] = (0.0, 1.0)
    paired: bool = False
    decides: bool = True


@dataclass(frozen=True)
class Claim:
    """A claim in our words and where it stands; either ``undecidable`` says why, or ``comparisons`` decide it.

    Claims of one ``family`` are corrected together for the number of their tests (Holm); a claim is its own by default.
    ``argued`` marks what the paper argues from and does not print among its results.
    """

    id: str
    where: str
    text: str
    comparisons: tuple[Comparison, ...] = ()
    undecidable: str = ""
    family: str = ""
    argued: bool = False


@dataclass(frozen=True)
class Claims:
    """All claims. ``alpha`` is the level of every test; ``proxy_seeds`` replaces the seeds needed below paper scale.

    ``words`` are, for each recipe, the words of ``repro run`` that its groups' fields are set on top of, and
    ``proxy_words`` those below paper scale; ``recipes`` are the fields
    of these recipes.
    """

    alpha: float
    power: float
    proxy_seeds: int
    words: Mapping[str, str]
    proxy_words: Mapping[str, str]
    recipes: Mapping[str, Run]
    groups: Mapping[str, Group]
    claims: tuple[Claim, ...]

    def claim(self, id: str) -> Claim:
        """
        Raises:
            InputError: There is no such claim.
        """
        for claim in self.claims:
            if claim.id == id:
                return claim
        raise InputError(f"unknown claim {id!r}: {nearest(id, [claim.id for claim in self.claims])}")

    def family(self, claim: Claim) -> list[Claim]:
        """The claims that are corrected together with ``claim``, itself among them."""
        if not claim.family:
            return [claim]
        return [other for other in self.claims if other.family == claim.family]


def load_claims() -> Claims:
    """``experiments/claims.toml``.

    Raises:
        InputError: It does not fit.
    """
    values = read_toml("claims")
    try:
        groups = {name: _group(name, group) for name, group in values.pop("groups", {}).items()}
        claims = tuple(_claim(claim) for claim in values.pop("claims", []))
        words = {name: _words(values.pop(name, {}), name) for name in ("words", "proxy_words")}
        recipes = {name: load_recipe(name).fields for name in words["words"]}
        loaded: Claims = fill(Claims, values, groups=groups, claims=claims, recipes=recipes, **words)
        _check(loaded)
    except InputError as error:
        raise InputError(f"experiments/claims.toml: {error}") from None
    return loaded


def _words(values: dict[str, Any], name: str) -> dict[str, str]:
    for recipe, text in values.items():
        require(isinstance(text, str), f'{name}.{recipe}={text!r} must be words, as in {recipe} = "data=imagenet"')
    return values


def _group(name: str, values: dict[str, Any]) -> Group:
    run = flat_fields(values.pop("run", {}), f"groups.{name}: run")
    group: Group = fill(Group, values, name=name, run=run)
    require(group.seeds >= 2, f"groups.{name}: seeds={group.seeds} must be at least 2, since one run has no spread")
    return group


def _claim(values: dict[str, Any]) -> Claim:
    where = str(values.get("id"))
    try:
        comparisons = tuple(_comparison(comparison) for comparison in values.pop("comparisons", []))
        claim: Claim = fill(Claim, values, comparisons=comparisons)
        decisive = any(comparison.decides for comparison in comparisons)
        require(decisive != bool(claim.undecidable), "a claim has comparisons that decide it, or is undecidable")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return claim


def _comparison(values: dict[str, Any]) -> Comparison:
    published = values.pop("published", None)
    if published is not None:
        published = build(Published, published, "published")
    comparison: Comparison = fill(Comparison, values, published=published)
    _check_comparison(comparison)
    return comparison


def _check_comparison(c: Comparison) -> None:
    where, number = f"comparison {c.name!r}", len(c.groups)
    for name in NEEDS[c.test]:
        require(getattr(c, name) is not None, f"{where}: {c.test} needs {name}")
    limits = [name for name in LIMITS if getattr(c, name) is not None]
    if c.test in ("order", "equal"):
        fits = number == (2 if c.published is None else 1)
    elif c.test == "trend":
        fits = number >= 3
    elif c.test == "count":
        fits = number == (1 if limits else 2)
    else:
        fits = number == (1 if c.test in ("value", "bound") else 2)
    require(fits, f"{where}: {number} groups do not fit {c.test}")
    one = limits in (["above"], ["below"])
    require(one or c.test != "bound", f"{where}: bound needs either above or below")
    exact = c.metric in ("params", "macs", "start_difference")
    require(exact or c.test != "count", f"{where}: {c.metric} is not an exact number that can be counted")
    window = len(c.window) == 2 and 0 <= c.window[0] < c.window[1] <= 1
    require(window, f"{where}: window={list(c.window)} must be two parts of the steps, as in [0, 0.25]")
    require(c.metric in WINDOWED or c.window == (0, 1), f"{where}: a window is for {' and '.join(WINDOWED)}")


def _check(claims: Claims) -> None:
    require(0 < claims.alpha < 1 and 0 < claims.power < 1, "alpha and power must lie between 0 and 1")
    require(claims.proxy_seeds >= 2, "proxy_seeds must be at least 2")
    ids = [claim.id for claim in claims.claims]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    require(not twice, f"{', '.join(twice)} is there twice")
    used = {name for claim in claims.claims for comparison in claim.comparisons for name in comparison.groups}
    for name in sorted(used - set(claims.groups)):
        raise InputError(f"unknown group {name!r}: {nearest(name, claims.groups)}")
    for name, group in claims.groups.items():
        require(name in used, f"no claim compares the group {name!r}")
        for words in ("words", "proxy_words"):
            known = getattr(claims, words)
            require(group.recipe in known, f"{words}.{group.recipe} is missing, which groups.{name} needs")
    for claim in claims.claims:
        for c in claim.comparisons:
            recipes = {claims.groups[name].recipe for name in c.groups}
            require(len(recipes) == 1, f"{claim.id}: {c.name}: groups of different recipes cannot be compared")
