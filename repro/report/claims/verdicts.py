"""The verdict on every claim of the paper: holds, fails, inconclusive or not run, with all that it rests on.

A claim holds where every comparison that decides it shows what it says, and fails where one shows the contrary; what
shows neither is inconclusive. That all hold by chance is rarer than that one does, so each stands by its own p. That
one of several fails by chance is more frequent than that a given one does, so these p are corrected by Holm. Only runs
of the paper's full recipe decide. Those of ``scale=demo`` go through the same rules and stand beside it as a proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repro.papers.claims import Claim, Claims, Comparison, Group, load_claims
from repro.report.claims.comparisons import Outcome, compute
from repro.report.claims.evidence import Evidence, Problem, Seeds, gather, usable
from repro.report.claims.power import Planned, planned
from repro.report.claims.quantities import ONSETS
from repro.report.claims.statistics import holm
from repro.results.read import Reading, Record

Status = Literal["holds", "fails", "inconclusive", "not run", "not decidable here"]

STATUSES: tuple[Status, ...] = ("holds", "fails", "inconclusive", "not run", "not decidable here")
PROXIES = ("tenth", "demo")
"""Scales whose runs are shown beside a verdict, the largest budget first. They decide nothing."""


@dataclass(frozen=True)
class GroupFigures:
    """One group of a comparison: its seeds with their values, their mean and std (n-1).

    ``command`` trains the seeds that are ``missing``; empty where none is.
    """

    label: str
    needed: int
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    values: tuple[float, ...]
    mean: float | None
    std: float | None
    missing: tuple[int, ...]
    command: str


@dataclass(frozen=True)
class Finding:
    """One comparison with its figures; ``because`` explains a status that the figures alone do not.

    ``p`` is the one that the status rests on: of what it shows, or, corrected by Holm for the ``tests`` of the claim,
    of the contrary. ``tested`` where all seeds are there and a test was made. ``planned`` is the power beforehand.
    """

    comparison: Comparison
    status: Status
    because: str
    groups: tuple[GroupFigures, ...]
    outcome: Outcome
    p: float | None
    tests: int
    tested: bool
    planned: Planned | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """A claim's status at one scale, and its findings."""

    scale: str
    status: Status
    findings: tuple[Finding, ...]

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(id for f in self.findings for group in f.groups for id in group.run_ids))


