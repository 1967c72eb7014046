"""The paper's claims and the comparisons that decide them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from repro.config.parse import POSITIVE, Bound, build, require
from repro.config.paths import shared_dir
from repro.errors import InputError, nearest
from repro.papers.recipes import load_recipe
from repro.papers.tables import Published
from repro.papers.toml_files import FIRST, Run, later_papers, reading, require_flat

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
    "log10_seconds",
    "deletion_rise",
    "reordering_rise",
    "mAP",
    "mAP_50",
    "mAP_50_95",
    "channel_overlap",
    "channel_correlation",
    "params",
    "macs",
]
"""Numbers of a run that ``repro.report.claims.metrics`` reads; params and macs are counted on the model."""

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
"""The keys that a test needs besides its groups: one key of each set."""

PART = Bound("must lie between 0 and 1", lambda value: 0 < value < 1)
SEVERAL = Bound("must be at least 2, since one run has no spread", lambda value: value >= 2)
SIZES = ("effect", "smallest", "by", "step", "margin")
"""Differences in the unit of the metric, positive if the claim is right."""

LIMITS = ("above", "below", "equals")
WINDOWED = ("curve_train_error", "curve_eval_error")


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed: the recipe with ``run`` on top, and the number of ``seeds`` needed."""

    name: str
    label: str
    recipe: str
    seeds: Annotated[int, SEVERAL]
    run: Run = field(default_factory=dict)
    proxy_experiment: str = ""
    """The experiment whose reduced budgets its proxies use (conf/fitted_exp)."""


@dataclass(frozen=True)
class Comparison:
    """One statistical question of a claim.

    ``test`` compares the groups in their order:

    - ``order``: the first group has the lower values; a single group has lower values than a published mean ± std.
    - ``interaction``: values rise less, or fall more, from the first group to the second than from the third to the
      fourth.
    - ``throughout``: the curve of the first group lies below that of the second at every evaluation.
    - ``trend``: values rise or fall over the groups; no step goes back by more than a margin.
    - ``equal``: two groups differ by less than ``margin``.
    - ``no_worse``: the first group lies above the second, or above a fixed ``limit``, by less than ``margin``.
    - ``bound``: the mean lies ``above`` or ``below`` a number.
    - ``layerwise``: more than ``above`` percent of the layers have lower values in the first group.
    - ``count``: an exact number is within its limits, or is the same in two groups.
    - ``value``: a published value could be one more of our runs. It is shown beside a verdict and never decides it.

    The direction decides, and the size is shown: ``effect`` is the published difference. A difference shown to be below
    ``smallest`` (by default ``effect`` divided by ``Claims.effect_divisor``) refutes the claim, because the paper saw a
    larger one. Only ``by`` is a size that must be exceeded. The power of a trend is computed for ``step``, the smallest
    published difference between neighbours.

    The interval of a ``value`` is informative up to a half-width of ``margin``. A curve is averaged over ``window``, a
    part of the steps. A bound whose limit was counted over ``limit_images`` images of another set includes the binomial
    error of both sets. A comparison with ``decides = false`` is shown and does not affect the verdict.
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
    spread: float | None = None
    """Of the metric over seeds, where it is not ``Claims.spread``."""


@dataclass(frozen=True)
class Claim:
    """A claim in our words and its place in the paper: decided by ``comparisons``, or ``undecidable`` for a reason.

    ``argued`` marks a claim that the paper argues from but does not print among its results.
    """

    id: str
    where: str
    text: str
    comparisons: tuple[Comparison, ...] = ()
    undecidable: str = ""
    argued: bool = False


@dataclass(frozen=True)
class Claims:
    """All claims. ``alpha`` is the level of every test; ``proxy_seeds`` is the number of seeds below paper scale.

    A published effect divided by ``effect_divisor`` is the smallest effect of interest. ``spread`` is the standard
    deviation of an error over seeds, in points; the power is computed from it before any run exists. ``words`` are, for
    each recipe, the words of ``repro run`` to which a group adds its fields (``proxy_words`` below paper scale), and
    ``recipes`` the fields of these recipes.
    """

    alpha: Annotated[float, PART]
    power: Annotated[float, PART]
    effect_divisor: Annotated[float, Bound("must be at least 1", lambda value: value >= 1)]
    spread: Annotated[float, POSITIVE]
    proxy_seeds: Annotated[int, SEVERAL]
    words: Mapping[str, str]
    proxy_words: Mapping[str, str]
    recipes: Mapping[str, Run]
    groups: Mapping[str, Group]
    claims: tuple[Claim, ...]
    paper: str = FIRST
    """The folder of the paper."""

    @property
    def short(self) -> str:
        """The name of a later paper; empty for the first one."""
        return "" if self.paper == FIRST else later_papers()[self.paper].short

    def claim(self, id: str) -> Claim:
        """Return a claim by its id.

        Raises:
            InputError: There is no such claim.
        """
        for claim in self.claims:
            if claim.id == id:
                return claim
        raise InputError(f"unknown claim {id!r}: {nearest(id, [claim.id for claim in self.claims])}")

    def smallest(self, c: Comparison) -> float:
        """Return the smallest effect that counts as the paper's; 0 if only the opposite effect refutes the claim."""
        given = c.by if c.by is not None else c.smallest
        return given if given is not None else (c.effect or 0.0) / self.effect_divisor

    def step_back(self, c: Comparison) -> float:
        """Return how far a group of a trend may fall behind the one before it; by default twice the spread."""
        return c.margin if c.margin is not None else 2 * self.spread_of(c)

    def spread_of(self, c: Comparison) -> float:
        """Return the standard deviation over seeds that is expected beforehand."""
        return self.spread if c.spread is None else c.spread


