"""Error rates of the whole check, by simulation.

Seeds are drawn at the paper's published values, where "fails" is an error, and with one part of a claim made false by
the least change of them, where "holds" is one.
``python -m tests.claim_rates [REPETITIONS] [CLAIM…]`` prints a table. Records are planted once; what a comparison reads
of a run is then drawn anew from a normal distribution around its truth, and ``repro.report.claims.verdicts.check``
judges.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy
import pandas
from scipy import stats

from repro.papers.claims import Claim, Claims, Comparison, load_claims
from repro.report.claims import comparisons, metrics
from repro.report.claims.verdicts import check
from repro.results.read import Reading, Record, read_records
from tests.planted_claims import plant_group

SPREAD = (0.15, 0.2)
"""Range of the groups' standard deviations of an error over seeds, in points."""
OF_OTHERS = {"response_std": 0.1, "lowest_forward_std": 0.1, "log10_gradient_ratio": 0.1}
LAYERS, OF_A_LAYER, OF_AN_EVALUATION = 20, 0.1, 0.1
SWAPPED, SPARE = "plain56", 5
"""The group that swaps its worst seed, and the number of its spare seeds."""
FEWER_PERMUTATIONS = 999
"""Permutations of the trend test: enough for its level, and ten times as fast."""

SHOWN = ("holds", "fails", "inconclusive")

Truth = dict[tuple[str, str], float]
"""Values by net (the digest of its run without the seed) and metric."""


@dataclasses.dataclass(frozen=True)
class Rates:
    """Verdicts on one claim over ``repetitions``; ``part`` is the false comparison, empty if all are true."""

    claim: str
    part: str
    nominal: float
    counts: Mapping[str, int]

    @property
    def repetitions(self) -> int:
        return sum(self.counts.values())

    @property
    def wrong(self) -> str:
        """The verdict that is an error: "holds" if a part is false, "fails" if all values are as published."""
        return "holds" if self.part else "fails"

    @property
    def excessive(self) -> bool:
        """Whether there are more errors than the nominal rate explains, with one false alarm in 10,000 cells of a
        table."""
        return self.counts.get(self.wrong, 0) > stats.binom.isf(1e-4, self.repetitions, self.nominal)


def of_classifiers(claims: Claims) -> Claims:
    """Leave out the claims on detectors, whose records are of another kind; the rules of judgement are the same."""
    groups = {name: g for name, g in claims.groups.items() if "detection.start" not in claims.recipes[g.recipe]}
    kept = [claim for claim in claims.claims if all(groups.keys() >= set(c.groups) for c in claim.comparisons)]
    return dataclasses.replace(claims, groups=groups, claims=tuple(kept))


