"""Which records a comparison rests on, and which are left out of it and why. Unlike runs are never averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.claims.quantities import quantity
from repro.claims.statistics import Sample, binomial_error, describe
from repro.config import later_defaults
from repro.errors import InputError
from repro.paper import Run
from repro.paper.claims import Claims, Comparison, Group
from repro.records import Reading, Record
from repro.results import run_ids, select

UNKNOWN_COMMITS = (None, "", "unknown")


@dataclass(frozen=True)
class Problem:
    """A record that no verdict rests on, and why; ``breaks`` where it is committed and so should be right."""

    name: str
    reason: str
    breaks: bool


@dataclass(frozen=True)
class Seeds:
    """One group's runs at one scale, a value a seed. ``images`` is what each error was counted over.

    ``missing`` are the seeds from 0 on that the experiment asks for and nobody ran.
    """

    group: Group
    needed: int
    seeds: tuple[int, ...] = ()
    run_ids: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    images: int | None = None
    records: tuple[Record, ...] = ()

    @property
    def sample(self) -> Sample:
        return describe(self.values)

    @property
    def missing(self) -> tuple[int, ...]:
        lacking = self.needed - len(self.seeds)
        return tuple([seed for seed in range(self.needed) if seed not in self.seeds][: max(0, lacking)])

    @property
    def binomial(self) -> float | None:
        """The standard error in points that the images alone give one run, whatever the spread of the seeds."""
        return None if self.images is None else binomial_error(self.sample.mean, self.images)


@dataclass(frozen=True)
class Evidence:
    """What there is for a comparison at ``scale``, a group each; ``notes`` name what was left out."""

    scale: str
    groups: tuple[Seeds, ...]
    notes: tuple[str, ...]


def usable(reading: Reading, published: Path | None = None) -> tuple[list[Record], list[Problem]]:
    """The records whose code is known and committed, and what is wrong with the others.

    Args:
        published: The folder that holds the committed records; None where all of them are.
    """

    def is_committed(folder: Path) -> bool:
        return published is None or folder.parent == published

    problems = [Problem(out.name, out.reason, is_committed(out.folder)) for out in reading.left_out]
    records = []
    for record in reading.records:
        reason = _fault(record)
        if reason is None:
            records.append(record)
            continue
        name = f"{record.folder.parent.name}/{record.run_id}"
        problems.append(Problem(name, reason, is_committed(record.folder) and bool(record.provenance.dirty)))
    return records, problems


def gather(claims: Claims, c: Comparison, records: Sequence[Record], scale: str = "paper") -> Evidence:
    """The runs that ``c`` compares at ``scale``: of one recipe, and of one numerics version in all groups."""
    groups = [claims.groups[name] for name in c.groups]
    recipe = claims.recipes[groups[0].recipe]
    runs = [_complete(group.run) for group in groups]
    budgets = [group.proxy_experiment for group in groups]
    version, notes = _one_version(records, recipe, runs, scale, budgets)
    selection = select([r for r in records if r.numerics_version == version], recipe, runs, scale, budgets)
    notes += [*selection.notes, *selection.apart]
    filled = []
    for group, chosen in zip(groups, selection.groups, strict=True):
        needed = group.seeds if scale == "paper" else min(group.seeds, claims.proxy_seeds)
        filled.append(_seeds(group, needed, chosen, c, notes))
    return Evidence(scale, tuple(filled), tuple(notes))


def _fault(record: Record) -> str | None:
    if record.provenance.commit in UNKNOWN_COMMITS:
        return "it was made from an unknown commit"
    if record.provenance.dirty is not False:
        known = "it was made from a tree with uncommitted changes"
        return known if record.provenance.dirty else "whether its tree had uncommitted changes is not known"
    return None


def _complete(run: Run) -> dict[str, Any]:
    """``run`` with the nets' later fields at their defaults: a net made from a shallower one is another net."""
    return {**{key: value for key, value in later_defaults().items() if key.startswith("model.")}, **run}


def _one_version(
    records: Sequence[Record], recipe: Run, runs: Sequence[dict[str, Any]], scale: str, budgets: Sequence[str]
) -> tuple[int, list[str]]:
    """The numerics version that fills most groups, the newest among equals; runs of others are named."""
    versions = {record.numerics_version for record in records}
    if len(versions) < 2:
        return next(iter(versions), 0), []
    found: dict[int, list[Record]] = {}
    filled: dict[int, int] = {}
    for version in versions:
        chosen = select([r for r in records if r.numerics_version == version], recipe, runs, scale, budgets)
        found[version] = chosen.records
        filled[version] = sum(map(bool, chosen.groups))
    best = max(filled, key=lambda version: (filled[version], version))
    return best, [
        f"left out, of numerics version {version} instead of {best}: {run_ids(found[version])}"
        for version in sorted(found)
        if version != best and found[version]
    ]


def _seeds(group: Group, needed: int, chosen: Sequence[Record], c: Comparison, notes: list[str]) -> Seeds:
    records: list[Record] = []
    values: list[float] = []
    images = None
    for record in chosen:
        if len(records) == needed:  # set beforehand: who adds seeds until p is small finds something in nothing
            notes.append(f"left out, beyond the {needed} seeds that the claim asks for: {record.run_id}")
            continue
        try:
            found = quantity(record, c)
        except InputError as error:
            notes.append(f"left out: {record.run_id}: {error}")
            continue
        records.append(record)
        values.append(found.value)
        images = found.images
    seeds = tuple(record.seed for record in records)
    ids = tuple(record.run_id for record in records)
    return Seeds(group, needed, seeds, ids, tuple(values), images, tuple(records))
