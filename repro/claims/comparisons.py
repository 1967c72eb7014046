"""What each kind of comparison computes from its groups, before anything is corrected or judged."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from repro.claims.counts import counted
from repro.claims.evidence import Evidence, Seeds
from repro.claims.quantities import series
from repro.claims.statistics import (
    Contrast,
    Sample,
    against,
    describe,
    gap_prediction,
    holm,
    paired,
    prediction,
    trend,
    welch,
)
from repro.paper import Published
from repro.paper.claims import Claims, Comparison

NO_SPREAD = "the seeds do not differ, so there is no spread to test against"


@dataclass(frozen=True)
class Outcome:
    """What a comparison found.

    ``p`` is None where nothing can be tested and ``obstacle`` says why. ``supports`` is the side that a small p speaks
    for. For a published value, ``compatible`` says that it lies within an interval that is narrow enough to mean
    something. An ``exact`` outcome has no p: ``supports`` decides.
    """

    test: str = ""
    supports: bool = False
    p: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    statistic: str = ""
    detectable: float | None = None
    compatible: bool = False
    exact: bool = False
    obstacle: str = ""
    numbers: tuple[float, ...] = ()


def compute(claims: Claims, c: Comparison, evidence: Evidence) -> Outcome:
    """The outcome of ``c``, every group of which has a run (but for counts of a net, which need none)."""
    if c.test == "count":
        return _count(claims, c, evidence.groups)
    if any(len(group.values) < 2 for group in evidence.groups):
        return Outcome(obstacle="one seed has no spread, so nothing is tested")
    if c.test == "trend":
        return _trend(claims, c, evidence.groups)
    contrast, test = _contrast(c, evidence.groups)
    if contrast is None:
        return Outcome(test, obstacle=NO_SPREAD)
    low, high = contrast.interval(claims.alpha)
    outcome = Outcome(
        test,
        supports=contrast.difference > 0,
        p=contrast.p,
        difference=contrast.difference,
        interval=(low, high),
        statistic=f"t({contrast.df:.1f}) = {contrast.t + 0:.2f}".replace("-", "−"),
        detectable=None if c.test in ("value", "gap") else contrast.detectable(claims.alpha, claims.power),
    )
    if c.test == "equal":
        within = abs(contrast.difference) < _margin(c)
        p = contrast.p_within(_margin(c)) if within else contrast.p_beyond(_margin(c))
        return replace(outcome, supports=within, p=p)
    if c.test in ("value", "gap"):
        inside = low <= 0 <= high and contrast.half_width(claims.alpha) <= _margin(c)
        return replace(outcome, supports=False, compatible=inside)
    return _throughout(claims, c, evidence.groups, outcome) if c.test == "throughout" else outcome


def _margin(c: Comparison) -> float:
    assert c.margin is not None  # the claims' file was checked
    return c.margin


def _contrast(c: Comparison, groups: tuple[Seeds, ...]) -> tuple[Contrast | None, str]:
    """The difference that ``c`` is about, above 0 where it is as the claim says, and the name of the test."""
    values = [group.values for group in groups]
    if c.test == "bound":
        limit = c.above if c.above is not None else c.below
        assert limit is not None
        contrast = against(values[0], limit)
        return contrast if c.above is not None else _reversed(contrast), "one-sample t test"
    if c.test == "gap":
        assert c.published is not None
        published = c.published.headline
        return gap_prediction(values[1], values[0], published), "prediction interval of one more pair of runs"
    if c.published is not None:
        contrast, test = _with_published(c.published, groups[0])
        return _reversed(contrast) if c.test == "order" else contrast, test
    if c.paired:
        shared = sorted(set(groups[0].seeds) & set(groups[1].seeds))
        first, second = ([g.values[g.seeds.index(seed)] for seed in shared] for g in groups)
        return (paired(second, first) if shared else None), "paired t test"
    return welch(groups[1].sample, groups[0].sample), "Welch's t test"


def _with_published(published: Published, group: Seeds) -> tuple[Contrast | None, str]:
    """Ours minus the paper's: a mean ± std of several runs is a sample, a value alone is one more run."""
    if published.mean is not None and published.std is not None and published.runs is not None:
        paper = Sample(published.runs, published.mean, published.std)
        return welch(group.sample, paper), "Welch's t test with the published mean ± std"
    return prediction(group.values, published.headline), "prediction interval of one more run"


def _reversed(contrast: Contrast | None) -> Contrast | None:
    return None if contrast is None else replace(contrast, difference=-contrast.difference)


def _trend(claims: Claims, c: Comparison, groups: tuple[Seeds, ...]) -> Outcome:
    found = trend([group.values for group in groups])
    neighbours = [welch(b.sample, a.sample) for a, b in itertools.pairwise(groups)]
    differences = [pair.detectable(claims.alpha, claims.power) for pair in neighbours if pair is not None]
    return Outcome(
        "Jonckheere and Terpstra's trend test, by permutation",
        supports=found.rising == (c.direction == "rising"),
        p=found.p,
        statistic=f"J = {found.j:g} of {found.pairs} pairs",
        detectable=max(differences, default=None),
    )


def _throughout(claims: Claims, c: Comparison, groups: tuple[Seeds, ...], whole: Outcome) -> Outcome:
    """The whole curve decides as an ``order``, and no single evaluation may stand the other way round."""
    curves = [[series(record, c) for record in group.records] for group in groups]
    steps = sorted(set.intersection(*(set(curve.index) for group in curves for curve in group)))
    reversed_at: list[int] = []
    ps: list[float] = []
    against_it: list[bool] = []
    for step in steps:
        lower, upper = ([float(curve.loc[step]) for curve in group] for group in curves)
        contrast = welch(describe(upper), describe(lower))
        wrong = sum(upper) / len(upper) <= sum(lower) / len(lower)
        reversed_at += [step] if wrong else []
        ps.append(1.0 if contrast is None else contrast.p)
        against_it.append(wrong)
    if not steps:
        return replace(whole, p=None, obstacle="the runs were never evaluated at the same step")
    surest = min((p for p, wrong in zip(holm(ps), against_it, strict=True) if wrong), default=1.0)
    share = f"in this order at {len(steps) - len(reversed_at)} of {len(steps)} evaluations; {whole.statistic}"
    if surest < claims.alpha:
        return replace(whole, supports=False, p=surest, statistic=share)
    stands = f"at {len(reversed_at)} evaluations the order is the other one" if reversed_at and whole.supports else ""
    return replace(whole, statistic=share, obstacle=stands)


def _count(claims: Claims, c: Comparison, groups: tuple[Seeds, ...]) -> Outcome:
    if c.metric in ("params", "macs"):
        numbers = [float(counted(claims, claims.groups[name], c.metric)) for name in c.groups]
        test = "counted on the model"
    else:
        numbers = [value for group in groups for value in group.values]
        test = "counted in every run"
    if len(c.groups) == 2:
        fits = len(set(numbers)) == 1
    else:
        fits = all(_within(c, number) for number in numbers)
    return Outcome(test, supports=fits, exact=True, numbers=tuple(dict.fromkeys(numbers)))


def _within(c: Comparison, number: float) -> bool:
    return (
        (c.above is None or number > c.above)
        and (c.below is None or number < c.below)
        and (c.equals is None or number == c.equals)
    )
