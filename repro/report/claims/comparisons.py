"""Statistical tests of comparisons, before correction and judgement."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from repro.papers.claims import Claims, Comparison
from repro.report.claims.evidence import Seeds
from repro.report.claims.metrics import count, resolution, responses, series, unlike
from repro.report.claims.statistics import (
    Contrast,
    Sample,
    binomial_error,
    combined,
    describe,
    holm,
    paired,
    prediction,
    replication_bayes_factor,
    trend,
    two_sided,
    welch,
)

Groups = tuple[Seeds, ...]

REVERSED = "the difference has the opposite sign"
AGAINST_PAPER = "Welch's t test with the published mean ± std"
WEIGHTS = {1: (-1.0,), 2: (-1.0, 1.0), 4: (1.0, -1.0, -1.0, 1.0)}
"""Weights of the groups, by their number, in a difference that is above 0 if the claim is true."""
ONE_SIDED = 2
"""The interval of a one-sided test leaves alpha on both sides: it has 90 % confidence at alpha = 0.05."""


@dataclass(frozen=True)
class Beside:
    """A published ``effect`` beside ours; ``size`` compares the two, and is empty if there is no interval."""

    effect: float
    size: str = ""
    bayes_factor: float | None = None


@dataclass(frozen=True)
class TestResult:
    """The result of a test.

    ``p_holds`` is small if the runs confirm the comparison, ``p_fails`` if they show the opposite, which ``refuted``
    describes. Both are None if nothing can be tested; ``obstacle`` gives the reason. ``interval`` decides at its
    ``confidence``, for the side that the runs favour. ``measured`` is told in place of the groups' values. A published
    value is ``compatible`` if it lies within a sufficiently narrow interval. Exact numbers have no p-value: ``fits``
    decides.
    """

    test: str = ""
    p_holds: float | None = None
    p_fails: float | None = None
    refuted: str = ""
    difference: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    statistic: str = ""
    beside: Beside | None = None
    compatible: bool = False
    measured: str = ""
    fits: bool | None = None
    obstacle: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def exact(self) -> bool:
        return self.fits is not None

    @property
    def supports(self) -> bool:
        """True if the result favours the claim, however weakly."""
        return bool(self.fits) or (self.p_holds or 0.0) < (self.p_fails or 0.0)

    @property
    def p(self) -> float | None:
        """The p-value of the favoured side."""
        return self.p_holds if self.supports else self.p_fails


class Untestable(Exception):
    """Raised with the name of the test and the obstacle if nothing can be tested."""


def compute(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test ``c``, whose groups all have a run; counts of a net need none."""
    if c.test == "count":
        fits, numbers, how = count(claims, c, [value for group in groups for value in group.values])
        return TestResult(how, fits=fits, numbers=numbers)
    if any(len(group.values) < 2 for group in groups):
        return TestResult(obstacle="one seed has no spread, so there is no test")
    if difference := unlike(c, [record for group in groups for record in group.records]):
        return TestResult(obstacle=difference)
    try:
        return TESTS[c.test](claims, c, groups)
    except Untestable as why:
        test, obstacle = why.args
        return TestResult(test, obstacle=obstacle)


