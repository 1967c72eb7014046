"""The figures of a verdict as short text: means with their spread, differences, p-values."""

from __future__ import annotations

from repro.report.claims.comparisons import Outcome
from repro.report.claims.evidence import CONFOUNDED
from repro.report.claims.quantities import scale_of
from repro.report.claims.verdicts import STATUSES, Finding, GroupFigures, Judgement, Verdict

MINUS = "−"
NONE = "–"
BUDGETS = {"tenth": "at a tenth of the budget", "demo": "at demo scale"}
POINTS: dict[str, str] = {"holds": "as the paper reports", "fails": "against the paper", "inconclusive": "neither way"}
"""Where a proxy points; it decides nothing."""


def number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+,.{digits}f}".replace("-", MINUS)


def p_value(p: float) -> str:
    """``p = 0.012``, two digits; a permutation test goes down to 0.0001 only, so no p is written as smaller."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def group_text(group: GroupFigures, digits: int) -> str:
    """``plain-20 7.05 ± 0.12 (n=5)``: mean and standard deviation over the seeds."""
    if group.mean is None:
        return f"{group.label} {NONE}"
    spread = "" if group.std is None else f" ± {number(group.std, digits)}"
    return f"{group.label} {number(group.mean, digits)}{spread} (n={len(group.values)})"


def finding_text(finding: Finding) -> str:
    """One comparison in one line."""
    scale, outcome = scale_of(finding.comparison.metric), finding.outcome
    if finding.status == "not run":
        return "not run"
    if outcome.exact:
        text = ", ".join(number(value, scale.digits) for value in outcome.numbers) + scale.unit
        return f"{text} ({sum(len(group.values) for group in finding.groups)} runs)" if finding.groups else text
    parts = [effect_text(outcome, scale.digits)] if outcome.difference is not None else []
    parts.append(", ".join(group_text(group, scale.digits) for group in finding.groups) + scale.unit)
    parts += [p_value(finding.p)] if finding.p is not None else []
    parts += [finding.because] if finding.because else []
    return "; ".join(parts)


def effect_text(outcome: Outcome, digits: int) -> str:
    """``difference +2.85 (95 %: +2.61 to +3.09), published +2.85, as published``: ours beside the paper's."""
    low, high = (signed(end, digits) for end in outcome.interval or (0.0, 0.0))
    parts = [f"difference {signed(outcome.difference or 0.0, digits)} ({outcome.confidence:.0%}: {low} to {high})"]
    if outcome.beside is not None:
        parts.append(f"published {signed(outcome.beside.effect, digits)}")
        parts += [outcome.beside.size] if outcome.beside.size else []
    return ", ".join(parts).replace("%:", " %:")


def bayes_factor(factor: float) -> str:
    """``12``, two digits; beyond 1,000 either way its size says no more than that."""
    if factor > 1000:
        return "above 1,000"
    return "below 0.001" if factor < 0.001 else f"{factor:.2g}"


def percent(share: float) -> str:
    """``83 %``; never 100 %, which no power is."""
    return "above 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def power_text(judgement: Judgement) -> str:
    """Which comparison the planned seeds are too few for, in a few words; empty where there is none."""
    weak = [f for f in judgement.findings if f.comparison.decides and f.planned is not None and f.planned.underpowered]
    powers = [f.planned.power or 0.0 for f in weak if f.planned is not None]
    return f"underpowered beforehand ({percent(min(powers))})" if powers else ""


def verdict_text(verdict: Verdict) -> str:
    """What the verdict hangs on, in one line, and before it is decided also that its seeds are too few."""
    if verdict.claim.undecidable:
        return verdict.claim.undecidable
    weak = "" if verdict.status in ("holds", "fails") else power_text(verdict.judgement)
    text = judgement_text(verdict.judgement)
    return f"{weak}; {text}" if weak and text != NONE else weak or text


def proxy_text(verdict: Verdict) -> str:
    """Say in one line where the runs of a reduced budget point, with the values of the comparison that shows it."""
    proxy = verdict.proxy
    if proxy is None or proxy.status not in POINTS:
        return NONE
    return f"{BUDGETS[proxy.scale]}, {POINTS[proxy.status]}: {judgement_text(proxy)}"


def judgement_text(judgement: Judgement) -> str:
    """The comparison that the verdict hangs on, in one line, and how many more there are."""
    deciding = [finding for finding in judgement.findings if finding.comparison.decides]
    if not deciding:
        return NONE
    if judgement.status == "not run":
        there = [text for finding in deciding if (text := _there(finding))]
        return f"so far {'; '.join(there)}" if there else NONE
    first = next(f for f in deciding if f.status == _hangs_on(judgement, deciding))
    more = len(deciding) - 1
    others = f" (+{more} more comparison{'s' * (more > 1)})" if more else ""
    notes = [note for finding in deciding for note in finding.notes]
    confounded = f"; {CONFOUNDED}" if any(note.startswith(CONFOUNDED) for note in notes) else ""
    return f"{first.comparison.name}: {finding_text(first)}{others}{confounded}"


def _there(finding: Finding) -> str:
    """The groups of a comparison that have runs; empty where none has."""
    scale = scale_of(finding.comparison.metric)
    groups = [group_text(group, scale.digits) for group in finding.groups if group.values]
    return f"{finding.comparison.name}: {', '.join(groups)}{scale.unit}" if groups else ""


def _hangs_on(judgement: Judgement, deciding: list[Finding]) -> str:
    """The status of the findings that made the verdict: its own, or for want of one the least decided."""
    statuses = {finding.status for finding in deciding}
    order = [judgement.status, "inconclusive", "not run", *STATUSES]
    return next(status for status in order if status in statuses)
