"""Verdicts for people and for programs: a table for the terminal, one claim in full, Markdown, JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from repro.report.claims.explained import WIDTH, explained
from repro.report.claims.verdicts import STATUSES, Check, Verdict
from repro.report.claims.wording import BUDGETS, NONE, POINTS, proxy_text, verdict_text

PROXY_HEADER = "reduced runs (a proxy, no verdict)"
CELL = 110
"""Characters of a cell of the terminal's table; the rest stands where one claim is shown in full."""


def to_text(check: Check) -> str:
    """One line a claim, the verdicts counted below, and what was left out."""
    rows = [
        [v.status, v.claim.id, *(textwrap.shorten(t, CELL, placeholder=" …") for t in (verdict_text(v), proxy_text(v)))]
        for v in check.verdicts
    ]
    header = ["verdict", "claim", "figures", PROXY_HEADER]
    table = tabulate(rows, header, tablefmt="simple", disable_numparse=True)
    lines = [
        table,
        "",
        _counts(check),
        *pointing(check),
        *_wrapped(chance(check)),
        "One claim in full: repro check CLAIM",
    ]
    return "\n".join([*lines, *_problems(check), ""])


def to_markdown(check: Check) -> str:
    """Tables by verdict, with links to the runs in the folder ``runs`` beside the file."""
    parts = [
        "# The paper's claims",
        "",
        f"{' '.join([_counts(check), *pointing(check), chance(check)])} "
        f"A claim holds where all its comparisons do, each at {check.claims.alpha:g}, "
        "and fails where one does, corrected by Holm for their number. Direction decides; the published size stands "
        "beside ours. Only runs of the paper's full recipe decide; what reduced runs show is a proxy. "
        "`repro check CLAIM` explains one in full.",
    ]
    for status in STATUSES:
        verdicts = [verdict for verdict in check.verdicts if verdict.status == status]
        if not verdicts:
            continue
        header = ["claim", "where", "figures", PROXY_HEADER, "runs"]
        if status == "not decidable here":
            header = ["claim", "where", "why"]
        rows = [_markdown_row(verdict)[: len(header)] for verdict in verdicts]
        body = tabulate(rows, header, tablefmt="pipe", disable_numparse=True)
        parts += ["", f"## {status.capitalize()} ({len(verdicts)})", "", body]
    parts += [f"- {line}" for line in _problems(check)]
    return "\n".join([*parts, ""])


def to_json(check: Check) -> str:
    """A list of verdicts with all figures, and of problems; the keys are the fields of its verdicts."""
    values = {
        "alpha": check.claims.alpha,
        "verdicts": [_verdict_values(verdict) for verdict in check.verdicts],
        "problems": [dataclasses.asdict(problem) for problem in check.problems],
        "broken": check.broken,
    }
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Check], str]] = {"text": to_text, "md": to_markdown, "json": to_json}


def explain(check: Check, id: str) -> str:
    """One claim in full: what is compared, every group with its seeds, the test, its figures, and what is missing.

    Raises:
        InputError: There is no such claim.
    """
    claim = check.claims.claim(id)
    verdict = next(verdict for verdict in check.verdicts if verdict.claim is claim or verdict.claim.id == claim.id)
    parts = [f"{claim.id}: {verdict.status}", "", *_wrapped(f"{claim.text} ({claim.where})"), ""]
    if claim.argued:
        parts += [*_wrapped("The paper argues from this; it does not stand among its results."), ""]
    if claim.undecidable:
        parts += _wrapped(f"Not decidable here: {claim.undecidable}")
    for judgement in filter(None, (verdict.judgement, verdict.proxy)):
        if judgement.scale != "paper":
            parts += ["", f"At scale={judgement.scale}, a proxy: {judgement.status} (no part of the verdict)", ""]
        for finding in judgement.findings:
            parts += explained(check.claims, finding)
    return "\n".join([*parts, *_problems(check), ""]).replace("\n\n\n", "\n\n")


def _counts(check: Check) -> str:
    counts = [f"{check.count(status)} {'hold' if status == 'holds' else status}" for status in STATUSES]
    return f"{len(check.verdicts)} claims: {', '.join(counts).replace('fails', 'fail')}."


def pointing(check: Check) -> list[str]:
    """Count by budget which way the claims point that reduced runs were made for."""
    lines = []
    for scale, budget in BUDGETS.items():
        found = [v.proxy.status for v in check.verdicts if v.proxy is not None and v.proxy.scale == scale]
        counts = [f"{found.count(status)} {way}" for status, way in POINTS.items() if status in found]
        if counts:
            lines.append(f"{budget.capitalize()} (proxies, no verdicts): {', '.join(counts)}.")
    return lines


def chance(check: Check) -> str:
    """Say how many verdicts chance alone would give over all claims, since each is judged by itself."""
    if check.tested == 0:
        return "No claim has been tested by runs yet."
    number = check.tested * check.claims.alpha
    claims = "The one claim that was" if check.tested == 1 else f"Of the {check.tested} claims that were"
    return (
        f"{claims} tested by runs, chance alone would make up to {number:.2g} hold if none were true, and up to "
        f"{number:.2g} fail if all were."
    )


def _problems(check: Check) -> list[str]:
    if not check.problems:
        return []
    lines = [f"Left out: {p.name}: {p.reason}{' (committed evidence is broken)' * p.breaks}." for p in check.problems]
    return ["", *lines]


def _markdown_row(verdict: Verdict) -> list[str]:
    claim = verdict.claim
    proxy = verdict.proxy if verdict.proxy and verdict.proxy.status != "not run" else None
    ids = [*verdict.judgement.run_ids, *(proxy.run_ids if proxy else ())]
    links = ", ".join(f"[{id}](runs/{id}/record.json)" for id in ids) or NONE
    cells = [f"**{claim.id}**: {claim.text}", claim.where, verdict_text(verdict), proxy_text(verdict), links]
    return [cell.replace("|", "\\|") for cell in cells]


def _verdict_values(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        **{name: getattr(claim, name) for name in ("id", "where", "text", "undecidable", "argued")},
        "status": verdict.status,
        "judgement": dataclasses.asdict(verdict.judgement),
        "proxy": None if verdict.proxy is None else dataclasses.asdict(verdict.proxy),
        "run_ids": verdict.judgement.run_ids,
    }


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
