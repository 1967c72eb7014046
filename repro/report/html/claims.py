"""Verdicts of the page: claims, comparisons, values, tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

from repro.papers import figure_numbers, table_numbers
from repro.report.claims.metrics import unit_of
from repro.report.claims.verdicts import Check, Finding, Judgement, Verdict
from repro.report.claims.wording import effect_text, group_text, numbers_text, p_value
from repro.report.html.view_models import CellView, ClaimView, EvidenceView, Link

PLACE = re.compile(r"(Table|Figure)s? (\d+)(?: and (\d+))?")


def claim_views(check: Check) -> list[ClaimView]:
    """Lay out all claims in the order of ``experiments/resnet/claims.toml``."""
    return [_claim(verdict) for verdict in check.verdicts]


def _claim(verdict: Verdict) -> ClaimView:
    claim, proxy = verdict.claim, verdict.proxy
    if proxy is not None and proxy.status == "not run":
        proxy = None
    return ClaimView(
        anchor=f"claim-{claim.id}",
        id=claim.id,
        text=claim.text,
        where=claim.where,
        status=verdict.status,
        reason=claim.undecidable,
        evidence=_evidence(verdict.judgement),
        proxy_status=proxy.status if proxy else "",
        proxy=_evidence(proxy) if proxy else (),
        commands=tuple(dict.fromkeys(g.command for f in verdict.judgement.findings for g in f.groups if g.command)),
        links=tuple(places(claim.where)),
    )


def places(where: str) -> list[Link]:
    """Link the tables and figures of this page that ``where`` names: ``Table 2, Figures 1 and 4``."""
    shown = {"Table": table_numbers(), "Figure": figure_numbers()}
    named = [(kind, int(number)) for kind, *numbers in PLACE.findall(where) for number in numbers if number]
    return [Link(f"{kind.lower()}-{number}", f"{kind} {number}") for kind, number in named if number in shown[kind]]


def _evidence(judgement: Judgement) -> tuple[EvidenceView, ...]:
    return tuple(
        EvidenceView(
            found.comparison.name + ("" if found.comparison.decides else " (shown, decides nothing)"),
            found.status,
            tuple(_groups(found)),
            _sentence(found),
        )
        for found in judgement.findings
    )


def _groups(found: Finding) -> Iterator[CellView]:
    unit = unit_of(found.comparison.metric)
    for group in found.groups:
        if group.values:
            yield CellView(group_text(group, unit.digits, unit.text), group.run_ids)


def _sentence(found: Finding) -> str:
    """Say what the test found, then what explains the status, then what was left out."""
    outcome = found.outcome
    parts = [numbers_text(found)] if outcome.numbers else []
    parts += [effect_text(outcome, unit_of(found.comparison.metric).digits), outcome.test, outcome.statistic]
    if found.p is not None:
        corrected = found.status == "fails" and found.comparison.decides and found.tests > 1
        parts.append(f"{p_value(found.p)} (Holm, {found.tests} tests)" if corrected else p_value(found.p))
    return "; ".join(filter(None, [*parts, found.because, *found.notes]))
