"""Differences, trends and corrections for numbers of seeds.

A standard deviation is over seeds, with n-1. p-values are two-sided unless said otherwise.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy import optimize, stats

PERMUTATIONS = 9999


@dataclass(frozen=True)
class Sample:
    """Size, mean and standard deviation (n-1; None for a single value)."""

    n: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class Contrast:
    """A difference with its standard error and degrees of freedom, for tests with Student's t."""

    difference: float
    error: float
    df: float

    @property
    def t(self) -> float:
        return self.difference / self.error

    @property
    def p(self) -> float:
        """Two-sided p-value for a true difference of 0."""
        return float(2 * stats.t.sf(abs(self.t), self.df))

    def half_width(self, alpha: float) -> float:
        """Return half the width of the interval with confidence 1 - ``alpha`` around the difference."""
        return float(stats.t.isf(alpha / 2, self.df)) * self.error

    def interval(self, alpha: float) -> tuple[float, float]:
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def p_above(self, limit: float) -> float:
        """Return the one-sided p that the true difference lies above ``limit``."""
        return float(stats.t.sf((self.difference - limit) / self.error, self.df))

    def p_below(self, limit: float) -> float:
        """Return the one-sided p that the true difference lies below ``limit``."""
        return float(stats.t.cdf((self.difference - limit) / self.error, self.df))

    def p_within(self, margin: float) -> float:
        """Return the p of two one-sided tests that the true difference is within ±``margin`` (Schuirmann 1987)."""
        return max(self.p_above(-margin), self.p_below(margin))

    def p_beyond(self, margin: float) -> float:
        """Return the two-sided p that the true difference lies beyond ±``margin``."""
        return two_sided(min(self.p_above(margin), self.p_below(-margin)))

    def power_above(self, limit: float, level: float) -> float:
        """Return the probability of showing "above ``limit``" one-sided at ``level`` if ``difference`` is the truth."""
        critical = float(stats.t.isf(level, self.df))
        return float(stats.nct.sf(critical, self.df, (self.difference - limit) / self.error))

    def power_within(self, margin: float, level: float) -> float:
        """Return the probability of showing equivalence within ±``margin`` if ``difference`` is the truth."""
        above = self.power_above(-margin, level)
        below = dataclasses.replace(self, difference=-self.difference).power_above(-margin, level)
        return max(0.0, above + below - 1)

    def detectable(self, alpha: float, power: float) -> float:
        """Return the true difference that a test with this error and these degrees of freedom finds with ``power``."""
        critical = float(stats.t.isf(alpha / 2, self.df))

        def shortfall(shift: float) -> float:  # the opposite tail is negligible
            return float(stats.nct.sf(critical, self.df, shift)) - power

        return float(optimize.brentq(shortfall, 0, 5 * critical)) * self.error


@dataclass(frozen=True)
class Trend:
    """The Jonckheere-Terpstra statistic ``j``, 0 to ``pairs``, and its two-sided p; ``rising`` if above half."""

    j: float
    pairs: int
    rising: bool
    p: float


def describe(values: Sequence[float], resolution: float = 0.0) -> Sample:
    """Return size, mean and standard deviation of at least one value.

    Args:
        resolution: Change of a value by one count. It is the minimum of the standard deviation, since equal seeds are
            not known more precisely.
    """
    std = max(statistics.stdev(values), resolution) if len(values) > 1 else None
    return Sample(len(values), statistics.fmean(values), std)


def two_sided(p: float) -> float:
    """Return the two-sided p-value for a one-sided one."""
    return min(1.0, 2 * p)


def binomial_error(percent: float, images: int) -> float:
    """Return the standard error, in percentage points, of an error rate over a random sample of ``images``."""
    rate = percent / 100
    return 100 * math.sqrt(rate * (1 - rate) / images)


