"""All verdicts as Markdown or JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from repro.report.claims.evidence import Seeds
from repro.report.claims.verdicts import STATUSES, Check, Judgement, Verdict
from repro.report.claims.wording import BUDGETS, NONE, POINTS, proxy_text, verdict_text
from repro.report.tables.frame import text_table

PROXY_HEADER = "reduced runs (proxies, no verdict)"
WIDTH = 110


def to_markdown(check: Check) -> str:
    """Return one table per verdict, with links to the folder ``runs`` beside the file."""
    short = check.claims.short
    one = f"{command_of(check)} CLAIM"
    parts = [
        f"# The claims of {short}" if short else "# The paper's claims",
        "",
        f"{' '.join([counts(check), *pointing(check), chance(check)])} "
        f"A claim holds if all its comparisons hold, each at {check.claims.alpha:g}, and fails if one of them fails, "
        "corrected for their number (Holm). The direction of a difference decides; its published size is shown beside "
        "ours. Only runs of the paper's full recipe decide; reduced runs are proxies. "
        f"`{one}` explains one claim in full.",
    ]
    for status in STATUSES:
        verdicts = [verdict for verdict in check.verdicts if verdict.status == status]
        if not verdicts:
            continue
        header = ["claim", "where", "result", PROXY_HEADER, "runs"]
        if status == "not decidable here":
            header = ["claim", "where", "reason"]
        rows = [_markdown_row(verdict)[: len(header)] for verdict in verdicts]
        parts += ["", f"## {status.capitalize()} ({len(verdicts)})", "", text_table(rows, header, "pipe", header)]
    parts += [f"- {line}" for line in problems(check)]
    return "\n".join([*parts, ""])


def _markdown_row(verdict: Verdict) -> list[str]:
    claim = verdict.claim
    links = ", ".join(f"[{id}](runs/{id}/record.json)" for id in verdict.run_ids) or NONE
    cells = [f"**{claim.id}**: {claim.text}", claim.where, verdict_text(verdict), proxy_text(verdict), links]
    return [cell.replace("|", "\\|") for cell in cells]


def together(checks: Sequence[Check], form: str) -> str:
    """Write the verdicts of several papers: one Markdown text, or one JSON value with the papers by name."""
    if len(checks) == 1 or form == "md":
        return "\n".join(FORMATS[form](check) for check in checks)
    values = {check.claims.paper: json_values(check) for check in checks}
    return json.dumps(values, indent=1, ensure_ascii=False, default=dataclasses.asdict) + "\n"


def to_json(check: Check) -> str:
    """Return all verdicts with their numbers, and all problems, as JSON."""
    return json.dumps(json_values(check), indent=1, ensure_ascii=False, default=dataclasses.asdict) + "\n"


def json_values(check: Check) -> dict[str, Any]:
    return {
        "alpha": check.claims.alpha,
        "verdicts": [
            {
                **_values(v.claim, "id", "where", "text", "undecidable", "argued"),
                "status": v.status,
                "judgement": _judgement_values(v.judgement),
                "proxy": None if v.proxy is None else _judgement_values(v.proxy),
                "run_ids": v.judgement.run_ids,
            }
            for v in check.verdicts
        ],
        "problems": [_values(problem, "name", "reason", "breaks", "claims") for problem in check.problems],
        "broken": check.broken,
    }


def _judgement_values(judgement: Judgement) -> dict[str, Any]:
    findings = [
        _values(f, "comparison", "status", "because")
        | {"groups": [_group_values(group) for group in f.groups]}
        | _values(f, "outcome", "p", "tests", "tested", "planned", "notes")
        for f in judgement.findings
    ]
    return _values(judgement, "scale", "status") | {"findings": findings}


def _group_values(group: Seeds) -> dict[str, Any]:
    spread = {name: getattr(group.sample, name, None) for name in ("mean", "std")}
    measured = _values(group, "label", "needed", "seeds", "run_ids", "values")
    return measured | spread | _values(group, "missing", "command")


def _values(thing: object, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


FORMATS: dict[str, Callable[[Check], str]] = {"md": to_markdown, "json": to_json}


def counts(check: Check) -> str:
    found = [f"{check.count(status)} {'hold' if status == 'holds' else status}" for status in STATUSES]
    return f"{len(check.verdicts)} claims: {', '.join(found).replace('fails', 'fail')}."


def pointing(check: Check) -> list[str]:
    """Return one line per reduced budget: the number of claims by the direction in which its runs point."""
    lines = []
    for scale, budget in BUDGETS.items():
        found = [v.proxy.status for v in check.verdicts if v.proxy is not None and v.proxy.scale == scale]
        ways = [f"{found.count(status)} {way}" for status, way in POINTS.items() if status in found]
        if ways:
            lines.append(f"{budget.capitalize()} (proxies, no verdicts): {', '.join(ways)}.")
    return lines


def chance(check: Check) -> str:
    """Return how many verdicts chance alone would give, since each claim is judged on its own."""
    if check.tested == 0:
        return "No claim has been tested by runs yet."
    number = check.tested * check.claims.alpha
    claims = "Of the one claim" if check.tested == 1 else f"Of the {check.tested} claims"
    return (
        f"{claims} tested by runs, chance alone would make up to {number:.2g} hold if none were true, and up to "
        f"{number:.2g} fail if all were."
    )


def problems(check: Check, claim: str = "", *, verbose: bool = False) -> list[str]:
    """Return one line for each record that was left out, and one for those of one cause, unless ``verbose``.

    Args:
        claim: Leave out the records that are known not to concern this claim; empty for none.
    """
    found = [p for p in check.problems if not claim or p.claims is None or claim in p.claims]
    lines: dict[str, None] = {}
    for p in found:
        line = f"Left out: {p.name}: {p.reason}{' (committed evidence is invalid)' if p.breaks else ''}."
        if p.together and not verbose:
            number = sum(other.together == p.together for other in found)
            runs = "1 published run" if number == 1 else f"{number} published runs"
            line = f"Left out: {runs}, {p.together}; `{command_of(check)} -v` lists them."
        lines[line] = None
    return ["", *lines] if lines else []


def command_of(check: Check) -> str:
    """Return the command that checks all claims of a paper."""
    return f"repro check --paper {check.claims.paper}" if check.claims.short else "repro check"
