"""The records that comparisons rest on, and those left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.numerics import NUMERICS_VERSION, numerics_version
from repro.config.run import later_defaults
from repro.errors import InputError
from repro.papers import Run
from repro.papers.claims import Claims, Comparison, Group
from repro.report.claims.quantities import quantity
from repro.report.claims.statistics import Sample, binomial_error, describe
from repro.results.read import Reading, Record
from repro.results.select import Selection, run_ids, select

OF_NET = ("params", "macs")
"""Metrics that are counted on the model, without a run."""
CONFOUNDED = "groups and devices cannot be told apart"
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

    They are the seeds 0 to ``needed`` - 1 and no others; ``missing`` are those of them without a usable run.
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
        return tuple(seed for seed in range(self.needed) if seed not in self.seeds)

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
    """Choose the runs that ``c`` compares at ``scale``: of one recipe, and of one numerics version in all groups."""
    version = _version(claims, c, records, scale)
    groups, notes = _filled(claims, c, _of(version, records), scale)
    left = [record for record in records if not _is_of(version, record)]
    for other in sorted({record.numerics_version for record in left}):
        if found := _selection(claims, c, [r for r in left if r.numerics_version == other], scale).records:
            counted = numerics_version(found[0].fields, version)
            notes.append(f"left out, of numerics version {other} instead of {counted}: {run_ids(found)}")
    return Evidence(scale, groups, (*notes, *_unpaired(c, groups), *_unlike_devices(c, groups)))


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


def _version(claims: Claims, c: Comparison, records: Sequence[Record], scale: str) -> int:
    """Pick the newest numerics version in which the whole claim is complete, else ``c`` alone, else the present one.

    Some runs of a newer version therefore never displace a complete older one.
    """
    versions = sorted({record.numerics_version for record in records}, reverse=True)
    if len(_of(NUMERICS_VERSION, records)) == len(records):
        return NUMERICS_VERSION
    for asked in (_deciding_with(claims, c), (c,)):
        for version in versions:
            of_it = _of(version, records)
            if not any(seeds.missing for part in asked for seeds in _filled(claims, part, of_it, scale)[0]):
                return version
    return NUMERICS_VERSION


def _deciding_with(claims: Claims, c: Comparison) -> tuple[Comparison, ...]:
    """Return ``c`` and the comparisons of runs that decide the same claim."""
    claim = next((claim for claim in claims.claims if any(part is c for part in claim.comparisons)), None)
    others = claim.comparisons if claim is not None else ()
    return (c, *(part for part in others if part.decides and part.metric not in OF_NET and part is not c))


def _of(version: int, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if _is_of(version, record)]


def _is_of(version: int, record: Record) -> bool:
    """Tell whether code of this version makes such a run with the numbers of the record."""
    return numerics_version(record.fields, version) == record.numerics_version


def _selection(claims: Claims, c: Comparison, records: Sequence[Record], scale: str) -> Selection:
    groups = [claims.groups[name] for name in c.groups]
    runs, budgets = [_complete(group.run) for group in groups], [group.proxy_experiment for group in groups]
    return select(records, claims.recipes[groups[0].recipe], runs, scale, budgets)


def _filled(
    claims: Claims, c: Comparison, records: Sequence[Record], scale: str
) -> tuple[tuple[Seeds, ...], list[str]]:
    """Fill the groups of ``c`` from ``records`` of one numerics version, with notes on what is left out."""
    selection = _selection(claims, c, records, scale)
    notes = [*selection.notes, *selection.apart]
    filled = []
    for name, chosen in zip(c.groups, selection.groups, strict=True):
        group = claims.groups[name]
        needed = group.seeds if scale == "paper" else min(group.seeds, claims.proxy_seeds)
        filled.append(_seeds(group, needed, chosen, c, notes))
    return tuple(filled), notes


def _seeds(group: Group, needed: int, chosen: Sequence[Record], c: Comparison, notes: list[str]) -> Seeds:
    records: list[Record] = []
    values: list[float] = []
    images = None
    for record in chosen:
        # Set beforehand: who adds seeds until p is small, or lets the next one in for a bad one, finds something in
        # nothing.
        if record.seed >= needed:
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


def _unpaired(c: Comparison, groups: Sequence[Seeds]) -> list[str]:
    """Note each seed of which only one run of a pair is there."""
    if not c.paired or len(groups) != 2:
        return []
    first, second = groups
    lacking = dict.fromkeys(first.seeds, second) | dict.fromkeys(second.seeds, first)
    return [
        f"seed {seed} makes no pair: there is no usable run of it of {lacking[seed].group.label}"
        for seed in sorted(set(first.seeds) ^ set(second.seeds))
    ]


def _unlike_devices(c: Comparison, groups: Sequence[Seeds]) -> list[str]:
    """Note where the groups' devices or precisions differ, which then are a part of any difference."""
    if len(groups) < 2 or not all(group.records for group in groups):
        return []
    by_seed = [{r.seed: f"{r.provenance.device} in {r.provenance.precision}" for r in g.records} for g in groups]
    counts = [Counter(settings.values()) for settings in by_seed]
    shares = [{name: number / count.total() for name, number in count.items()} for count in counts]
    shared_seeds = set.intersection(*map(set, by_seed)) if c.paired else set()
    in_pairs = any(len({settings[seed] for settings in by_seed}) > 1 for seed in shared_seeds)
    if not in_pairs and all(share == shares[0] for share in shares):
        return []
    told = "; ".join(
        f"{group.group.label} on {', '.join(f'{name} ({number} runs)' for name, number in sorted(count.items()))}"
        for group, count in zip(groups, counts, strict=True)
    )
    if any(all(set(count).isdisjoint(other) for other in counts if other is not count) for count in counts):
        return [f"{CONFOUNDED}, so the difference may be that of the devices: {told}"]
    return [f"devices differ between the groups: {told}"]
