"""The paper's claims: what each says and the comparisons that decide it, or why no run of ours can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from repro.config.parse import build, require
from repro.errors import InputError, nearest
from repro.papers.recipes import load_recipe
from repro.papers.tables import Published
from repro.papers.toml_files import Run, fill, flat_fields, read_toml

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
    "onset_90",
    "onset_80",
    "start_difference",
    "start_train_difference",
    "params",
    "macs",
]
"""One number of a run, as ``repro.report.claims.metrics`` reads it; params and macs come from the model."""

Test = Literal[
    "order",
    "interaction",
    "throughout",
    "trend",
    "equal",
    "no_worse",
    "bound",
    "layerwise",
    "count",
    "value",
]

NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "order": (("effect", "smallest", "by"),),
    "interaction": (("effect", "smallest", "by"),),
    "throughout": (("effect", "smallest", "by"),),
    "trend": (("direction",), ("effect", "smallest")),
    "equal": (("margin",),),
    "no_worse": (("margin",),),
    "bound": (),
    "layerwise": (("above",),),
    "count": (),
    "value": (("published",), ("margin",)),
}
"""What a test must be given besides its groups: one of each of these sets of keys."""

SIZES = ("effect", "smallest", "by", "step", "margin")
"""Differences in the unit of the metric, above 0 where the claim is right."""

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

    ``test`` reads the groups in their order:

    - ``order``: the first has the lower values; with one group, lower than a published mean ± std.
    - ``interaction``: from the first to the second group values rise less, or fall more, than from the third to the
      fourth.
    - ``throughout``: the first group's curve lies below the second's at every evaluation.
    - ``trend``: values rise or fall over the groups, and none goes back by more than a margin from the one before.
    - ``equal``: two groups differ by less than ``margin``.
    - ``no_worse``: the first lies above the second, or above a fixed ``limit``, by less than ``margin``.
    - ``bound``: the mean lies ``above`` or ``below`` a number.
    - ``layerwise``: more than ``above`` percent of the layers have the lower values in the first group.
    - ``count``: an exact number fits its limits, or is the same in two groups.
    - ``value``: a published value could be one more of our runs; it stands beside a verdict and never decides it.

    Direction decides and size is shown: ``effect`` is the published difference. One that is shown to be below
    ``smallest`` (by default ``effect`` divided by ``Claims.effect_divisor``) refutes the claim, since it is not what
    the paper saw. Only ``by`` is a size that must be exceeded. ``step`` is the smallest published difference between
    neighbours of a trend, for which its power is computed.

    ``margin`` of a ``value``: half the width up to which the interval says something. ``window`` is the part of the
    steps that a curve is averaged over. ``limit_images``: a bound's limit was counted over so many images of another
    set than ours, so that both sets' binomial errors count.
    A comparison with ``decides = false`` is shown and has no part in the verdict.
    """

    name: str
    test: Test
    metric: Metric
    groups: tuple[str, ...]
    published: Published | None = None
    effect: float | None = None
    smallest: float | None = None
    by: float | None = None
    step: float | None = None
    margin: float | None = None
    limit: float | None = None
    limit_images: int | None = None
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

    ``argued`` marks what the paper argues from and does not print among its results.
    """

    id: str
    where: str
    text: str
    comparisons: tuple[Comparison, ...] = ()
    undecidable: str = ""
    argued: bool = False


@dataclass(frozen=True)
class Claims:
    """All claims. ``alpha`` is the level of every test; ``proxy_seeds`` replaces the seeds needed below paper scale.

    ``effect_divisor`` makes the smallest effect of interest from a published one. ``spread`` is the standard deviation
    of an error over seeds, in points, from which the power is computed before there is a run. ``words`` are,
    for each recipe, the words of ``repro run`` that its groups' fields are set on top of, and ``proxy_words`` those
    below paper scale; ``recipes`` are the fields of these recipes.
    """

    alpha: float
    power: float
    effect_divisor: float
    spread: float
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

    def smallest(self, c: Comparison) -> float:
        """The size that an effect must have to be the paper's; 0 where only the contrary refutes the claim."""
        given = c.by if c.by is not None else c.smallest
        return given if given is not None else (c.effect or 0.0) / self.effect_divisor

    def step_back(self, c: Comparison) -> float:
        """Return how much worse than the one before it a group of a trend may be; usually twice the spread."""
        return c.margin if c.margin is not None else 2 * self.spread


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
    where = f"comparison {c.name!r}"
    for choice in NEEDS[c.test]:
        given = [name for name in choice if getattr(c, name) is not None]
        require(bool(given), f"{where}: {c.test} needs {' or '.join(choice)}")
    _check_sizes(c, where)
    limits = [name for name in LIMITS if getattr(c, name) is not None]
    fits = {
        "order": len(c.groups) == (2 if c.published is None else 1),
        "interaction": len(c.groups) == 4,
        "trend": len(c.groups) >= 3,
        "no_worse": len(c.groups) == (2 if c.limit is None else 1),
        "count": len(c.groups) == (1 if limits else 2),
    }
    fits.update(dict.fromkeys(("throughout", "equal", "layerwise"), len(c.groups) == 2))
    fits.update(dict.fromkeys(("bound", "value"), len(c.groups) == 1))
    require(fits[c.test], f"{where}: {len(c.groups)} groups do not fit {c.test}")
    one = limits in (["above"], ["below"])
    require(one or c.test != "bound", f"{where}: bound needs either above or below")
    exact = c.metric in ("params", "macs", "start_difference")
    require(exact or c.test != "count", f"{where}: {c.metric} is not an exact number that can be counted")
    require(c.test != "layerwise" or c.metric == "response_std", f"{where}: only response_std is one of layers")
    window = len(c.window) == 2 and 0 <= c.window[0] < c.window[1] <= 1
    require(window, f"{where}: window={list(c.window)} must be two parts of the steps, as in [0, 0.25]")
    require(c.metric in WINDOWED or c.window == (0, 1), f"{where}: a window is for {' and '.join(WINDOWED)}")


def _check_sizes(c: Comparison, where: str) -> None:
    for name in SIZES:
        size = getattr(c, name)
        # A published effect may stand on the other side of a limit that the claim allows to be missed by a margin.
        allowed = size is None or size >= 0 or (name == "effect" and c.test == "no_worse")
        require(allowed, f"{where}: {name}={size} must be at least 0: it is counted in the direction of the claim")
    require(c.by is None or c.smallest is None, f"{where}: give either by or smallest")
    require(c.limit_images is None or c.test == "bound", f"{where}: limit_images is for a bound")
    require(c.limit is None or c.test == "no_worse", f"{where}: a limit is for no_worse; a bound has above or below")
    if c.test == "value":
        require(not c.decides, f"{where}: a published value is shown beside a verdict: set decides = false")
    elif c.published is not None:
        spread = None not in (c.published.mean, c.published.std, c.published.runs)
        require(c.test == "order", f"{where}: a published value is for order and value")
        require(spread, f"{where}: a cited value without mean, std and runs is a fixed limit: use bound")


def _check(claims: Claims) -> None:
    require(0 < claims.alpha < 1 and 0 < claims.power < 1, "alpha and power must lie between 0 and 1")
    require(claims.effect_divisor >= 1, "effect_divisor must be at least 1")
    require(claims.spread > 0, "spread must be above 0")
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
