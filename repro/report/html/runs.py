"""Runs of the page, the seeds of one recipe together."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repro.config.paths import shared_dir
from repro.errors import InputError
from repro.papers import FIRST, Recipe, later_papers, load_recipe
from repro.report.html.charts import Chart, chart
from repro.report.html.commands import repeat
from repro.report.html.view_models import Link
from repro.results.read import read_curve
from repro.results.record import Evaluation, Provenance, Record, RunningError
from repro.results.select import departures, summarize
from repro.runtime.progress import duration

FILES = ("record.json", "curve.csv", "weights.pt")
"""Files that may be published of a run."""
RUN_FIELDS = ("model.name", "model.depth", "model.shortcut", "data.name")


@dataclass(frozen=True)
class Setting:
    """A science field with its value; ``paper`` is the recipe's where it differs or says nothing, else None."""

    name: str
    value: str
    paper: str | None = None


@dataclass(frozen=True)
class RunView:
    """One run: ``facts`` and ``provenance`` are names with values, ``command`` repeats it, ``made_by`` made it."""

    anchor: str
    run_id: str
    seed: int
    split: str
    error: str
    facts: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    command: str | None
    made_by: str | None
    chart: Chart | None
    no_chart: str
    used_by: tuple[Link, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class NetView:
    """The seeds of one recipe: what is set for this net, what departs from the paper's recipe, and all the rest."""

    anchor: str
    title: str
    summary: str
    recipe: str
    chosen: tuple[Setting, ...]
    departures: tuple[Setting, ...]
    others: tuple[Setting, ...]
    runs: tuple[RunView, ...]


def net_views(records: Sequence[Record], uses: Mapping[str, Sequence[Link]]) -> list[NetView]:
    """Lay out all runs, the paper's budget first, then by net; ``uses`` are places on the page that rest on a run."""
    together: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        together[group_anchor(record)].append(record)
    ordered = sorted(together.values(), key=lambda group: order(group[0]))
    return [_net_view(sorted(group, key=lambda r: r.seed), recipes(), uses) for group in ordered]


@functools.cache
def recipes() -> list[Recipe]:
    """Load the recipes of all papers."""
    names = sorted(file.stem for file in (shared_dir("experiments") / FIRST).glob("*_recipe.toml"))
    for paper in later_papers():
        names += [f"{paper}/{file.stem}" for file in (shared_dir("experiments") / paper).glob("*_recipe.toml")]
    return [load_recipe(name) for name in names]


def group_anchor(record: Record) -> str:
    """Return an anchor that all seeds of one recipe and numerics version share, whichever of them exist."""
    # Without fields at their default: one that is added later moves no anchor.
    science = {key: value for key, value in record.science.to_dict().items() if key != "seed"}
    text = json.dumps([record.scale, record.numerics_version, science], sort_keys=True)
    return f"net-{record.key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_anchor(run_id: str) -> str:
    return f"run-{run_id}"


def order(record: Record) -> tuple[Any, ...]:
    """Return a sort key of nets: the paper's budget first, then by data, family and depth."""
    model = record.science.model
    return (record.scale != "paper", record.scale, record.science.data.name, model.shortcut != "none", model.shortcut,
            model.depth, group_anchor(record))  # fmt: skip


def _net_view(group: Sequence[Record], recipes: Sequence[Recipe], uses: Mapping[str, Sequence[Link]]) -> NetView:
    first, fields = group[0], group[0].science.flat()
    run = {key: fields[key] for key in RUN_FIELDS}
    recipe = min(recipes, key=lambda recipe: (len(departing(first, recipe)), recipe.name))
    away = departing(first, recipe)
    wanted = recipe.fields
    chosen = [key for key in fields if key in run and key not in away]
    others = [key for key in fields if key not in away and key not in chosen]
    summary = summarize(group)
    assert summary is not None
    spread = "" if summary.std is None else f" ± {summary.std:.2f}"
    split = first.result.final.split
    budget = "at the paper's budget" if not away else f"proxy: {first.scale}, not the paper's budget"
    if away and first.scale == "paper":
        budget = "departs from the paper's recipe"
    return NetView(
        group_anchor(first),
        f"{first.label} on {first.science.data.name}, {budget}",
        f"{summary.mean:.2f}{spread} % error on {split}, n={summary.n} {'seed' if summary.n == 1 else 'seeds'}",
        recipe.title,
        tuple(Setting(key, show(fields[key])) for key in chosen),
        tuple(Setting(key, show(v), show(wanted[key]) if key in wanted else "not named") for key, v in away.items()),
        tuple(Setting(key, show(fields[key])) for key in others),
        tuple(_run(record, uses.get(record.run_id, ())) for record in group),
    )


def departing(record: Record, recipe: Recipe) -> dict[str, Any]:
    """Return the fields that differ from the recipe; depth and shortcut are the row's to choose where it names none."""
    fields = record.science.flat()
    free = {key: fields[key] for key in RUN_FIELDS if key not in recipe.fields}
    return departures(record, recipe.fields, free)


def show(value: object) -> str:
    """Write a setting as on the command line, ``default`` for null."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", "")


def _run(record: Record, used_by: Iterable[Link]) -> RunView:
    provenance = record.provenance
    picture, why = None, ""
    try:
        picture = chart(read_curve(record))
    except InputError as error:
        why = str(error)
    flags = []
    if provenance.dirty:
        flags.append("made from a tree with uncommitted changes")
    if provenance.commit in (None, "", "unknown"):
        flags.append("made from an unknown commit")
    return RunView(
        anchor=run_anchor(record.run_id),
        run_id=record.run_id,
        seed=record.seed,
        split=record.result.final.split,
        error=f"{record.result.final.top1_error:.2f}",
        facts=tuple(_facts(record)),
        provenance=tuple(_told(record)),
        digests=tuple((name, str(digest)) for name, digest in sorted((provenance.data_digests or {}).items())),
        flags=tuple(flags),
        command=repeat(record),
        made_by=provenance.command,
        chart=picture,
        no_chart=why,
        used_by=tuple(used_by),
        files=tuple(name for name in FILES if (record.folder / name).is_file()),
    )


def _facts(record: Record) -> list[tuple[str, str]]:
    result = record.result
    facts = [("Final error", _error(result.final)), ("Lowest error of any epoch", _error(result.best))]
    if result.train is not None:
        facts.append(("Training error, in evaluation mode", _error(result.train)))
    if result.train_running is not None:
        facts.append(("Training error, augmented batches", _error(result.train_running)))
    for view in result.views:
        facts.append((f"Error, {view.view}", f"{view.top1_error:.2f} % top-1, {view.top5_error:.2f} % top-5"))
    if record.construction is not None:
        made = record.construction
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


def _told(record: Record) -> list[tuple[str, str]]:
    """Return the provenance in reading order, without what an older record does not have."""
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
    """Return when, and by how many processes where a run was interrupted; older records know the last one alone."""
    started, resumed, parts = provenance.started or "", provenance.resumed_at, provenance.parts
    if not resumed:
        return started
    if not parts:
        return f"{started}, the last part, from step {resumed:,}"
    if first := parts[0].get("from_step"):
        return f"{started}, from step {first:,}; what was before is not known"
    return f"{started}, in {len(parts)} parts"
