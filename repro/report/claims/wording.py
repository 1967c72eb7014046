"""Verdicts as short text: means, differences, p-values."""

from __future__ import annotations

from repro.report.claims.comparisons import TestResult
from repro.report.claims.evidence import CONFOUNDED, Seeds
from repro.report.claims.metrics import unit_of
from repro.report.claims.verdicts import STATUSES, Finding, Judgement, Verdict

NONE = "–"
BUDGETS = {"tenth": "at a tenth of the budget", "demo": "at demo scale"}
POINTS: dict[str, str] = {"holds": "as the paper reports", "fails": "against the paper", "inconclusive": "neither way"}
"""Directions in which a proxy points; it decides nothing."""


def number(value: float, digits: int, sign: str = "") -> str:
    return f"{round(value, digits) + 0.0:{sign},.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """Write ``p = 0.012``, two digits; a permutation test goes down to 0.0001 only, so no p is written as smaller."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def percent(share: float) -> str:
    """Write ``83 %``; never 100 %, which no power is."""
    return "above 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def mean_text(group: Seeds, digits: int) -> str:
    """Write ``7.05 ± 0.12``: mean and standard deviation over the seeds; empty without any."""
    sample = group.sample
    if sample is None:
        return ""
    return number(sample.mean, digits) + ("" if sample.std is None else f" ± {number(sample.std, digits)}")


def group_text(group: Seeds, digits: int, unit: str = "") -> str:
    """Write ``plain-20 7.05 ± 0.12 (n=5)``."""
    mean = mean_text(group, digits)
    return f"{group.label} {mean}{unit} (n={len(group.values)})" if mean else f"{group.label} {NONE}"


def groups_text(finding: Finding) -> str:
    """Write the groups that have runs."""
    unit = unit_of(finding.comparison.metric)
    return ", ".join(group_text(group, unit.digits) for group in finding.groups if group.values) + unit.text


def numbers_text(finding: Finding) -> str:
    """Write the exact numbers that were counted."""
    unit = unit_of(finding.comparison.metric)
    return ", ".join(number(value, unit.digits) for value in finding.outcome.numbers) + unit.text


def finding_text(finding: Finding) -> str:
    """Write one comparison in one line."""
    outcome = finding.outcome
    if finding.status == "not run":
        return "not run"
    if outcome.exact:
        text = numbers_text(finding)
        return f"{text} ({sum(len(group.values) for group in finding.groups)} runs)" if finding.groups else text
    effect = effect_text(outcome, unit_of(finding.comparison.metric).digits)
    p = "" if finding.p is None else p_value(finding.p)
    return "; ".join(filter(None, [effect, groups_text(finding), p, finding.because]))


def effect_text(outcome: TestResult, digits: int) -> str:
    """Write ``difference +2.85 (95 %: +2.61 to +3.09), published +2.85, as published``; empty without a difference."""
    if outcome.difference is None:
        return ""
    low, high = (number(end, digits, "+") for end in outcome.interval or (0.0, 0.0))
    share = f"{outcome.confidence:.0%}".replace("%", " %")
    parts = [f"difference {number(outcome.difference, digits, '+')} ({share}: {low} to {high})"]
    if outcome.beside is not None:
        parts += [f"published {number(outcome.beside.effect, digits, '+')}", outcome.beside.size]
    return ", ".join(filter(None, parts))


def verdict_text(verdict: Verdict) -> str:
    """Write in one line why the verdict is so; before it is decided also that its seeds are too few."""
    if verdict.claim.undecidable:
        return verdict.claim.undecidable
    text, weak = judgement_text(verdict.judgement), ""
    plans = [f.planned for f in verdict.judgement.deciding if f.planned is not None and f.planned.underpowered]
    if plans and verdict.status not in ("holds", "fails"):
        weak = f"underpowered beforehand ({percent(min(plan.power or 0.0 for plan in plans))})"
    return f"{weak}; {text}" if weak and text != NONE else weak or text


def proxy_text(verdict: Verdict) -> str:
    """Say in one line where the runs of a reduced budget point, with the values of the comparison that shows it."""
    proxy = verdict.proxy
    if proxy is None or proxy.status not in POINTS:
        return NONE
    return f"{BUDGETS[proxy.scale]}, {POINTS[proxy.status]}: {judgement_text(proxy)}"


def judgement_text(judgement: Judgement) -> str:
    """Write the comparison that the verdict hangs on in one line, and how many more there are."""
    deciding = judgement.deciding
    if not deciding:
        return NONE
    if judgement.status == "not run":
        begun = [finding for finding in deciding if any(group.values for group in finding.groups)]
        there = [f"{finding.comparison.name}: {groups_text(finding)}" for finding in begun]
        return f"so far {'; '.join(there)}" if there else NONE
    # Its own status, or for want of one the least decided.
    order = [judgement.status, "inconclusive", "not run", *STATUSES]
    first = min(deciding, key=lambda finding: order.index(finding.status))
    more = len(deciding) - 1
    others = f" (+{more} more comparison{'s' if more > 1 else ''})" if more else ""
    notes = [note for finding in deciding for note in finding.notes]
    confounded = f"; {CONFOUNDED}" if any(note.startswith(CONFOUNDED) for note in notes) else ""
    return f"{first.comparison.name}: {finding_text(first)}{others}{confounded}"
