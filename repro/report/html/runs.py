"""Runs of the page, grouped by recipe."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from repro.config.arguments import choices
from repro.config.compose import plan
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.papers import Recipe
from repro.papers.recipes import all_recipes
from repro.report.html.charts import chart
from repro.report.summary import spread
from repro.results.read import read_curve
from repro.results.record import Evaluation, Record, RunningError
from repro.results.scales import word
from repro.results.select import departures, net_of, summarize
from repro.results.stored import Provenance
from repro.runtime.progress import duration

FILES = ("record.json", "curve.csv", "weights.safetensors", "weights.pt")
"""Files of a run that may be published."""
RUN_FIELDS = ("model.name", "model.depth", "model.shortcut", "data.name")
NET = ("model.depth", "model.shortcut")
"""Always shown, so that a command names its net."""

NETS = ["net", "parameters", "training error %", "test error %", "seeds"]


def net_views(records: Sequence[Record], uses: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return all runs by net; ``uses`` are the places on the page that use a run, by anchor."""
    return [_net_view(sorted(group, key=lambda r: r.seed), uses) for group in by_net(records)]


def by_net(records: Sequence[Record]) -> list[list[Record]]:
    """Group the seeds of one recipe: own nets last, the paper's budget first, then by data, family and depth."""
    together: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        together[group_anchor(record)].append(record)
    return sorted(together.values(), key=lambda group: _order(group[0]))


def group_anchor(record: Record) -> str:
    """Return the anchor that all seeds of one recipe and numerics version share."""
    # Fields at their default are left out, so that a field added later moves no anchor.
    science = {key: value for key, value in record.science.to_dict().items() if key != "seed"}
    text = json.dumps([record.scale, record.numerics_version, science], sort_keys=True)
    return f"net-{record.key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _order(record: Record) -> tuple[Any, ...]:
    model, scale = record.science.model, record.scale
    net = (record.science.data.name, model.shortcut != "none", model.shortcut, model.depth)
    return (model.is_own, scale != "paper", scale, *net, group_anchor(record))