@dataclass(frozen=True)
class Verdict:
    """What became of one claim.

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
        """Whether committed evidence is refused or was made from uncommitted code."""
        return any(problem.breaks for problem in self.problems)

    def count(self, status: Status) -> int:
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def tested(self) -> int:
        """The claims on which all runs are there and a test was made."""
        deciding = [[f for f in v.judgement.findings if f.comparison.decides] for v in self.verdicts]
        return sum(
            any(f.tested for f in findings) and all(f.tested or f.outcome.exact for f in findings)
            for findings in deciding
        )


def check(reading: Reading, published: Path | None = None) -> Check:
    """A verdict on every claim of ``experiments/claims.toml``.

    Args:
        published: The folder of committed records, which must be without fault; None where all of them are.

    Raises:
        InputError: The claims' file does not fit.
    """
    claims = load_claims()
    records, problems = usable(reading, published)
    verdicts = []
    for claim in claims.claims:
        measured = _examine(claims, claim, records, "paper")
        proxy = _proxy(claims, claim, records)
        verdicts.append(Verdict(claim, _judge(claims, claim, measured, "paper"), proxy))
    return Check(claims, tuple(verdicts), tuple(problems))


def _proxy(claims: Claims, claim: Claim, records: Sequence[Record]) -> Judgement | None:
    """Judge a claim at the largest reduced budget that has all its runs, else at the largest that has some."""
    found = []
    for scale in PROXIES:
        examined = _examine(claims, claim, records, scale)
        if _any_run(examined):
            found.append(_judge(claims, claim, examined, scale))
    return min(found, key=lambda judgement: judgement.status == "not run", default=None)


@dataclass(frozen=True)
class _Examined:
    """A comparison with its evidence and outcome; ``tested`` where it is complete and has a p."""

    comparison: Comparison
    evidence: Evidence
    outcome: Outcome
    empty: bool

    @property
    def short(self) -> bool:
        return any(group.missing for group in self.evidence.groups)

    @property
    def tested(self) -> bool:
        return not self.short and self.outcome.p_fails is not None


def _examine(claims: Claims, claim: Claim, records: Sequence[Record], scale: str) -> list[_Examined]:
    examined = []
    for c in claim.comparisons:
        if scale != "paper" and _holds_against_the_paper(c):
            continue  # a reduced run beside a published value says nothing
        of_net = c.metric in ("params", "macs")
        evidence = Evidence(scale, (), ()) if of_net else gather(claims, c, records, scale)
        empty = not of_net and any(not group.values for group in evidence.groups)
        outcome = Outcome() if empty else compute(claims, c, evidence)
        examined.append(_Examined(c, evidence, outcome, empty))
    return examined


def _holds_against_the_paper(c: Comparison) -> bool:
    """Whether a limit of errors or of epochs is part of ``c``, which is one of the paper's budget.

    Limits of signals are ours; and the size of a difference is no such number: a proxy's are judged by the same sizes,
    and decide nothing.
    """
    limited = (c.test == "bound" or c.limit is not None) and c.metric.endswith("_error")
    return c.published is not None or limited or c.metric in ONSETS


def _any_run(examined: list[_Examined]) -> bool:
    return any(group.values for e in examined for group in e.evidence.groups)


def _judge(claims: Claims, claim: Claim, examined: list[_Examined], scale: str) -> Judgement:
    if claim.undecidable:
        return Judgement(scale, "not decidable here", ())
    declared = [e for e in examined if e.comparison.decides and e.comparison.test != "count"]
    tested = [e for e in declared if e.tested]
    adjusted = holm([e.outcome.p_fails for e in tested if e.outcome.p_fails is not None], len(declared))
    corrected = {id(e): p for e, p in zip(tested, adjusted, strict=True)}
    findings = []
    for e in examined:
        # What decides nothing is none of the tests, and stands by its own p.
        p_fails = corrected.get(id(e), e.outcome.p_fails)
        status, because = _settle(claims, e, p_fails)
        p = p_fails if status == "fails" or not e.outcome.supports else e.outcome.p_holds
        figures = tuple(_figures(claims, group, scale) for group in e.evidence.groups)
        plan = planned(claims, e.comparison) if scale == "paper" else None
        findings.append(
            Finding(
                e.comparison, status, because, figures, e.outcome, p, len(declared), e.tested, plan, e.evidence.notes
            )
        )
    return Judgement(scale, _together(findings), tuple(findings))


def _settle(claims: Claims, e: _Examined, p_fails: float | None) -> tuple[Status, str]:
    outcome = e.outcome
    if e.empty:
        return "not run", "no run of " + ", ".join(g.group.label for g in e.evidence.groups if not g.values)
    if outcome.exact:
        return ("holds" if outcome.fits else "fails"), ""
    if e.short:
        lacking = [f"{g.group.label} {len(g.values)} of {g.needed}" for g in e.evidence.groups if g.missing]
        return "inconclusive", f"too few seeds: {', '.join(lacking)}"
    if p_fails is None or outcome.p_holds is None:
        return "inconclusive", outcome.obstacle
    # Before what holds: an effect that is sure and shown to be smaller than any of interest is not the paper's.
    if p_fails < claims.alpha:
        return "fails", outcome.refuted
    if e.comparison.test == "value":
        return _settle_value(outcome)
    if outcome.p_holds >= claims.alpha:
        return "inconclusive", ""
    return ("inconclusive", outcome.obstacle) if outcome.obstacle else ("holds", "")


def _settle_value(outcome: Outcome) -> tuple[Status, str]:
    if outcome.compatible:
        return "holds", "the published value lies within the interval"
    return "inconclusive", "the interval is too wide to say anything"


def _together(findings: Sequence[Finding]) -> Status:
    deciding = [finding for finding in findings if finding.comparison.decides]
    statuses = {finding.status for finding in deciding}
    if "fails" in statuses:
        return "fails"
    # A net can be counted without a run: that alone does not make a claim about runs an open question.
    if {finding.status for finding in deciding if finding.groups} == {"not run"}:
        return "not run"
    return next(iter(statuses)) if len(statuses) == 1 else "inconclusive"


def _figures(claims: Claims, seeds: Seeds, scale: str) -> GroupFigures:
    there = bool(seeds.values)
    return GroupFigures(
        seeds.group.label,
        seeds.needed,
        seeds.seeds,
        seeds.run_ids,
        seeds.values,
        seeds.sample.mean if there else None,
        seeds.sample.std if there else None,
        seeds.missing,
        command(claims, seeds.group, seeds.missing, scale) if seeds.missing else "",
    )


def command(claims: Claims, group: Group, seeds: Sequence[int], scale: str) -> str:
    """The command that trains these seeds of ``group``."""
    words = (claims.words if scale == "paper" else claims.proxy_words)[group.recipe]
    if scale != "paper" and group.proxy_experiment:
        words = f"exp={group.proxy_experiment} {words}"
    fields = [f"{key}={_word(value)}" for key, value in group.run.items()]
    return " ".join(filter(None, ["repro run", words, *fields, f"seed={','.join(map(str, seeds))}"]))


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "")