def _order(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test a direction; a difference shown to be below the smallest one of interest refutes it."""
    contrast, test = _difference(c, groups)
    smallest = claims.smallest(c)
    p_holds, reversal = two_sided(contrast.p_above(c.by or 0.0)), two_sided(contrast.p_below(0))
    p_fails = contrast.p_below(smallest) if smallest else reversal
    other_way = reversal < claims.alpha
    absent = p_fails < claims.alpha and not other_way
    refuted = REVERSED if other_way or not smallest else f"there is no effect of {smallest:.2g} or more"
    beside = _beside(claims, c, groups, WEIGHTS[len(groups)])
    return _result(claims, contrast, test, refuted, p_holds, p_fails, one_sided=absent, beside=beside)


def _equal(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    contrast, test = _difference(c, groups)
    margin = _given(c.margin)
    p_holds, p_fails = contrast.p_within(margin), contrast.p_beyond(margin)
    refuted, statistic = f"the difference is above {margin:g}", f"two one-sided tests, {_t(contrast)}"
    one_sided = p_holds <= p_fails
    return _result(claims, contrast, test, refuted, p_holds, p_fails, one_sided=one_sided, statistic=statistic)


def _no_worse(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test one side, since a better value is no failure. A cited value without a spread is a fixed limit."""
    margin = _given(c.margin)
    if c.limit is None:
        contrast, test = _difference(c, groups)
    else:
        contrast, test = combined([(-1, _sample(c, groups[0]))], -c.limit), "one-sample t test"
    p_holds, p_fails = contrast.p_above(-margin), two_sided(contrast.p_below(-margin))
    refuted, statistic = f"it is worse by more than {margin:g}", f"one-sided, {_t(contrast)}"
    one_sided = p_holds <= p_fails
    result = _result(claims, contrast, test, refuted, p_holds, p_fails, one_sided=one_sided, statistic=statistic)
    return replace(result, beside=_beside(claims, c))


def _bound(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    limit, sign = (c.above, 1.0) if c.above is not None else (_given(c.below), -1.0)
    sample, images = _sample(c, groups[0]), groups[0].images
    # Errors on two samples of images also differ by chance of the sample; on the same images they do not.
    variance = 0.0
    if c.limit_images is not None:
        ours = binomial_error(sample.mean, images) if images is not None else 0.0
        variance = binomial_error(limit, c.limit_images) ** 2 + ours**2
    contrast = combined([(sign, sample)], sign * limit, more_variance=variance)
    return _result(claims, contrast, "one-sample t test", "the value is beyond the limit", beside=_beside(claims, c))


def _layerwise(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    by_seed = [{record.seed: responses(record) for record in group.records} for group in groups]
    shared = sorted(set(by_seed[0]) & set(by_seed[1]))
    if len(shared) < 2 or any(len(by_seed[0][seed]) != len(by_seed[1][seed]) for seed in shared):
        raise Untestable("", "fewer than two seeds have the same layers in both groups")
    pairs = [list(zip(by_seed[0][seed], by_seed[1][seed], strict=True)) for seed in shared]
    shares = [100 * sum(first < second for first, second in layers) / len(layers) for layers in pairs]
    sample = describe(shares, 100 / len(pairs[0]))
    contrast = combined([(1, sample)], _given(c.above))
    test, refuted = "one-sample t test of the share of layers", "the share is below the limit"
    measured = f"lower in {sample.mean:.1f} ± {describe(shares).std:.1f} % of the layers (n={len(shares)})"
    return _result(claims, contrast, test, refuted, measured=measured)


def _value(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test our value minus the paper's: its mean ± std is a sample, its single value is one more run."""
    ours, paper = _sample(c, groups[0]), _published_sample(c)
    assert c.published is not None
    contrast, test = prediction(ours, c.published.headline), "prediction interval of one more run"
    if paper is not None:
        contrast, test = welch(ours, paper), AGAINST_PAPER
    low, high = contrast.interval(claims.alpha)
    compatible = low <= 0 <= high and contrast.half_width(claims.alpha) <= _given(c.margin)
    refuted = "the published value lies outside the interval"
    return _result(claims, contrast, test, refuted, 1.0, contrast.p, compatible=compatible)


def _trend(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test that all groups together have the trend and that no step reverses it, which the trend test can miss."""
    found = trend([group.values for group in groups])
    sign = 1.0 if c.direction == "rising" else -1.0
    samples = [_sample(c, group) for group in groups]
    back = claims.step_back(c)
    steps = [combined([(-sign, a), (sign, b)]) for a, b in itertools.pairwise(samples)]
    ends = combined([(-sign, samples[0]), (sign, samples[-1])])
    as_said = found.rising == (c.direction == "rising")
    smallest = claims.smallest(c)
    absent = ends.p_below(smallest) if smallest else (1.0 if as_said else found.p)
    against = [*(two_sided(step.p_below(-back)) for step in steps), absent]
    worst = min(range(len(steps)), key=lambda i: steps[i].difference)
    names = f"from {groups[worst].label} to {groups[worst + 1].label}"
    refuted = f"there is no trend of {smallest:.2g} or more" if smallest else "the trend has the opposite direction"
    if min(against[:-1]) < absent:
        refuted = f"the trend reverses by more than {back:.2g} {names}"
    statistic = f"J = {found.j:g} of {found.pairs} pairs, smallest step {steps[worst].difference:+.2g} {names}"
    p_holds = max(found.p if as_said else 1.0, *(step.p_above(-back) for step in steps))
    return _result(
        claims,
        ends,
        "Jonckheere-Terpstra trend test by permutation, and a t test of each step",
        refuted,
        p_holds,
        min(holm(against)),
        statistic=statistic.replace("-", "−"),
        beside=_beside(claims, c, groups, (-sign, *[0.0] * (len(groups) - 2), sign)),
    )


def _throughout(claims: Claims, c: Comparison, groups: Groups) -> TestResult:
    """Test the mean over the curve as an ``order``; no single evaluation may show the opposite order."""
    whole = _order(claims, c, groups)
    curves = [[series(record, c) for record in group.records] for group in groups]
    steps = sorted(set.intersection(*(set(curve.index) for group in curves for curve in group)))
    if not steps or whole.p_fails is None:
        return replace(whole, p_holds=None, p_fails=None, obstacle="the runs were never evaluated at the same step")
    digit = resolution(c)
    ps: list[float] = []
    reversed_at = 0
    for step in steps:
        lower, upper = (describe([float(curve.loc[step]) for curve in group], digit) for group in curves)
        ps.append(two_sided(welch(upper, lower).p_below(0)))
        reversed_at += upper.mean <= lower.mean
    surest = min(holm(ps))
    return replace(
        whole,
        p_fails=two_sided(min(whole.p_fails, surest)),
        refuted=whole.refuted if whole.p_fails < surest else "at least one evaluation shows the opposite order",
        statistic=f"in this order at {len(steps) - reversed_at} of {len(steps)} evaluations; {whole.statistic}",
        obstacle=f"opposite order at {reversed_at} of {len(steps)} evaluations" if reversed_at else "",
    )


TESTS: dict[str, Callable[[Claims, Comparison, Groups], TestResult]] = {
    "order": _order,
    "interaction": _order,
    "throughout": _throughout,
    "trend": _trend,
    "equal": _equal,
    "no_worse": _no_worse,
    "bound": _bound,
    "layerwise": _layerwise,
    "value": _value,
}


def _given(number: float | None) -> float:
    assert number is not None  # claims.toml was validated
    return number


def _sample(c: Comparison, group: Seeds) -> Sample:
    """Describe the group's values; their spread is at least one count, even if all are equal."""
    return describe(group.values, resolution(c, group.records, group.images))


def _published_sample(c: Comparison) -> Sample | None:
    published = c.published
    if published is None or published.mean is None or published.std is None or published.runs is None:
        return None
    return Sample(published.runs, published.mean, published.std)


def _difference(c: Comparison, groups: Groups) -> tuple[Contrast, str]:
    """Return the difference, which is above 0 if the claim is true, and the name of the test."""
    paper = _published_sample(c)
    if paper is not None:
        return welch(paper, _sample(c, groups[0])), AGAINST_PAPER
    if not c.paired:
        parts = zip(WEIGHTS[len(groups)], groups, strict=True)
        return combined([(weight, _sample(c, group)) for weight, group in parts]), "Welch's t test"
    shared = sorted(set(groups[0].seeds) & set(groups[1].seeds))
    if len(shared) < 2:
        raise Untestable("paired t test", "fewer than two seeds were run in both groups")
    first, second = ([g.values[g.seeds.index(seed)] for seed in shared] for g in groups)
    return paired(second, first, resolution(c, groups[0].records, groups[0].images)), "paired t test"


def _t(contrast: Contrast) -> str:
    return f"t({contrast.df:.1f}) = {contrast.t + 0:.2f}".replace("-", "−")


def _result(
    claims: Claims,
    contrast: Contrast,
    test: str,
    refuted: str,
    p_holds: float | None = None,
    p_fails: float | None = None,
    *,
    one_sided: bool = False,
    statistic: str = "",
    **found: Any,
) -> TestResult:
    """Return the test result of a contrast, with the interval at the level of the deciding test.

    The p-values are those of a difference above 0 unless given.
    """
    alpha = ONE_SIDED * claims.alpha if one_sided else claims.alpha
    return TestResult(
        test,
        two_sided(contrast.p_above(0)) if p_holds is None else p_holds,
        two_sided(contrast.p_below(0)) if p_fails is None else p_fails,
        refuted,
        difference=contrast.difference,
        interval=contrast.interval(alpha),
        confidence=1 - alpha,
        statistic=statistic or _t(contrast),
        **found,
    )


def _beside(claims: Claims, c: Comparison, groups: Groups = (), weights: tuple[float, ...] = ()) -> Beside | None:
    """Compare the published effect of single runs with ours; an effect of several runs or pairs is only shown."""
    if c.effect is None:
        return None
    if not groups or c.paired or c.published is not None:
        return Beside(c.effect)
    parts = [(w, _sample(c, group)) for w, group in zip(weights, groups, strict=True) if w]
    beyond = combined(parts, c.effect, single_runs=True)
    size = "as published"
    if beyond.p < claims.alpha:
        size = "larger than published" if beyond.difference > 0 else "smaller than published"
    return Beside(c.effect, size, replication_bayes_factor(parts, c.effect))
