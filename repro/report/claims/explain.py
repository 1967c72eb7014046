"""One claim in full: questions, groups, statistics, power."""

from __future__ import annotations

import textwrap

from repro.papers.claims import Claims, Comparison
from repro.report.claims.evidence import Seeds
from repro.report.claims.format import WIDTH, problems
from repro.report.claims.metrics import Unit, unit_of
from repro.report.claims.power import Planned
from repro.report.claims.terminal import wrapped
from repro.report.claims.verdicts import Check, Finding
from repro.report.claims.wording import effect_text, finding_text, mean_text, number, p_value, percent


def explain(check: Check, id: str) -> str:
    """Return one claim in full: comparisons, groups and their seeds, test results, missing seeds."""
    claim = check.claims.claim(id)
    verdict = next(verdict for verdict in check.verdicts if verdict.claim.id == claim.id)
    parts = [f"{claim.id}: {verdict.status}", "", *textwrap.wrap(f"{claim.text} ({claim.where})", WIDTH), ""]
    if claim.argued:
        parts += ["The paper argues from this claim and does not list it among its results.", ""]
    if claim.undecidable:
        parts += textwrap.wrap(f"Not decidable here: {claim.undecidable}", WIDTH)
    for judgement in filter(None, (verdict.judgement, verdict.proxy)):
        if judgement.scale != "paper":
            parts += ["", f"At scale={judgement.scale}, a proxy: {judgement.status} (not part of the verdict)", ""]
        for finding in judgement.findings:
            parts += _finding_lines(check.claims, finding)
    return "\n".join([*parts, *wrapped(problems(check, claim.id), WIDTH), ""]).replace("\n\n\n", "\n\n")


def _finding_lines(claims: Claims, finding: Finding) -> list[str]:
    c, outcome = finding.comparison, finding.outcome
    unit = finding.unit
    shown = "" if c.decides else " (shown only, not part of the verdict)"
    said = [f"Question: {question(claims, c)}"]
    for group in finding.groups:
        said += _group_lines(group, unit_of(finding.comparison.metric))
    if outcome.exact:
        said.append(f"Result: {finding_text(finding)}, {outcome.test}.")
    elif outcome.difference is not None:
        found = [outcome.test, effect_text(outcome, unit.digits), outcome.measured, outcome.statistic]
        found.append(p_value(finding.p))
        said.append(f"Result: {', '.join(filter(None, found))}.")
    if outcome.beside is not None and outcome.beside.bayes_factor is not None:
        said.append(
            f"Replication Bayes factor: {_bayes_factor(outcome.beside.bayes_factor)} for the published effect against "
            "no effect (Verhagen and Wagenmakers 2014)."
        )
    if finding.because:
        said.append(f"{finding.because[0].upper()}{finding.because[1:]}.")
    if finding.status == "fails" and c.decides and finding.tests > 1:
        said.append(f"The p-value for failing is corrected for {finding.tests} tests (Holm).")
    if finding.planned is not None:
        said.append(_power(claims, finding.planned, unit.digits))
    said += [f"Note: {note}." for note in finding.notes]
    return [f"{c.name}: {finding.status}{shown}", *(line for text in said for line in _indented(text)), ""]


def _bayes_factor(factor: float) -> str:
    """Return ``12``, with two digits; factors above 1,000 or below 1/1,000 are not given exactly."""
    if factor > 1000:
        return "above 1,000"
    return "below 0.001" if factor < 0.001 else f"{factor:.2g}"


def question(claims: Claims, c: Comparison) -> str:
    """Return the question of ``c`` as a sentence."""
    labels = [claims.groups[name].label for name in c.groups]
    published = "" if c.published is None else f"{c.published.headline:g}"
    if c.published is not None and c.published.mean is not None:
        published = f"{c.published.mean:g} ± {c.published.std:g} over {c.published.runs} runs"
    first, second = labels[0], labels[1] if len(labels) > 1 else f"the published {published}"
    bounds = {"above": c.above, "below": c.below, "exactly": c.equals}
    limits = " and ".join(f"{word} {limit:,.10g}" for word, limit in bounds.items() if limit is not None)
    if c.limit_images is not None:
        limits += f", counted over {c.limit_images:,} other images"
    single = c.published is None or c.published.mean is None
    as_ours = f"one more run of {first}" if single else f"runs of the same mean as {first}"
    limit = second if c.limit is None else f"{c.limit:g}"
    further = "" if c.by is None else f" by more than {c.by:g}{unit_of(c.metric).text}"
    lower = f"is {first} below {second}{further}?"
    questions = {
        "order": lower + _size(claims, c),
        "equal": f"do {first} and {second} differ by less than {c.margin}?",
        "no_worse": f"is {first} above {limit} by less than {c.margin}, or below it?",
        "value": f"could the published {published} be {as_ours}? An answer needs an interval of at most ±{c.margin}.",
        "bound": f"is {first} {limits}?",
        "trend": f"is it {c.direction} over {', '.join(labels)}, without a step back of more than "
        f"{claims.step_back(c):.2g}?" + _size(claims, c),
        "throughout": f"does the curve of {first} lie below that of {second} at every evaluation?" + _size(claims, c),
        "layerwise": f"do more than {c.above} % of the layers respond more weakly in {first} than in {second}?",
        "count": f"is {first} {limits}?" if limits else f"are {' and '.join(labels)} the same?",
    }
    if c.test == "interaction":
        step = f"is the step from {first} to {second} better than that from {labels[2]} to {labels[3]}?"
        return step + _size(claims, c)
    return questions[c.test]


def _size(claims: Claims, c: Comparison) -> str:
    smallest = claims.smallest(c)
    if c.by is not None or not smallest:
        return ""
    return f" It fails if the difference is shown to be below {smallest:.2g}."


def _group_lines(group: Seeds, unit: Unit) -> list[str]:
    lines = [f"{group.label}: not run"]
    if group.values:
        pairs = zip(group.seeds, group.values, strict=True)
        values = ", ".join(f"s{seed} {number(value, unit.digits)}" for seed, value in pairs)
        mean = f"{mean_text(group, unit.digits)}{unit.text}"
        seeds = "1 seed" if len(group.values) == 1 else f"{len(group.values)} seeds"
        lines = [f"{group.label}: {mean} over {seeds}: {values}"]
        lines.append(f"  runs: {', '.join(group.run_ids)}")
    if group.missing:
        seeds = ", ".join(map(str, group.missing))
        lines.append(f"  missing seeds (of {group.needed}): {seeds}; {group.command}")
    return lines


def _power(claims: Claims, plan: Planned, digits: int) -> str:
    parts = []
    if plan.power is not None:
        parts.append(f"show it with a power of {percent(plan.power)} if {plan.truth}")
    if plan.detectable is not None:
        parts.append(f"show a difference of {number(plan.detectable, digits)} with a power of {percent(claims.power)}")
    if not parts:
        return "Power: the paper prints no effect to assume."
    text = f"Power: with a spread of {plan.spread:g}, {plan.seeds} seeds {', and '.join(parts)}."
    return f"{text} Underpowered: the verdict may stay inconclusive." if plan.underpowered else text


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
