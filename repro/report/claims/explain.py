"""One comparison in full: question, groups, figures, power."""

from __future__ import annotations

import textwrap

from repro.papers.claims import Claims, Comparison
from repro.report.claims.power import Planned
from repro.report.claims.quantities import scale_of
from repro.report.claims.verdicts import Finding, GroupFigures
from repro.report.claims.wording import bayes_factor, effect_text, finding_text, number, p_value, percent

WIDTH = 110


def explained(claims: Claims, finding: Finding) -> list[str]:
    """Return the lines about ``finding``, the last of them empty."""
    c, outcome = finding.comparison, finding.outcome
    scale = scale_of(c.metric)
    shown = "" if c.decides else " (shown only, no part of the verdict)"
    lines = [f"{c.name}: {finding.status}{shown}", *_indented(f"Asked: {question(claims, c)}")]
    for group in finding.groups:
        lines += _group_lines(group, scale.digits, scale.unit)
    if outcome.exact:
        lines += _indented(f"Found: {finding_text(finding)}, {outcome.test}.")
    elif outcome.difference is not None:
        lines += _indented(f"Found: {_found(finding, scale.digits)}.")
    if outcome.beside is not None and outcome.beside.bayes_factor is not None:
        lines += _indented(
            f"Replication Bayes factor: {bayes_factor(outcome.beside.bayes_factor)}, of the published size over no "
            "effect (Verhagen and Wagenmakers 2014)."
        )
    if finding.because:
        lines += _indented(f"{finding.because[0].upper()}{finding.because[1:]}.")
    if finding.status == "fails" and c.decides and finding.tests > 1:
        lines += _indented(f"The p of failing is corrected by Holm for {finding.tests} tests.")
    if finding.planned is not None:
        lines += _indented(_power(claims, finding.planned, scale.digits))
    lines += [line for note in finding.notes for line in _indented(f"Note: {note}.")]
    return [*lines, ""]


def _found(finding: Finding, digits: int) -> str:
    outcome = finding.outcome
    p = "" if finding.p is None else p_value(finding.p)
    return ", ".join(filter(None, [outcome.test, effect_text(outcome, digits), outcome.statistic, p]))


def question(claims: Claims, c: Comparison) -> str:
    """Return what ``c`` asks, as a sentence."""
    labels = [claims.groups[name].label for name in c.groups]
    published = "" if c.published is None else f"{c.published.headline:g}"
    if c.published is not None and c.published.mean is not None:
        published = f"{c.published.mean:g} ± {c.published.std:g} over {c.published.runs} runs"
    first, second = labels[0], labels[1] if len(labels) > 1 else f"the published {published}"
    limits = " and ".join(
        f"{word} {limit:,.10g}"
        for word, limit in (("above", c.above), ("below", c.below), ("exactly", c.equals))
        if limit is not None
    )
    if c.limit_images is not None:
        limits += f", which was counted over {c.limit_images:,} other images"
    single = c.published is None or c.published.mean is None
    as_ours = f"one more run of {first}" if single else f"runs of the same mean as {first}"
    limit = second if c.limit is None else f"{c.limit:g}"
    further = "" if c.by is None else f" by more than {c.by:g}{scale_of(c.metric).unit}"
    lower = f"is {first} below {second}{further}?"
    questions = {
        "order": lower + _size(claims, c),
        "equal": f"do {first} and {second} differ by less than {c.margin}?",
        "no_worse": f"is {first} above {limit} by less than {c.margin}, or below it?",
        "value": f"could the published {published} be {as_ours}? An answer needs an interval of at most ±{c.margin}.",
        "bound": f"is {first} {limits}?",
        "trend": f"is it {c.direction} over {', '.join(labels)}, and goes back by more than "
        f"{claims.step_back(c):.2g} nowhere?" + _size(claims, c),
        "throughout": f"does the curve of {first} lie below that of {second} at every evaluation?" + _size(claims, c),
        "layerwise": f"do more than {c.above} % of the layers respond more weakly in {first} than in {second}?",
        "count": f"is {first} {limits}?" if limits else f"are {' and '.join(labels)} the same?",
    }
    if c.test == "interaction":
        return f"is the step from {first} to {second} better than that from {labels[2]} to {labels[3]}?" + _size(
            claims, c
        )
    return questions[c.test]


def _size(claims: Claims, c: Comparison) -> str:
    smallest = claims.smallest(c)
    if c.by is not None or not smallest:
        return ""
    return f" It fails where the difference is shown to be below {smallest:.2g}."


def _group_lines(group: GroupFigures, digits: int, unit: str) -> list[str]:
    lines = [f"{group.label}: not run"]
    if group.mean is not None:
        values = ", ".join(
            f"s{seed} {number(value, digits)}" for seed, value in zip(group.seeds, group.values, strict=True)
        )
        spread = "" if group.std is None else f" ± {number(group.std, digits)}"
        lines = [f"{group.label}: {number(group.mean, digits)}{spread}{unit} over {len(group.values)} seeds: {values}"]
    lines += [f"  runs: {', '.join(group.run_ids)}"] if group.run_ids else []
    if group.missing:
        seeds = ", ".join(map(str, group.missing))
        lines.append(f"  missing of the {group.needed} seeds: {seeds}; {group.command}")
    return [line for text in lines for line in _indented(text)]


def _power(claims: Claims, plan: Planned, digits: int) -> str:
    """The power that was set beforehand, whatever the runs show."""
    parts = []
    if plan.power is not None:
        parts.append(f"show it with a power of {percent(plan.power)} if {plan.truth}")
    if plan.detectable is not None:
        shown = f"{number(plan.detectable, digits)} with one of {percent(claims.power)}"
        parts.append(shown if parts else f"show a difference of {shown}")
    if not parts:
        return "Power beforehand: the paper prints no number to suppose."
    text = f"Power beforehand: at a spread of {plan.spread:g} the {plan.seeds} seeds {', and '.join(parts)}."
    return f"{text} Underpowered: it may well stay inconclusive." if plan.underpowered else text


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
