"""Verdicts on the paper's claims, with their evidence.

A claim holds where every comparison that decides it shows what it says, and fails where one shows the contrary; what
shows neither is inconclusive. That all hold by chance is rarer than that one does, so each stands by its own p. That
one of several fails by chance is more frequent than that a given one does, so these p are corrected by Holm. Only runs
of the paper's full recipe decide. Those of ``scale=demo`` go through the same rules and stand beside it as a proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from repro.papers.claims import Claim, Claims, Comparison, load_claims
from repro.report.claims.comparisons import TestResult, compute
from repro.report.claims.evidence import Gathered, Problem, Seeds, gather, usable
from repro.report.claims.metrics import OF_NET, ONSETS
from repro.report.claims.power import Planned, planned
from repro.report.claims.statistics import holm
from repro.results.read import Reading, Record

Status = Literal["holds", "fails", "inconclusive", "not run", "not decidable here"]

STATUSES: tuple[Status, ...] = ("holds", "fails", "inconclusive", "not run", "not decidable here")
PROXIES = ("tenth", "demo")
"""Scales whose runs are shown beside a verdict, the largest budget first. They decide nothing."""


@dataclass(frozen=True)
class Finding:
    """One comparison with its groups and test; ``because`` explains a status that the figures alone do not.

    ``p`` is the one that the status rests on: of what it shows, or, corrected by Holm for the ``tests`` of the claim,
    of the contrary. ``planned`` is the power beforehand. ``notes`` name what was left out.
    """

    comparison: Comparison
    groups: tuple[Seeds, ...]
    notes: tuple[str, ...]
    outcome: TestResult
    status: Status = "not run"
    because: str = ""
    p: float | None = None
    tests: int = 0
    planned: Planned | None = None

    @property
    def tested(self) -> bool:
        """True where all seeds exist and a test was made."""
        return not any(group.missing for group in self.groups) and self.outcome.p_fails is not None


@dataclass(frozen=True)
class Judgement:
    """A claim's status at one scale, and its findings."""

    scale: str
    status: Status
    findings: tuple[Finding, ...]

    @property
    def deciding(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.comparison.decides]

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(id for f in self.findings for group in f.groups for id in group.run_ids))


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim.

    ``proxy`` is the same at the largest of ``PROXIES`` that has its runs, None without any, and decides nothing.
    """

    claim: Claim
    judgement: Judgement
    proxy: Judgement | None

    @property
    def status(self) -> Status:
        return self.judgement.status


@dataclass(frozen=True)
class Check:
    """All verdicts, and the records that none of them rests on."""

    claims: Claims
    verdicts: tuple[Verdict, ...]
    problems: tuple[Problem, ...]

    @property
    def broken(self) -> bool:
        """True where committed evidence is refused or was made from uncommitted code."""
        return any(problem.breaks for problem in self.problems)

    def count(self, status: Status) -> int:
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def tested(self) -> int:
        """The number of claims on which all runs are there and a test was made."""
        deciding = [verdict.judgement.deciding for verdict in self.verdicts]
        return sum(
            any(f.tested for f in findings) and all(f.tested or f.outcome.exact for f in findings)
            for findings in deciding
        )


def check(reading: Reading, published: Path | None = None) -> Check:
    """Judge every claim of ``experiments/resnet/claims.toml``.

    Args:
        published: The folder of committed records, which must be without fault; None where all of them are.

    Raises:
        InputError: The claims' file does not fit.
    """
    claims = load_claims()
    records, problems = usable(reading, published)
    verdicts = []
    for claim in claims.claims:
        judgement = _judge(claims, claim, _examine(claims, claim, records, "paper"), "paper")
        verdicts.append(Verdict(claim, judgement, _proxy(claims, claim, records)))
    return Check(claims, tuple(verdicts), tuple(problems))


def _proxy(claims: Claims, claim: Claim, records: Sequence[Record]) -> Judgement | None:
    """Judge a claim at the largest reduced budget that has all its runs, else at the largest that has some."""
    found = []
    for scale in PROXIES:
        examined = _examine(claims, claim, records, scale)
        if any(group.values for finding in examined for group in finding.groups):
            found.append(_judge(claims, claim, examined, scale))
    return min(found, key=lambda judgement: judgement.status == "not run", default=None)


def _examine(claims: Claims, claim: Claim, records: Sequence[Record], scale: str) -> list[Finding]:
    examined = []
    for c in claim.comparisons:
        if scale != "paper" and _holds_against_the_paper(c):
            continue  # a reduced run beside a published value says nothing
        groups, notes = Gathered() if c.metric in OF_NET else gather(claims, c, records, scale)
        empty = any(not group.values for group in groups)
        outcome = TestResult() if empty else compute(claims, c, groups)
        examined.append(Finding(c, groups, notes, outcome))
    return examined


def _holds_against_the_paper(c: Comparison) -> bool:
    """Tell whether a limit of errors or of epochs is part of ``c``, which is one of the paper's budget.

    Limits of signals are ours; and the size of a difference is no such number: a proxy's are judged by the same sizes,
    and decide nothing.
    """
    limited = (c.test == "bound" or c.limit is not None) and c.metric.endswith("_error")
    return c.published is not None or limited or c.metric in ONSETS


def _judge(claims: Claims, claim: Claim, examined: list[Finding], scale: str) -> Judgement:
    if claim.undecidable:
        return Judgement(scale, "not decidable here", ())
    declared = [f for f in examined if f.comparison.decides and f.comparison.test != "count"]
    tested = [f for f in declared if f.tested]
    adjusted = holm([f.outcome.p_fails for f in tested if f.outcome.p_fails is not None], len(declared))
    corrected = {id(f): p for f, p in zip(tested, adjusted, strict=True)}
    findings = []
    for finding in examined:
        outcome = finding.outcome
        # What decides nothing is none of the tests, and stands by its own p.
        p_fails = corrected.get(id(finding), outcome.p_fails)
        status, because = _settle(claims, finding, p_fails)
        p = p_fails if status == "fails" or not outcome.supports else outcome.p_holds
        plan = planned(claims, finding.comparison) if scale == "paper" else None
        findings.append(replace(finding, status=status, because=because, p=p, tests=len(declared), planned=plan))
    return Judgement(scale, _together(findings), tuple(findings))


def _settle(claims: Claims, finding: Finding, p_fails: float | None) -> tuple[Status, str]:
    outcome, groups = finding.outcome, finding.groups
    if empty := [group.label for group in groups if not group.values]:
        return "not run", f"no run of {', '.join(empty)}"
    if outcome.exact:
        return ("holds" if outcome.fits else "fails"), ""
    if lacking := [f"{group.label} {len(group.values)} of {group.needed}" for group in groups if group.missing]:
        return "inconclusive", f"too few seeds: {', '.join(lacking)}"
    if p_fails is None or outcome.p_holds is None:
        return "inconclusive", outcome.obstacle
    # Before what holds: an effect that is sure and shown to be smaller than any of interest is not the paper's.
    if p_fails < claims.alpha:
        return "fails", outcome.refuted
    if finding.comparison.test == "value":
        if outcome.compatible:
            return "holds", "the published value lies within the interval"
        return "inconclusive", "the interval is too wide to say anything"
    if outcome.p_holds >= claims.alpha:
        return "inconclusive", ""
    return ("inconclusive", outcome.obstacle) if outcome.obstacle else ("holds", "")


def _together(findings: Sequence[Finding]) -> Status:
    deciding = [finding for finding in findings if finding.comparison.decides]
    statuses = {finding.status for finding in deciding}
    if "fails" in statuses:
        return "fails"
    # A net can be counted without a run: that alone does not make a claim about runs an open question.
    if {finding.status for finding in deciding if finding.groups} == {"not run"}:
        return "not run"
    return next(iter(statuses)) if len(statuses) == 1 else "inconclusive"