def _net_view(group: Sequence[Record], uses: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the values of one net for the template: its settings, departures from the recipe, and the rest."""
    first, fields = group[0], group[0].science.flat()
    recipe = min(all_recipes(), key=lambda recipe: (len(departing(first, recipe)), recipe.name))
    away = departing(first, recipe)
    summary = summarize(group)
    assert summary is not None
    budget = "at the paper's budget" if not away else f"proxy: {first.scale}, not the paper's budget"
    if away and first.scale == "paper":
        budget = "departs from the paper's recipe"
    seeds = "seed" if summary.n == 1 else "seeds"
    follow = {key: show(value) for key, value in fields.items() if key not in away}
    wanted = {key: show(recipe.fields[key]) if key in recipe.fields else "not named" for key in away}
    return {
        "anchor": group_anchor(first),
        "title": f"{first.marked_label} on {first.science.data.name}, {budget}",
        "summary": f"{summary.text} % error on {first.result.reported.split}, n={summary.n} {seeds}",
        "recipe": recipe.title,
        "chosen": [(key, value) for key, value in follow.items() if key in RUN_FIELDS],
        "departures": [(key, show(value), wanted[key]) for key, value in away.items()],
        "others": [(key, value) for key, value in follow.items() if key not in RUN_FIELDS],
        "runs": [_run(record, uses.get(record.run_id, {})) for record in group],
    }


def net_rows(records: Sequence[Record]) -> list[list[str]]:
    """Return one row per net under ``NETS``: errors as mean ± standard deviation over seeds."""
    rows = []
    for group in by_net(records):
        train = [record.result.train.top1_error for record in group if record.result.train is not None]
        test = [record.result.reported.top1_error for record in group]
        rows.append([group[0].label, f"{group[0].params:,}", spread(train), spread(test), str(len(group))])
    return rows


def departing(record: Record, recipe: Recipe) -> dict[str, Any]:
    """Return the fields that differ from the recipe; net and data set are free if the recipe does not name them."""
    fields = record.science.flat()
    free = {key: fields[key] for key in RUN_FIELDS if key not in recipe.fields}
    free |= net_of(record) if record.science.model.is_own else {}
    return departures(record, recipe.fields, free)


def show(value: object) -> str:
    """Return a setting as on the command line, ``default`` for null."""
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "")


def _run(record: Record, used_by: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of one run for the template; ``facts`` and ``provenance`` are names with values."""
    provenance = record.provenance
    picture, why = None, ""
    try:
        picture = chart(read_curve(record), f"run-{record.run_id}", record.result.final.split)
    except InputError as error:
        why = str(error)
    flags = {
        "Made from a tree with uncommitted changes": provenance.dirty,
        "Made from an unknown commit": not provenance.known,
    }
    return {
        "record": record,
        "facts": _facts(record),
        "provenance": _provenance(record),
        "digests": sorted((provenance.data_digests or {}).items()),
        "flags": [text for text, holds in flags.items() if holds],
        "command": repeat(record),
        "chart": picture,
        "no_chart": why,
        "used_by": used_by,
        "files": [name for name in FILES if (record.folder / name).is_file()],
    }


def _facts(record: Record) -> list[tuple[str, str]]:
    result, made = record.result, record.construction
    facts = [("Final error", _error(result.final)), ("Lowest error of any epoch", _error(result.best))]
    if result.chosen is not None and result.validation is not None:
        facts.append(("Error at the epoch chosen on validation", _error(result.chosen)))
        facts.append(("Lowest error on the images held out", _error(result.validation)))
    if result.train is not None:
        facts.append(("Training error, in evaluation mode", _error(result.train)))
    if result.train_running is not None:
        facts.append(("Training error, augmented batches", _error(result.train_running)))
    for view in result.views:
        facts.append((f"Error, {view.view}", f"{view.top1_error:.2f} % top-1, {view.top5_error:.2f} % top-5"))
    if made is not None:
        facts.append(("Begins as", f"{made.from_run}: {made.shallow_errors:,} errors, then {made.deep_errors:,}"))
    if record.responses:
        facts.append(("Layer responses", f"{len(record.responses)} layers, in the record"))
    if record.flow:
        facts.append(("Signals and gradients", f"at {len(record.flow)} evaluations, in the record"))
    facts += [("Steps", f"{record.steps:,}"), ("Parameters", f"{record.params:,}")]
    return [*facts, ("Multiply-adds an image", f"{record.macs:,}")]


def _error(counts: Evaluation | RunningError) -> str:
    text = f"{counts.top1_error:.2f} % ({counts.errors:,} of {counts.images:,})"
    if isinstance(counts, RunningError):
        return f"{text}, steps {counts.first_step:,} to {counts.last_step:,}"
    top5 = "" if counts.top5_error is None else f", top-5 {counts.top5_error:.2f} %"
    return f"{text}{top5}, step {counts.step:,}"


def _provenance(record: Record) -> list[tuple[str, str]]:
    """Return the provenance in reading order, without values that older records lack."""
    provenance = record.provenance
    tree = {True: "uncommitted changes", False: "clean tree", None: "tree unknown"}[provenance.dirty]
    commits = dict.fromkeys(str(part.get("commit") or "") for part in provenance.parts)
    rows = [
        ("Commit", f"{', then '.join(commits) or provenance.commit or 'unknown'}, {tree}"),
        ("Device", provenance.device),
        ("Precision", provenance.precision),
        ("torch", provenance.torch),
        ("CUDA", provenance.cuda),
        ("Python", provenance.python),
        ("Steps and evaluations", f"{duration(record.wall_seconds)} in all, {record.images_per_second:,.0f} images/s"),
        ("Started", _started(provenance)),
        ("Finished", provenance.finished),
        ("Seed", str(record.seed)),
        ("Fingerprint", f"{record.fingerprint}, numerics version {record.numerics_version}"),
    ]
    return [(name, value) for name, value in rows if value]


def _started(provenance: Provenance) -> str:
    """Return the start and, of an interrupted run, its number of parts; older records know only the last part."""
    started, resumed, parts = provenance.started or "", provenance.resumed_at, provenance.parts
    if not resumed:
        return started
    if not parts:
        return f"{started}, the last part, from step {resumed:,}"
    if first := parts[0].get("from_step"):
        return f"{started}, from step {first:,}; earlier parts are unknown"
    return f"{started}, in {len(parts)} parts"


def repeat(record: Record) -> str | None:
    """Return ``repro run …`` for this run alone; None if the configuration files no longer describe such a run."""
    model, data = record.science.model.name, record.science.data.name
    words = [f"{group}={name}" for group, name in (("model", model), ("data", data)) if name in choices(group)]
    # The paper's scale is the default; the id of a run contains any other.
    words += [f"scale={record.scale}"] if record.scale in choices("scale") and record.scale != "paper" else []
    base = _planned(tuple(words))
    if base is None or base.scale != record.scale:
        return None
    usual, fields = base.science.flat(), record.science.flat()
    differing = [f"{key}={word(value)}" for key, value in fields.items() if key in NET or usual[key] != value]
    words = [word for word in words if word not in _defaults()]
    return shlex.join(["repro", "run", *words, *differing, f"seed={record.seed}"])


@functools.cache
def _planned(words: tuple[str, ...]) -> RunConfig | None:
    try:
        return plan(list(words)).runs[0]
    except InputError:
        return None


@functools.cache
def _defaults() -> tuple[str, ...]:
    """Return the words that the configuration chooses by default."""
    base = plan([]).runs[0]
    return f"model={base.model.name}", f"data={base.data.name}"
