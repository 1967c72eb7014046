"""The verdicts for the page: each claim with its comparisons, the values of their runs and what the tests said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from repro.papers import figure_numbers, table_numbers
from repro.report.claims.quantities import scale_of
from repro.report.claims.verdicts import Check, Judgement, Verdict
from repro.report.claims.verdicts import Finding as Found
from repro.report.claims.wording import effect_text, group_text, number, p_value
from repro.report.html.view_models import Cell, Comparison, Finding, Link

PLACE = re.compile(r"(Table|Figure)s? (\d+)(?: and (\d+))?")


def findings(check: Check) -> list[Finding]:
    """All claims in the order of ``experiments/claims.toml``."""
    return [_finding(verdict) for verdict in check.verdicts]


def _finding(verdict: Verdict) -> Finding:
    claim, proxy = verdict.claim, verdict.proxy
    if proxy is not None and proxy.status == "not run":
        proxy = None
    return Finding(
        f"claim-{claim.id}",
        claim.id,
        claim.text,
        claim.where,
        verdict.status,
        claim.undecidable,
        _comparisons(verdict.judgement),
        proxy.status if proxy else "",
        _comparisons(proxy) if proxy else (),
        tuple(dict.fromkeys(g.command for f in verdict.judgement.findings for g in f.groups if g.command)),
        tuple(places(claim.where)),
    )


def places(where: str) -> list[Link]:
    """The tables and figures of this page that ``where`` names: ``Table 2, Figures 1 and 4``."""
    shown = {"Table": table_numbers(), "Figure": figure_numbers()}
    named = [(kind, int(number)) for kind, *numbers in PLACE.findall(where) for number in numbers if number]
    return [Link(f"{kind.lower()}-{number}", f"{kind} {number}") for kind, number in named if number in shown[kind]]


def _comparisons(judgement: Judgement) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(
            found.comparison.name + ("" if found.comparison.decides else " (shown, decides nothing)"),
            found.status,
            tuple(_groups(found)),
            _sentence(found),
        )
        for found in judgement.findings
    )


def _groups(found: Found) -> Iterator[Cell]:
    scale = scale_of(found.comparison.metric)
    for group in found.groups:
        if group.mean is not None:
            yield Cell(group_text(group, scale.digits).replace(" (n=", f"{scale.unit} (n="), group.run_ids)


def _sentence(found: Found) -> str:
    """What the test said, then what explains the status, then what was left out."""
    outcome, scale = found.outcome, scale_of(found.comparison.metric)
    parts = []
    if outcome.numbers:
        parts.append(", ".join(number(value, scale.digits) for value in outcome.numbers) + scale.unit)
    if outcome.difference is not None:
        parts.append(effect_text(outcome, scale.digits))
    parts += [part for part in (outcome.test, outcome.statistic) if part]
    if found.p is not None:
        corrected = found.status == "fails" and found.comparison.decides and found.tests > 1
        parts.append(f"{p_value(found.p)} (Holm, {found.tests} tests)" if corrected else p_value(found.p))
    parts += [found.because] if found.because else []
    return "; ".join([*parts, *found.notes])