class Simulation:
    """The planted records, the paper's values for the compared quantities, and draws around them."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.claims = of_classifiers(load_claims())
        self.random = numpy.random.default_rng(seed)
        for name, group in self.claims.groups.items():
            for number in range(group.seeds + SPARE * (name == SWAPPED)):
                plant_group(root, name, number, noise=0.0)
        self.records = read_records([root]).records
        self.of_group = {name: self._records_of(name) for name in self.claims.groups}
        self.drawn: Truth = {}
        """What this repetition has drawn, by the run's id."""
        self.spreads: Truth = {}
        self.curves: dict[tuple[str, str], pandas.Series] = {}
        self.published: Truth = {}
        self.images: dict[str, int | None] = {}
        for c in (c for claim in self.claims.claims for c in claim.comparisons if c.metric not in ("params", "macs")):
            for name in c.groups:
                record = self.of_group[name][0]
                value, self.images[measure(c)] = metrics.value_of(record, c)
                self.published[net(record), measure(c)] = value
                if c.test == "throughout":
                    self.curves[net(record), measure(c)] = metrics.series(record, c)

    def _records_of(self, name: str) -> list[Record]:
        group = self.claims.groups[name]
        apart = {"model.constructed_from": None, "eval.gradient_flow": False}
        wanted = {**apart, **self.claims.recipes[group.recipe], **group.run}
        found = [r for r in self.records if all(r.science.flat()[key] == value for key, value in wanted.items())]
        return sorted(found, key=lambda record: record.seed)

    def rates(self, claim: Claim, repetitions: int, false: Comparison | None = None, *, back: bool = False) -> Rates:
        """Simulate verdicts on ``claim`` with the published values, or with the part ``false`` just not true."""
        names = {name for c in claim.comparisons for name in c.groups}
        groups = [(self.claims.groups[name].seeds, self.of_group[name]) for name in names]
        records = tuple({r.run_id: r for seeds, of_group in groups for r in of_group[:seeds]}.values())
        truth = dict(self.published)
        if false is not None:
            truth |= self._boundary(false, back)
        counts: Counter[str] = Counter()
        with self._judging(dataclasses.replace(self.claims, claims=(claim,)), truth, false):
            for _ in range(repetitions):
                self.drawn, self.spreads = {}, {}
                counts[check(Reading(records)).verdicts[0].status] += 1
        part = "" if false is None else false.name + " (goes back)" * back
        return Rates(claim.id, part, nominal(self.claims, false, back), counts)

    def swapping(self, repetitions: int) -> int:
        """Count how often the worst of five seeds, swapped for a spare one up to five times, makes equal nets differ.

        Only the test error of degradation_cifar is false: plain-20 and plain-56 are equal.
        """
        claim = self.claims.claim("degradation_cifar")
        (part,) = [c for c in claim.comparisons if c.metric == "top1_error"]
        held = 0
        with self._judging(dataclasses.replace(self.claims, claims=(claim,)), self.published | self._boundary(part)):
            for _ in range(repetitions):
                self.drawn, self.spreads = {}, {}
                kept, spare = self.of_group[SWAPPED][:-SPARE], self.of_group[SWAPPED][-SPARE:]
                for swap in range(SPARE + 1):
                    records = (*self.of_group["plain20"], *kept)
                    if check(Reading(records)).count("holds"):
                        held += 1
                        break
                    if swap < SPARE:
                        kept.remove(min(kept, key=lambda r: self.drawn.get((r.run_id, "top1_error"), math.inf)))
                        kept.append(spare[swap])
        return held

    def _boundary(self, c: Comparison, back: bool = False) -> Truth:
        """Return the truth at which ``c`` just becomes false, with the least change of the published values."""
        first, *others = [self.published[net(self.of_group[name][0]), measure(c)] for name in c.groups]
        margin, by = c.margin or 0.0, getattr(c, "by", None) or 0.0
        limits = [getattr(c, "limit", None), c.above, c.below, _mean(c)]
        limit = next((value for value in limits if value is not None), others[0] if others else 0.0)
        if c.test == "trend" and back:
            step = self.claims.step_back(c)
            last = others[-2] + (step if c.direction == "falling" else -step)
            values = [first, *others[:-1], last]
        elif c.test == "trend":
            values = [math.fsum([first, *others]) / (1 + len(others))] * (1 + len(others))
        elif c.test == "interaction":
            values = [first, first + others[2] - others[1], *others[1:]]
        elif c.test == "layerwise":
            # So that a layer of the first is the lower one with the probability of the limit.
            shift = float(stats.norm.ppf((c.above or 50.0) / 100)) * math.sqrt(2) * OF_A_LAYER
            values = [others[0] - shift, *others]
        else:
            values = [limit + (margin if c.test in ("equal", "no_worse") else -by), *others]
        return {(net(self.of_group[n][0]), measure(c)): v for n, v in zip(c.groups, values, strict=True)}

    @contextmanager
    def _judging(self, claims: Claims, truth: Truth, false: Comparison | None = None) -> Iterator[None]:
        def drawn(record: Record, c: Comparison) -> float:
            key = record.run_id, measure(c)
            if key not in self.drawn:
                centre = truth[net(record), measure(c)]
                group = net(record), measure(c)
                if group not in self.spreads:
                    self.spreads[group] = self.random.uniform(*SPREAD)
                images = self.images[measure(c)]
                value = self.random.normal(centre, spread(c.metric, centre, self.spreads[group]))
                self.drawn[key] = round(max(0.0, value) * images / 100) * 100 / images if images else value
            return self.drawn[key]

        def value_of(record: Record, c: Comparison) -> tuple[float, int | None]:
            return drawn(record, c), self.images[measure(c)]

        def series(record: Record, c: Comparison) -> pandas.Series:
            own = net(record)
            if c == false:
                own = net(self.of_group[c.groups[-1]][0])
            curve = self.curves[own, measure(c)]
            shift = drawn(record, c) - truth[net(record), measure(c)]
            return curve + shift + self.random.normal(0, OF_AN_EVALUATION, len(curve))

        def responses(record: Record) -> list[float]:
            mean = truth[net(record), "response_std"]
            return list(self.random.normal(mean, OF_A_LAYER, LAYERS))

        with (
            mock.patch("repro.report.claims.verdicts.load_claims", return_value=claims),
            mock.patch("repro.report.claims.evidence.value_of", value_of),
            mock.patch("repro.report.claims.comparisons.series", series),
            mock.patch("repro.report.claims.statistics.PERMUTATIONS", FEWER_PERMUTATIONS),
            mock.patch.object(comparisons, "responses", responses, create=True),
        ):
            yield


