"""Comparisons of lists of numbers, one number a seed: differences with their uncertainty, trends, corrections.

A standard deviation is over seeds, with n-1. p-values are two-sided unless said otherwise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
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

    @property
    def spreads(self) -> bool:
        """Whether there is a spread to test against: more than the last digits of what was subtracted."""
        return self.std is not None and self.std > 1e-9 * max(1.0, abs(self.mean))


@dataclass(frozen=True)
class Contrast:
    """A difference with its standard error and degrees of freedom; under the null hypothesis Student's t."""

    difference: float
    error: float
    df: float

    @property
    def t(self) -> float:
        return self.difference / self.error

    @property
    def p(self) -> float:
        """That the true difference is 0."""
        return float(2 * stats.t.sf(abs(self.t), self.df))

    def half_width(self, alpha: float) -> float:
        """Of the interval with confidence 1 - ``alpha`` around the difference."""
        return float(stats.t.isf(alpha / 2, self.df)) * self.error

    def interval(self, alpha: float) -> tuple[float, float]:
        half = self.half_width(alpha)
        return self.difference - half, self.difference + half

    def p_within(self, margin: float) -> float:
        """Of the two one-sided tests that the true difference lies within ±``margin`` (Schuirmann 1987)."""
        return float(stats.t.sf((margin - abs(self.difference)) / self.error, self.df))

    def p_beyond(self, margin: float) -> float:
        """That the true difference lies beyond ±``margin``, two-sided."""
        return min(1.0, 2 * float(stats.t.sf((abs(self.difference) - margin) / self.error, self.df)))

    def detectable(self, alpha: float, power: float) -> float:
        """The true difference that a test with this error and these degrees of freedom finds with ``power``.

        By the noncentral t distribution; the far tail adds nothing that shows.
        """
        critical = float(stats.t.isf(alpha / 2, self.df))

        def short(shift: float) -> float:
            return float(stats.nct.sf(critical, self.df, shift)) - power

        return float(optimize.brentq(short, 0, 5 * critical)) * self.error


@dataclass(frozen=True)
class Trend:
    """Jonckheere and Terpstra's J, from 0 to ``pairs``; ``rising`` where it is above half, and its two-sided p."""

    j: float
    pairs: int
    rising: bool
    p: float


def describe(values: Sequence[float]) -> Sample:
    """Of at least one value."""
    return Sample(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def binomial_error(percent: float, images: int) -> float:
    """Standard error, in percentage points, of an error rate counted over ``images`` drawn from all there could be."""
    rate = percent / 100
    return 100 * math.sqrt(rate * (1 - rate) / images)


def welch(a: Sample, b: Sample) -> Contrast | None:
    """``a`` minus ``b`` without supposing equal variances; None where a sample is single, or neither has a spread.

    Needs no raw values, so that a published mean ± std of n runs can stand for a sample.
    """
    return _unequal(a, b, 0.0, lambda n: 1 / n)


def paired(a: Sequence[float], b: Sequence[float]) -> Contrast | None:
    """``a`` minus ``b`` where values of the same place belong together, as two runs of one seed do."""
    return _single([x - y for x, y in zip(a, b, strict=True)], 0)


def against(values: Sequence[float], number: float) -> Contrast | None:
    """The mean minus a fixed number."""
    return _single(values, number)


def prediction(values: Sequence[float], one: float) -> Contrast | None:
    """Our mean minus one further run ``one``, whose own spread counts: the error is s * sqrt(1 + 1/n).

    A single published run is to be expected within this interval, not within the narrower one of our mean.
    """
    sample = describe(values)
    if sample.std is None or not sample.spreads:
        return None
    return Contrast(sample.mean - one, sample.std * math.sqrt(1 + 1 / sample.n), sample.n - 1)


def gap_prediction(a: Sequence[float], b: Sequence[float], gap: float) -> Contrast | None:
    """The difference of our means, ``a`` minus ``b``, less the ``gap`` of one further run of each."""
    return _unequal(describe(a), describe(b), gap, lambda n: 1 + 1 / n)


def trend(groups: Sequence[Sequence[float]]) -> Trend:
    """Whether values rise or fall over ordered groups: the test of Jonckheere and Terpstra.

    It asks one question of all groups together, where the pairs of neighbours have little power each. J counts the
    pairs of values from different groups that rise, ties as halves; p is from 9,999 random permutations of the values
    over the groups, always the same ones.
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
    """The p-values corrected for their number by Holm's steps; ``tests`` counts those that were declared and not made.

    A test that was not made counts as one that found nothing, so that what is missing makes no other one surer.
    """
    total = len(ps) if tests is None else tests
    corrected = [0.0] * len(ps)
    highest = 0.0
    for step, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (total - step) * ps[place]))
        corrected[place] = highest
    return corrected


def _unequal(a: Sample, b: Sample, number: float, share: Callable[[int], float]) -> Contrast | None:
    """``a`` minus ``b`` minus ``number``, each variance times ``share`` of n, with Welch's degrees of freedom."""
    if a.std is None or b.std is None or not (a.spreads or b.spreads):
        return None
    parts = [(sample.std**2 * share(sample.n), sample.n) for sample in (a, b) if sample.std is not None]
    total = math.fsum(variance for variance, _ in parts)
    df = total**2 / math.fsum(variance**2 / (n - 1) for variance, n in parts)
    return Contrast(a.mean - b.mean - number, math.sqrt(total), df)


def _single(values: Sequence[float], number: float) -> Contrast | None:
    sample = describe(values)
    if sample.std is None or not sample.spreads:
        return None
    return Contrast(sample.mean - number, sample.std / math.sqrt(sample.n), sample.n - 1)
