"""Verdicts on the paper's claims, with their evidence.

A claim holds if all its deciding comparisons hold, and fails if one of them shows the opposite; otherwise it is
inconclusive. Several comparisons all hold by chance less often than one, so p-values for holding are not corrected. One
of several fails by chance more often than a given one, so p-values for failing are corrected (Holm). Only runs of the
paper's full recipe decide. Reduced runs follow the same rules and are shown beside a verdict as a proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from repro.papers.claims import Claim, Claims, Comparison, load_claims
from repro.papers.toml_files import FIRST
from repro.report.claims.absent import PROXIES, absent
from repro.report.claims.comparisons import TestResult, compute
from repro.report.claims.evidence import Gathered, Problem, Seeds, gather, usable
from repro.report.claims.metrics import OF_NET, ONSETS, Unit, unit_of
from repro.report.claims.power import Planned, planned
from repro.report.claims.statistics import holm
from repro.results.read import AnyRecord, Reading

Status = Literal["holds", "fails", "inconclusive", "not run", "not decidable here"]

STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Finding:
    """One comparison with its groups and test; ``because`` explains the status if the numbers do not.

    ``p`` is the p-value for holding or, corrected for the ``tests`` of the claim (Holm), for failing. ``planned`` is
    the power before any run. ``notes`` name the records that were left out.
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
        """True if all seeds exist and a test was made."""
        return not any(group.missing for group in self.groups) and self.outcome.p_fails is not None

    @property
    def unit(self) -> Unit:
        """The unit of the difference, which layer by layer is one of their share."""
        return Unit(1, " % of the layers") if self.comparison.test == "layerwise" else unit_of(self.comparison.metric)


@dataclass(frozen=True)
class Judgement:
    """A claim's status at one scale, and its findings; ``left_out`` deciding parts need the paper's budget."""

    scale: str
    status: Status
    findings: tuple[Finding, ...]
    left_out: int = 0

    @property
    def deciding(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.comparison.decides]

    @property
    def complete(self) -> bool:
        """True if no deciding comparison lacks a seed."""
        return not any(group.missing for finding in self.deciding for group in finding.groups)

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(id for f in self.findings for group in f.groups for id in group.run_ids))

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands that train the missing runs."""
        return tuple(dict.fromkeys(group.command for f in self.findings for group in f.groups if group.command))


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim; ``proxy`` judges it at the largest of ``PROXIES`` with runs, None if there is none."""

    claim: Claim
    judgement: Judgement
    proxy: Judgement | None

    @property
    def status(self) -> Status:
        return self.judgement.status

    @property
    def shown_proxy(self) -> Judgement | None:
        """The proxy if all its groups have runs."""
        return self.proxy if self.proxy and self.proxy.status != "not run" else None

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs behind the verdict, then those behind its proxy."""
        return self.judgement.run_ids + (self.shown_proxy.run_ids if self.shown_proxy else ())


@dataclass(frozen=True)
class Check:
    """All verdicts, and the records that none of them uses."""

    claims: Claims
    verdicts: tuple[Verdict, ...]
    problems: tuple[Problem, ...]

    @property
    def broken(self) -> bool:
        """True if a committed record is invalid or was made from uncommitted code."""
        return any(problem.breaks for problem in self.problems)

    def exit_code(self, strict: bool = False) -> int:
        """Return 1 if committed evidence is broken or, with ``strict``, if a claim fails; otherwise 0."""
        return int(self.broken or (strict and self.count("fails") > 0))

    def count(self, status: Status) -> int:
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def tested(self) -> int:
        """Number of claims with all runs and at least one test."""
        deciding = [verdict.judgement.deciding for verdict in self.verdicts]
        whole = [found for found in deciding if all(f.tested or f.outcome.exact for f in found)]
        return sum(any(f.tested for f in found) for found in whole)


def check(reading: Reading, published: Path | None = None, folders: Sequence[Path] = (), paper: str = FIRST) -> Check:
    """Judge every claim of ``experiments/<paper>/claims.toml``.

    Args:
        published: Folder of committed records, which must be valid; None if all records are committed.
        folders: Folders that are searched for failed runs.
    """
    claims = load_claims(paper)
    records, problems = usable(reading, published)
    verdicts = []
    for claim in claims.claims:
        judgement = _judge(claims, claim, _examine(claims, claim, records, "paper"), "paper")
        verdicts.append(Verdict(claim, judgement, _proxy(claims, claim, records)))
    problems += absent(claims, [*reading.records, *reading.detectors, *reading.localizers], folders, published)
    return Check(claims, tuple(verdicts), tuple(problems))


def check_papers(
    papers: Sequence[str], reading: Reading, published: Path | None = None, folders: Sequence[Path] = ()
) -> list[Check]:
    """Judge the claims of several papers; a record that all of them leave out is a problem of the first one alone."""
    checks: list[Check] = []
    named: set[Problem] = set()
    for paper in papers:
        found = check(reading, published, folders, paper)
        checks.append(replace(found, problems=tuple(p for p in found.problems if p not in named)))
        named |= set(found.problems)
    return checks


def _proxy(claims: Claims, claim: Claim, records: Sequence[AnyRecord]) -> Judgement | None:
    """Judge a claim at the largest reduced budget with all its seeds, else with runs of each net, else with any run."""
    examined = {scale: _examine(claims, claim, records, scale) for scale in PROXIES}
    begun = {s: found for s, found in examined.items() if any(group.values for f in found for group in f.groups)}
    left_out = sum(c.decides and _needs_the_budget(c) for c in claim.comparisons)
    judged = [replace(_judge(claims, claim, found, scale), left_out=left_out) for scale, found in begun.items()]
    return min(judged, key=lambda judgement: (not judgement.complete, judgement.status == "not run"), default=None)


def _examine(claims: Claims, claim: Claim, records: Sequence[AnyRecord], scale: str) -> list[Finding]:
    examined = []
    for c in claim.comparisons:
        if scale != "paper" and _needs_the_budget(c):
            continue  # a reduced run is not comparable with a published value
        groups, notes = Gathered() if c.metric in OF_NET else gather(claims, c, records, scale)
        empty = any(not group.values for group in groups)
        outcome = TestResult() if empty else compute(claims, c, groups)
        examined.append(Finding(c, groups, notes, outcome))
    return examined


def _needs_the_budget(c: Comparison) -> bool:
    """Return whether ``c`` has a published value or a limit on errors or epochs, valid only at the paper's budget.

    Limits on signals are ours, and sizes of differences are the same for proxies.
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
        # A comparison that decides nothing is not one of the tests, so its p-value is not corrected.
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
    # Failing is tested first: a certain effect below the smallest one of interest is not the paper's.
    if p_fails < claims.alpha:
        return "fails", outcome.refuted
    if finding.comparison.test == "value":
        if outcome.compatible:
            return "holds", "the published value lies within the interval"
        return "inconclusive", "the interval is too wide to decide"
    if outcome.p_holds >= claims.alpha:
        return "inconclusive", ""
    return ("inconclusive", outcome.obstacle) if outcome.obstacle else ("holds", "")


def _together(findings: Sequence[Finding]) -> Status:
    deciding = [finding for finding in findings if finding.comparison.decides]
    statuses = {finding.status for finding in deciding}
    if "fails" in statuses:
        return "fails"
    # Counts of a net need no run, so they alone do not make a claim about runs inconclusive.
    if {finding.status for finding in deciding if finding.groups} == {"not run"}:
        return "not run"
    return statuses.pop() if len(statuses) == 1 else "inconclusive"