def net(record: Record) -> str:
    return f"{record.key} {sorted((key, str(value)) for key, value in record.science.flat().items())}"


def measure(c: Comparison) -> str:
    return c.metric if c.window == (0.0, 1.0) else f"{c.metric} {c.window}"


def spread(metric: str, centre: float, of_errors: float) -> float:
    """Return the standard deviation over seeds; errors near 0 have a smaller one."""
    if metric in ("start_difference", "start_train_difference"):
        return 0.1
    if metric.startswith("onset"):
        return 0.3
    return OF_OTHERS.get(metric, of_errors if centre >= 1 else of_errors / 10)


def _mean(c: Comparison) -> float | None:
    return None if c.published is None else c.published.headline if c.published.mean is None else c.published.mean


def nominal(claims: Claims, false: Comparison | None, back: bool = False) -> float:
    """Return the error rate that the claims' file allows: half of alpha if a two-sided test decides for one side."""
    one_sided = false is None or back or false.test in ("equal", "no_worse")
    return claims.alpha if one_sided else claims.alpha / 2


def parts(claims: Claims, claim: Claim) -> list[tuple[Comparison, bool]]:
    """Return the parts of ``claim`` that can be false; a trend can also fail by going back in its last step."""
    deciding = [c for c in claim.comparisons if c.decides and c.test not in ("count", "gap", "value")]
    backs = [(c, True) for c in deciding if c.test == "trend" and hasattr(claims, "step_back")]
    return [*((c, False) for c in deciding), *backs]


def simulate(simulation: Simulation, repetitions: int, ids: Sequence[str] = ()) -> Iterator[Rates]:
    """Simulate every claim on runs, or those in ``ids``, at the published values and with each part false."""
    for claim in simulation.claims.claims:
        on_runs = [part for part in parts(simulation.claims, claim) if part[0].metric not in ("params", "macs")]
        if not on_runs or (ids and claim.id not in ids):
            continue
        yield simulation.rates(claim, repetitions)
        for part, back in on_runs:
            yield simulation.rates(claim, repetitions, part, back=back)


def line(rates: Rates) -> str:
    shares = "".join(
        f"{100 * rates.counts.get(s, 0) / rates.repetitions:8.1f}" for s in ("holds", "fails", "inconclusive")
    )
    about = f"false: {rates.part}" if rates.part else "as published"
    return f"{rates.claim:26}{shares}   {100 * rates.nominal:4.1f} {'EXCESS' if rates.excessive else '':8}{about}"


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{'claim':26}{'holds':>8}{'fails':>8}{'inconcl':>8} allowed         (% of {repetitions} repetitions)")
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Path(folder))
        for rates in simulate(simulation, repetitions, sys.argv[2:]):
            print(line(rates), flush=True)
        held = simulation.swapping(repetitions)
        print(f"equal nets differ by swapping the worst seed up to five times: {100 * held / repetitions:.1f} %")


if __name__ == "__main__":
    main()
