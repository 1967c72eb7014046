"""Power of a comparison, computed before any run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from repro.papers.claims import Claims, Comparison
from repro.report.claims.comparisons import ONE_SIDED, WEIGHTS
from repro.report.claims.statistics import Contrast, Sample, binomial_error, combined

WITH_SPREAD = (
    "top1_error",
    "10crop_top1_error",
    "10crop_top5_error",
    "multiscale_top1_error",
    "multiscale_top5_error",
    "mAP",
    "mAP_50",
    "mAP_50_95",
)
"""Metrics whose spread over seeds is ``Claims.spread``."""


@dataclass(frozen=True)
class Planned:
    """The power of the planned seeds, at the planned spread and the level of the test.

    ``power`` is the probability of confirming the claim if ``truth`` is true; None if the paper prints no effect to
    assume. ``detectable`` is the true difference that is found with the power set in claims.toml.
    """

    seeds: int
    spread: float
    truth: str
    power: float | None
    detectable: float | None
    underpowered: bool


def planned(claims: Claims, c: Comparison) -> Planned | None:
    """Return the power of ``c``; None if the spread of its metric is unknown beforehand."""
    if c.metric not in WITH_SPREAD or c.test not in ("order", "interaction", "equal", "no_worse", "bound", "trend"):
        return None
    contrast = _contrast(claims, c)
    truth, power = _power(claims, c, contrast)
    directional = c.test in ("order", "interaction")
    detectable = contrast.detectable(claims.alpha, claims.power) + (c.by or 0.0) if directional else None
    seeds = min(claims.groups[name].seeds for name in c.groups)
    return Planned(seeds, claims.spread_of(c), truth, power, detectable, power is not None and power < claims.power)


def _contrast(claims: Claims, c: Comparison) -> Contrast:
    """Return a difference of 0 with the standard error and degrees of freedom of the planned seeds."""
    spread = claims.spread_of(c)
    samples = [Sample(claims.groups[name].seeds, 0.0, spread) for name in c.groups]
    if c.test == "trend":  # the smallest step is the hardest to show
        samples = samples[-2:]
    if c.paired:
        # No correlation between runs of one seed is assumed.
        return combined([(1, replace(samples[0], std=math.sqrt(2) * spread))])
    published, variance = c.published, 0.0
    if published is not None and published.std is not None and published.runs is not None:
        samples.append(Sample(published.runs, 0.0, published.std))
    if c.limit_images is not None:
        limit = c.above if c.above is not None else (c.below or 0.0)
        variance = 2 * binomial_error(limit, c.limit_images) ** 2
    return combined(list(zip(WEIGHTS[len(samples)], samples, strict=True)), more_variance=variance)


def _power(claims: Claims, c: Comparison, contrast: Contrast) -> tuple[str, float | None]:
    level = claims.alpha / ONE_SIDED
    if c.test == "equal":
        margin = c.margin or 0.0
        return "there is no difference", contrast.power_within(margin, claims.alpha)
    if c.test == "trend":
        if c.step is None:
            return "", None
        back = claims.step_back(c)
        truth = f"the smallest published step of {c.step:g} is true"
        return truth, replace(contrast, difference=c.step).power_above(-back, claims.alpha)
    if c.effect is None:
        return "", None
    truth = f"the published difference of {c.effect:g} is true".replace("-", "−")
    supposed = replace(contrast, difference=c.effect)
    if c.test == "no_worse":
        return truth, supposed.power_above(-(c.margin or 0.0), claims.alpha)
    return truth, supposed.power_above(c.by or 0.0, level)
