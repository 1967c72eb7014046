"""Verdicts as short text: means, differences, p-values."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.claims.comparisons import TestResult
from repro.report.claims.evidence import CONFOUNDED, Seeds
from repro.report.claims.verdicts import STATUSES, Finding, Judgement, Verdict

NONE = "–"
BUDGETS = {"tenth": "at a tenth of the budget", "demo": "at demo scale"}
POINTS: dict[str, str] = {"holds": "as the paper reports", "fails": "against the paper", "inconclusive": "neither way"}
"""Directions in which a proxy points; it decides nothing."""


def number(value: float, digits: int, sign: str = "") -> str:
    return f"{round(value, digits) + 0.0:{sign},.{digits}f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """Return ``p = 0.012``, at least 0.0001 as in a permutation test; empty without a test."""
    if p is None:
        return ""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def percent(share: float) -> str:
    """Return ``83 %``; never 100 %, since no power reaches it."""
    return "above 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def mean_text(group: Seeds, digits: int) -> str:
    """Return ``7.05 ± 0.12``, mean and standard deviation over the seeds; empty without runs."""
    sample = group.sample
    if sample is None:
        return ""
    return number(sample.mean, digits) + ("" if sample.std is None else f" ± {number(sample.std, digits)}")


def group_text(group: Seeds, digits: int, unit: str = "") -> str:
    """Return ``plain-20 7.05 ± 0.12 (n=5)``."""
    mean = mean_text(group, digits)
    return f"{group.label} {mean}{unit} (n={len(group.values)})" if mean else f"{group.label} {NONE}"


def groups_text(finding: Finding) -> str:
    """Return the means of the groups that have runs, or the runs alone where layers are compared one by one."""
    if finding.comparison.test == "layerwise":
        return ", ".join(f"{group.label} (n={len(group.values)})" for group in finding.groups if group.values)
    digits, unit = finding.unit
    return ", ".join(group_text(group, digits) for group in finding.groups if group.values) + unit


def numbers_text(finding: Finding) -> str:
    """Return the exact numbers that were counted."""
    digits, unit = finding.unit
    return ", ".join(number(value, digits) for value in finding.outcome.numbers) + unit


def finding_text(finding: Finding) -> str:
    """Return one comparison in one line."""
    outcome = finding.outcome
    if finding.status == "not run":
        return finding.status
    if outcome.exact:
        runs = f" ({sum(len(group.values) for group in finding.groups)} runs)" if finding.groups else ""
        return numbers_text(finding) + runs
    values = outcome.measured or groups_text(finding)
    parts = [effect_text(outcome, finding.unit.digits), values, p_value(finding.p), finding.because]
    return "; ".join(filter(None, parts))


def evidence_text(finding: Finding) -> str:
    """Return the result of the test, the reason for the status, and the records that were left out."""
    outcome, p = finding.outcome, p_value(finding.p)
    if p and finding.status == "fails" and finding.comparison.decides and finding.tests > 1:
        p += f" (Holm, {finding.tests} tests)"
    parts = [numbers_text(finding)] if outcome.numbers else []
    parts += [effect_text(outcome, finding.unit.digits), outcome.test, outcome.measured, outcome.statistic, p]
    return "; ".join(filter(None, [*parts, finding.because, *finding.notes]))


def effect_text(outcome: TestResult, digits: int) -> str:
    """Return ``difference +2.85 (95 %: +2.61 to +3.09), published +2.85, as published``; empty without a difference."""
    if outcome.difference is None:
        return ""
    low, high = (number(end, digits, "+") for end in outcome.interval or (0.0, 0.0))
    share = f"{outcome.confidence:.0%}".replace("%", " %")
    parts = [f"difference {number(outcome.difference, digits, '+')} ({share}: {low} to {high})"]
    if outcome.beside is not None:
        parts += [f"published {number(outcome.beside.effect, digits, '+')}", outcome.beside.size]
    return ", ".join(filter(None, parts))


def sentence(verdicts: Sequence[Verdict]) -> str:
    """Return the number of claims per verdict, in one sentence."""
    one = {"holds": "holds", "fails": "fails", "inconclusive": "is inconclusive", "not run": "lacks runs"}
    many = {"holds": "hold", "fails": "fail", "inconclusive": "are inconclusive", "not run": "lack runs"}
    parts = []
    for status in STATUSES:
        found = [verdict for verdict in verdicts if verdict.status == status]
        count, counted = len(found), sum(not verdict.run_ids for verdict in found)
        if count or status in ("holds", "fails"):
            words = (one if count == 1 else many).get(status, "cannot be decided by runs of this project")
            if status == "holds" and counted:
                words += f" ({'all' if counted == count else counted} counted on the nets, without training)"
            parts.append(f"{count or 'none'} {words}")
    return f"Of the paper's {len(verdicts)} claims, {', '.join(parts[:-1])} and {parts[-1]}."


def verdict_text(verdict: Verdict) -> str:
    """Return the reason for a verdict in one line, with a note if the planned seeds give too little power."""
    if verdict.claim.undecidable:
        return verdict.claim.undecidable
    text, weak = judgement_text(verdict.judgement), ""
    plans = [f.planned for f in verdict.judgement.deciding if f.planned is not None and f.planned.underpowered]
    if plans and verdict.status not in ("holds", "fails"):
        weak = f"underpowered (power {percent(min(plan.power or 0.0 for plan in plans))})"
    return f"{weak}; {text}" if weak and text != NONE else weak or text


def proxy_text(verdict: Verdict) -> str:
    """Return in one line the direction in which reduced runs point, with the values of the decisive comparison."""
    proxy = verdict.shown_proxy
    if proxy is None or proxy.status not in POINTS:
        return NONE
    return f"{BUDGETS[proxy.scale]}, {POINTS[proxy.status]}: {judgement_text(proxy)}"


def judgement_text(judgement: Judgement) -> str:
    """Return the decisive comparison of a verdict in one line, and the number of others."""
    deciding = judgement.deciding
    if not deciding:
        return NONE
    if judgement.status == "not run":
        begun = [finding for finding in deciding if any(group.values for group in finding.groups)]
        there = [f"{finding.comparison.name}: {groups_text(finding)}" for finding in begun]
        return f"so far {'; '.join(there)}" if there else NONE
    # A comparison with the status of the verdict, or else the least decided one.
    order = [judgement.status, "inconclusive", "not run", *STATUSES]
    first = min(deciding, key=lambda finding: order.index(finding.status))
    more = len(deciding) - 1
    others = f" (+{more} more comparison{'s' if more > 1 else ''})" if more else ""
    notes = [note for finding in deciding for note in finding.notes]
    confounded = f"; {CONFOUNDED}" if any(note.startswith(CONFOUNDED) for note in notes) else ""
    lacking = f"; {judgement.left_out} part{'s' if judgement.left_out > 1 else ''} only at the paper's budget"
    lacking = lacking if judgement.left_out else ""
    return f"{first.comparison.name}: {finding_text(first)}{others}{lacking}{confounded}"
