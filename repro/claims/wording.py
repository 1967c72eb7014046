"""The figures of a verdict as short text: means with their spread, differences, p-values."""

from __future__ import annotations

from repro.claims.quantities import scale_of
from repro.claims.verdicts import STATUSES, Finding, GroupFigures, Judgement, Verdict

MINUS = "−"
NONE = "–"


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
    parts = [", ".join(group_text(group, scale.digits) for group in finding.groups) + scale.unit]
    if finding.adjusted_p is not None or outcome.p is not None:
        parts.append(p_value(finding.adjusted_p if finding.adjusted_p is not None else outcome.p or 0.0))
    parts += [finding.because] if finding.because else []
    return "; ".join(parts)


def verdict_text(verdict: Verdict) -> str:
    """What the verdict hangs on, in one line."""
    return verdict.claim.undecidable or judgement_text(verdict.judgement)


def proxy_text(verdict: Verdict) -> str:
    """What became of it at demo scale, in one line."""
    proxy = verdict.proxy
    return NONE if proxy is None or proxy.status == "not run" else f"{proxy.status}: {judgement_text(proxy)}"


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
    return f"{first.comparison.name}: {finding_text(first)}{others}"


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