def papers_with_claims() -> list[str]:
    """List the folders of the papers whose claims are judged, the first paper first."""
    folder = shared_dir("experiments")
    return [FIRST, *(paper for paper in later_papers() if (folder / paper / "claims.toml").is_file())]


def load_claims(paper: str = FIRST) -> Claims:
    """Read and check ``experiments/<paper>/claims.toml``.

    Raises:
        InputError: There are no claims of this paper, or the file is invalid.
    """
    known = papers_with_claims()
    require(paper in known, f"there are no claims of the paper {paper!r}: {nearest(paper, known)}")
    with reading(f"{paper}/claims") as values:
        groups = {name: {**group, "name": name} for name, group in values.get("groups", {}).items()}
        recipes = {name: load_recipe(name).fields for name in values.get("words", {})}
        loaded: Claims = build(Claims, {**values, "groups": groups}, recipes=recipes, paper=paper)
        _check(loaded)
    return loaded


def _check_comparison(c: Comparison, where: str) -> None:
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
    require(fits[c.test], f"{where}: test {c.test} cannot compare {len(c.groups)} groups")
    one = limits in (["above"], ["below"])
    require(one or c.test != "bound", f"{where}: test bound needs either above or below")
    exact = c.metric in ("params", "macs", "start_difference")
    require(exact or c.test != "count", f"{where}: {c.metric} is not an exact number that can be counted")
    require(c.test != "layerwise" or c.metric == "response_std", f"{where}: test layerwise needs metric response_std")
    window = len(c.window) == 2 and 0 <= c.window[0] < c.window[1] <= 1
    require(window, f"{where}: window={list(c.window)} must be two fractions of the steps, as in [0, 0.25]")
    require(c.metric in WINDOWED or c.window == (0, 1), f"{where}: a window is for {' and '.join(WINDOWED)}")


def _check_sizes(c: Comparison, where: str) -> None:
    for name in SIZES:
        size = getattr(c, name)
        # The published effect of no_worse may lie on the wrong side of the limit, within the margin.
        allowed = size is None or size >= 0 or (name == "effect" and c.test == "no_worse")
        require(allowed, f"{where}: {name}={size} must be at least 0, in the direction of the claim")
    require(c.by is None or c.smallest is None, f"{where}: give either by or smallest")
    require(c.spread is None or c.spread > 0, f"{where}: spread={c.spread} must be above 0")
    require(c.limit_images is None or c.test == "bound", f"{where}: limit_images is only for test bound")
    require(c.limit is None or c.test == "no_worse", f"{where}: limit is for test no_worse; bound has above or below")
    if c.test == "value":
        require(not c.decides, f"{where}: a published value is shown beside a verdict: set decides = false")
    elif c.published is not None:
        spread = None not in (c.published.mean, c.published.std, c.published.runs)
        require(c.test == "order", f"{where}: a published value is only for the tests order and value")
        require(spread, f"{where}: a published value without mean, std and runs is a fixed limit: use test bound")


def _check(claims: Claims) -> None:
    ids = [claim.id for claim in claims.claims]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    require(not twice, f"{', '.join(twice)} is defined twice")
    used = {name for claim in claims.claims for comparison in claim.comparisons for name in comparison.groups}
    for name in sorted(used - set(claims.groups)):
        raise InputError(f"unknown group {name!r}: {nearest(name, claims.groups)}")
    for name, group in claims.groups.items():
        require_flat(group.run, f"groups.{name}: run")
        require(name in used, f"no claim uses the group {name!r}")
        for words in ("words", "proxy_words"):
            known = getattr(claims, words)
            require(group.recipe in known, f"{words}.{group.recipe} is missing: groups.{name} needs it")
    for claim in claims.claims:
        decisive = any(comparison.decides for comparison in claim.comparisons)
        fits = decisive != bool(claim.undecidable)
        require(fits, f"{claim.id}: a claim needs either comparisons that decide it or a text in undecidable")
        for c in claim.comparisons:
            _check_comparison(c, f"{claim.id}: comparison {c.name!r}")
            recipes = {claims.groups[name].recipe for name in c.groups}
            require(len(recipes) == 1, f"{claim.id}: {c.name}: groups of different recipes cannot be compared")
