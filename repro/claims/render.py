"""Verdicts for people and for programs: a table for the terminal, one claim in full, Markdown, JSON."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from repro.claims.quantities import scale_of
from repro.claims.verdicts import STATUSES, Check, Finding, GroupFigures, Verdict
from repro.claims.wording import NONE, finding_text, number, p_value, proxy_text, signed, verdict_text

PROXY_HEADER = "at demo scale (a proxy, no verdict)"
WIDTH = 110
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
    lines = [table, "", _counts(check), "One claim in full: repro check CLAIM"]
    return "\n".join([*lines, *_problems(check), ""])


def to_markdown(check: Check) -> str:
    """Tables by verdict, with links to the runs in the folder ``runs`` beside the file."""
    parts = [
        "# The paper's claims",
        "",
        f"{_counts(check)} Tests are two-sided at {check.claims.alpha:g}, corrected by Holm where a claim, or a family "
        "of claims, has several. Only runs of the paper's full recipe decide; what runs at demo scale show is a proxy. "
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
    """A list of verdicts with all figures, and of problems; the keys are the fields of ``repro.claims.verdicts``."""
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
            parts += _explained(check, verdict, finding)
    return "\n".join([*parts, *_problems(check), ""]).replace("\n\n\n", "\n\n")


def _counts(check: Check) -> str:
    counts = [f"{check.count(status)} {'hold' if status == 'holds' else status}" for status in STATUSES]
    return f"{len(check.verdicts)} claims: {', '.join(counts).replace('fails', 'fail')}."


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
        **{name: getattr(claim, name) for name in ("id", "where", "text", "undecidable", "family", "argued")},
        "status": verdict.status,
        "judgement": dataclasses.asdict(verdict.judgement),
        "proxy": None if verdict.proxy is None else dataclasses.asdict(verdict.proxy),
        "run_ids": verdict.judgement.run_ids,
        "family_run_ids": verdict.family_run_ids,
    }


def _explained(check: Check, verdict: Verdict, finding: Finding) -> list[str]:
    c, outcome = finding.comparison, finding.outcome
    scale = scale_of(c.metric)
    shown = "" if c.decides else " (shown only, no part of the verdict)"
    lines = [f"{c.name}: {finding.status}{shown}"]
    lines += _indented(f"Asked: {_question(check, finding)}")
    for group in finding.groups:
        lines += _group_lines(group, scale.digits, scale.unit)
    if outcome.exact:
        lines += _indented(f"Found: {finding_text(finding)}, {outcome.test}.")
    elif outcome.p is not None:
        lines += _indented(f"Found: {_found(finding, scale.digits)}.")
    if finding.because:
        lines += _indented(f"{finding.because[0].upper()}{finding.because[1:]}.")
    if finding.adjusted_p is not None and c.decides and finding.tests > 1:
        family = f" of the family {verdict.claim.family}" if verdict.claim.family else ""
        lines += _indented(f"Corrected by Holm for {finding.tests} tests{family}: {p_value(finding.adjusted_p)}.")
    if outcome.detectable is not None:
        lines += _indented(_power(check, finding, scale.digits))
    lines += [line for note in finding.notes for line in _indented(f"Note: {note}.")]
    return [*lines, ""]


def _found(finding: Finding, digits: int) -> str:
    outcome = finding.outcome
    parts = [outcome.test]
    if outcome.difference is not None and outcome.interval is not None:
        low, high = (signed(end, digits) for end in outcome.interval)
        parts.append(f"difference {signed(outcome.difference, digits)} from {low} to {high}")
    parts += [outcome.statistic, p_value(outcome.p or 0.0)]
    return ", ".join(filter(None, parts))


def _question(check: Check, finding: Finding) -> str:
    c = finding.comparison
    labels = [check.claims.groups[name].label for name in c.groups]
    published = "" if c.published is None else f"{c.published.headline:g}"
    if c.published is not None and c.published.mean is not None:
        published = f"{c.published.mean:g} ± {c.published.std:g} over {c.published.runs} runs"
    second = labels[1] if len(labels) > 1 else f"the published {published}"
    limits = " and ".join(
        f"{word} {limit:,.10g}"
        for word, limit in (("above", c.above), ("below", c.below), ("exactly", c.equals))
        if limit is not None
    )
    single = c.published is None or c.published.mean is None
    as_ours = f"one more run of {labels[0]}" if single else f"runs of the same mean as {labels[0]}"
    narrow = f"An answer needs an interval of at most ±{c.margin}."
    questions = {
        "order": f"is {labels[0]} below {second}?",
        "equal": f"do {labels[0]} and {second} differ by less than {c.margin}?",
        "value": f"could the published {published} be {as_ours}? {narrow}",
        "gap": f"could {published} be the distance of one more run of {second} from one of {labels[0]}? {narrow}",
        "bound": f"is {labels[0]} {limits}?",
        "trend": f"is it {c.direction} over {', '.join(labels)}?",
        "throughout": f"does the curve of {labels[0]} lie below that of {second} at every evaluation?",
        "count": f"is {labels[0]} {limits}?" if limits else f"are {' and '.join(labels)} the same?",
    }
    return questions[c.test]


def _group_lines(group: GroupFigures, digits: int, unit: str) -> list[str]:
    lines = [f"{group.label}: not run"]
    if group.mean is not None:
        values = ", ".join(
            f"s{seed} {number(value, digits)}" for seed, value in zip(group.seeds, group.values, strict=True)
        )
        spread = "" if group.std is None else f" ± {number(group.std, digits)}"
        lines = [f"{group.label}: {number(group.mean, digits)}{spread}{unit} over {len(group.values)} seeds: {values}"]
    if group.binomial_error is not None:
        lines.append(
            f"  a single run on {group.images:,} images has a binomial standard error of "
            f"{number(group.binomial_error, digits)}"
        )
    lines += [f"  runs: {', '.join(group.run_ids)}"] if group.run_ids else []
    if group.missing:
        seeds = ", ".join(map(str, group.missing))
        lines.append(f"  missing of the {group.needed} seeds: {seeds}; {group.command}")
    return [line for text in lines for line in _indented(text)]


def _power(check: Check, finding: Finding, digits: int) -> str:
    counts = [len(group.values) for group in finding.groups]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    between = " between any two neighbouring groups" if finding.comparison.test == "trend" else ""
    difference = number(finding.outcome.detectable or 0.0, digits)
    return (
        f"Power: {seeds} seeds detect a difference of {difference}{between} with a power of "
        f"{check.claims.power * 100:g} %, at this spread of seeds."
    )


def _indented(text: str) -> list[str]:
    spaces = "  " + " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        text.strip(),
        WIDTH,
        initial_indent=spaces,
        subsequent_indent=spaces + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
