"""All verdicts for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from repro.report.claims.format import chance, command_of, counts, pointing, problems
from repro.report.claims.verdicts import Check, Verdict
from repro.report.claims.wording import NONE, proxy_text, verdict_text

OPEN = "not decidable here"


def to_text(check: Check, width: int = 80, *, verbose: bool = False) -> str:
    """Return one line per claim, with verdict and text; claims that cannot be decided share one line.

    Args:
        width: Columns of the terminal.
        verbose: Whether to add the numbers of each claim, its reduced runs and its run ids.
    """
    decidable = [verdict for verdict in check.verdicts if verdict.status != OPEN]
    others = [verdict.claim.id for verdict in check.verdicts if verdict.status == OPEN]
    statuses, ids = (max(map(len, column)) for column in zip(*[(v.status, v.claim.id) for v in decidable], strict=True))
    lines = []
    for verdict in decidable:
        head = f"{verdict.status:<{statuses}}  {verdict.claim.id:<{ids}}  "
        lines.append(head + textwrap.shorten(verdict.claim.text, max(width - len(head), 12), placeholder="…"))
        lines += _details(verdict, width) if verbose else []
    if others:
        lines.append(textwrap.shorten(f"{OPEN}: {', '.join(others)}", width, placeholder=" …"))
    command = command_of(check)
    more = f"One claim in full: {command} CLAIM; all numbers: {command} -v"
    summary = [counts(check), *pointing(check), chance(check), more]
    return "\n".join([*lines, "", *wrapped([*summary, *problems(check, verbose=verbose)], width), ""])


def _details(verdict: Verdict, width: int) -> list[str]:
    texts = [text for text in (verdict.claim.text, verdict_text(verdict), proxy_text(verdict)) if text != NONE]
    runs = [*verdict.judgement.run_ids, *(verdict.proxy.run_ids if verdict.proxy else ())]
    texts += [f"runs: {', '.join(runs)}"] if runs else []
    return [f"    {line}" for line in wrapped(texts, width - 4)]


def wrapped(texts: Sequence[str], width: int) -> list[str]:
    """Wrap texts between words only, so that long names can be copied."""
    parts = [textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""] for text in texts]
    return [line for part in parts for line in part]