def combined(
    parts: Sequence[tuple[float, Sample]],
    number: float = 0.0,
    *,
    single_runs: bool = False,
    more_variance: float = 0.0,
) -> Contrast:
    """Return the weighted sum of means minus ``number``, without assuming equal variances (Welch, Satterthwaite).

    It needs no raw values, so a published mean ± std of n runs can serve as a sample.

    Args:
        parts: Weights and samples of at least two values each; at least one sample has a spread.
        single_runs: Whether ``number`` is from one further run of each group, which adds the spread of a run.
        more_variance: A known variance to add to those of the samples.
    """
    variances = []
    for weight, sample in parts:
        assert sample.std is not None  # one value alone cannot be tested
        share = 1 + 1 / sample.n if single_runs else 1 / sample.n
        variances.append((weight**2 * sample.std**2 * share, sample.n))
    total = math.fsum(variance for variance, _ in variances) + more_variance
    df = total**2 / math.fsum(variance**2 / (n - 1) for variance, n in variances)
    return Contrast(math.fsum(weight * sample.mean for weight, sample in parts) - number, math.sqrt(total), df)


def welch(a: Sample, b: Sample) -> Contrast:
    """Return ``a`` minus ``b`` without assuming equal variances."""
    return combined([(1, a), (-1, b)])


def paired(a: Sequence[float], b: Sequence[float], resolution: float = 0.0) -> Contrast:
    """Return ``a`` minus ``b`` for paired values, such as two runs of one seed."""
    return combined([(1, describe([x - y for x, y in zip(a, b, strict=True)], resolution))])


def prediction(sample: Sample, one: float) -> Contrast:
    """Return our mean minus one further run ``one``; the standard error is s * sqrt(1 + 1/n)."""
    return combined([(1, sample)], one, single_runs=True)


def replication_bayes_factor(parts: Sequence[tuple[float, Sample]], effect: float) -> float:
    """Return the Bayes factor of our difference for the published ``effect`` against no effect.

    Verhagen and Wagenmakers 2014: the prior of the true difference is the posterior of the published study, here
    ``effect`` with the variance v1 of one run of each group. With our difference d, its variance v and Student's
    density t: BF = [t((d - effect) / sqrt(v1 + v)) / sqrt(v1 + v)] / [t(d / sqrt(v)) / sqrt(v)], both with Welch's
    degrees of freedom, since the variances are estimated from our seeds.
    """
    ours, further = combined(parts), combined(parts, effect, single_runs=True)
    published = float(stats.t.logpdf(further.t, further.df)) - math.log(further.error)
    none = float(stats.t.logpdf(ours.t, ours.df)) - math.log(ours.error)
    return math.exp(min(700.0, published - none))


def trend(groups: Sequence[Sequence[float]]) -> Trend:
    """Test whether values rise or fall over ordered groups (Jonckheere-Terpstra).

    One test of all groups has more power than tests of neighbours. J counts the rising pairs of values from different
    groups, and ties as halves. p comes from 9,999 random permutations of the values, with a fixed seed.
    """
    values = numpy.concatenate([numpy.asarray(group, dtype=float) for group in groups])
    rank = numpy.repeat(numpy.arange(len(groups)), [len(group) for group in groups])
    first, second = numpy.nonzero(rank[:, None] < rank[None, :])

    def j(order: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
        # Along the last axis, so that all permutations are counted at once.
        signs = numpy.sign(order[..., second] - order[..., first])
        total: NDArray[numpy.float64] = (signs.sum(axis=-1) + len(first)) / 2
        return total

    observed = float(j(values))
    shuffled = numpy.random.default_rng(0).permuted(numpy.tile(values, (PERMUTATIONS, 1)), axis=1)
    centre = len(first) / 2
    # Half-integers are exact in binary, so that equal deviations compare as equal.
    as_far = int((numpy.abs(j(shuffled) - centre) >= abs(observed - centre)).sum())
    return Trend(observed, len(first), observed > centre, (as_far + 1) / (PERMUTATIONS + 1))


def holm(ps: Sequence[float], tests: int | None = None) -> list[float]:
    """Correct p-values for their number by Holm's method; ``tests`` also counts declared tests that were not made.

    Such a test counts as one with p = 1, so missing runs never strengthen another result.
    """
    total = len(ps) if tests is None else tests
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    steps = [min(1.0, (total - step) * ps[place]) for step, place in enumerate(order)]
    corrected = dict(zip(order, itertools.accumulate(steps, max), strict=True))
    return [corrected[place] for place in range(len(ps))]
