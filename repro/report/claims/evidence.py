"""Records that comparisons use, and those left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from repro.config.numerics import NUMERICS_VERSION, numerics_version
from repro.config.science import later_defaults
from repro.errors import InputError
from repro.papers.claims import Claims, Comparison, Group
from repro.report.claims.metrics import OF_NET, value_of
from repro.report.claims.statistics import Sample, describe
from repro.results.read import AnyRecord, Reading
from repro.results.scales import word
from repro.results.select import Selection, run_ids, select

CONFOUNDED = "groups and devices are confounded"


@dataclass(frozen=True)
class Problem:
    """A record that no verdict uses, and the reason; ``breaks`` if it is committed and should be valid.

    ``claims`` are the ids of the claims that it concerns; None stands for all. Problems with the same ``together`` are
    told at once, by their number, unless it is empty.
    """

    name: str
    reason: str
    breaks: bool
    claims: tuple[str, ...] | None = field(default=None, compare=False)
    together: str = ""


@dataclass(frozen=True)
class Seeds:
    """Runs of one group at one scale, with one value per seed; each error was counted over ``images``.

    Only the seeds 0 to ``needed`` - 1 count. Those without a usable run are ``missing``, and ``command`` trains them.
    """

    group: Group
    needed: int
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    images: int | None = None
    records: tuple[AnyRecord, ...] = ()
    command: str = ""

    @property
    def label(self) -> str:
        return self.group.label

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(record.run_id for record in self.records)

    @property
    def sample(self) -> Sample | None:
        return describe(self.values) if self.values else None

    @property
    def missing(self) -> tuple[int, ...]:
        return tuple(seed for seed in range(self.needed) if seed not in self.seeds)


def usable(reading: Reading, published: Path | None = None) -> tuple[list[AnyRecord], list[Problem]]:
    """Return the records whose code is known and committed, and the problems of the others."""

    def is_committed(folder: Path) -> bool:
        return published is None or folder.parent == published

    problems = [Problem(out.name, out.reason, is_committed(out.folder)) for out in reading.left_out]
    every: list[AnyRecord] = [*reading.records, *reading.detectors]
    faults = {record.run_id: _fault(record) for record in every}
    for record in every:
        if reason := faults[record.run_id]:
            name = f"{record.folder.parent.name}/{record.run_id}"
            problems.append(Problem(name, reason, is_committed(record.folder) and bool(record.provenance.dirty)))
    return [record for record in every if not faults[record.run_id]], problems


def _fault(record: AnyRecord) -> str | None:
    if not record.provenance.known:
        return "it was made from an unknown commit"
    if record.provenance.dirty is None:
        return "it is unknown whether its tree had uncommitted changes"
    return "it was made from a tree with uncommitted changes" if record.provenance.dirty else None


class Gathered(NamedTuple):
    """The groups of a comparison; ``notes`` name the records that were left out."""

    groups: tuple[Seeds, ...] = ()
    notes: tuple[str, ...] = ()


def gather(claims: Claims, c: Comparison, records: Sequence[AnyRecord], scale: str = "paper") -> Gathered:
    """Select the runs that ``c`` compares at ``scale``, all of one recipe and one numerics version."""
    version = _version(claims, c, records, scale)
    groups, notes = _filled(claims, c, _of(version, records), scale)
    left = [record for record in records if not _is_of(version, record)]
    for other in sorted({record.numerics_version for record in left}):
        if found := selected(claims, c, [r for r in left if r.numerics_version == other], scale).records:
            counted = numerics_version(found[0].science.flat(), version)
            notes.append(f"left out, numerics version {other} instead of {counted}: {run_ids(found)}")
    return Gathered(groups, (*notes, *_unpaired(c, groups), *_unlike_devices(c, groups)))


def _version(claims: Claims, c: Comparison, records: Sequence[AnyRecord], scale: str) -> int:
    """Return the newest numerics version in which the whole claim, or else ``c``, is complete; else the current one.

    An incomplete newer version therefore never replaces a complete older one.
    """
    versions = sorted({record.numerics_version for record in records}, reverse=True)
    if len(_of(NUMERICS_VERSION, records)) == len(records):
        return NUMERICS_VERSION
    others = next((claim.comparisons for claim in claims.claims if any(part is c for part in claim.comparisons)), ())
    deciding = (c, *(part for part in others if part.decides and part.metric not in OF_NET and part is not c))
    for asked in (deciding, (c,)):
        for version in versions:
            of_it = _of(version, records)
            if not any(seeds.missing for part in asked for seeds in _filled(claims, part, of_it, scale)[0]):
                return version
    return NUMERICS_VERSION


def _of(version: int, records: Sequence[AnyRecord]) -> list[AnyRecord]:
    return [record for record in records if _is_of(version, record)]


def _is_of(version: int, record: AnyRecord) -> bool:
    """Return whether code of this version repeats the numbers of the record."""
    return numerics_version(record.science.flat(), version) == record.numerics_version


def selected(claims: Claims, c: Comparison, records: Sequence[AnyRecord], scale: str) -> Selection[AnyRecord]:
    """Select the records that ``c`` compares at ``scale``, of any numerics version."""
    groups = [claims.groups[name] for name in c.groups]
    recipe = claims.recipes[groups[0].recipe]
    # Fields of later nets stay as in the recipe: a net constructed from a shallower one is another net.
    usual = {key: recipe.get(key, value) for key, value in later_defaults().items() if key.startswith("model.")}
    runs, budgets = [{**usual, **group.run} for group in groups], [group.proxy_experiment for group in groups]
    return select(records, recipe, runs, scale, budgets)


def _filled(
    claims: Claims, c: Comparison, records: Sequence[AnyRecord], scale: str
) -> tuple[tuple[Seeds, ...], list[str]]:
    """Return the groups of ``c`` from ``records`` of one numerics version, and notes on those left out."""
    selection = selected(claims, c, records, scale)
    notes = [*selection.notes, *selection.apart]
    filled = tuple(
        _seeds(claims, claims.groups[name], c, chosen, scale, notes)
        for name, chosen in zip(c.groups, selection.groups, strict=True)
    )
    return filled, notes


def _seeds(
    claims: Claims, group: Group, c: Comparison, chosen: Sequence[AnyRecord], scale: str, notes: list[str]
) -> Seeds:
    needed = group.seeds if scale == "paper" else min(group.seeds, claims.proxy_seeds)
    found: list[tuple[AnyRecord, float]] = []
    images = None
    for record in chosen:
        # The number of seeds is fixed beforehand: adding seeds until p is small finds effects where there are none.
        if record.seed >= needed:
            notes.append(f"left out, beyond the {needed} seeds of the claim: {record.run_id}")
            continue
        # Detectors of one seed can start from different files of the same net.
        if any(record.seed == other.seed for other, _ in found):
            notes.append(f"left out, as another run of seed {record.seed} counts: {record.run_id}")
            continue
        try:
            value, images = value_of(record, c)
        except InputError as error:
            notes.append(f"left out: {record.run_id}: {error}")
            continue
        found.append((record, value))
    records, values = tuple(record for record, _ in found), tuple(value for _, value in found)
    filled = Seeds(group, needed, tuple(record.seed for record in records), values, images, records)
    train = command(claims, group, filled.missing, scale) if filled.missing else ""
    return replace(filled, command=train)


def command(claims: Claims, group: Group, seeds: Sequence[int], scale: str) -> str:
    """Return the command that trains these seeds of ``group``."""
    words = [claims.words[group.recipe]]
    if scale != "paper":
        experiment = f"exp={group.proxy_experiment}" if group.proxy_experiment else ""
        words = [f"scale={scale}", experiment, claims.proxy_words[group.recipe]]
    fields = [f"{key}={word(value)}" for key, value in group.run.items()]
    return " ".join(filter(None, ["repro run", *words, *fields, f"seed={','.join(map(str, seeds))}"]))


def _unpaired(c: Comparison, groups: Sequence[Seeds]) -> list[str]:
    """Return a note for each seed with only one run of its pair."""
    if not c.paired or len(groups) != 2:
        return []
    first, second = groups
    lacking = dict.fromkeys(first.seeds, second.label) | dict.fromkeys(second.seeds, first.label)
    single = sorted(set(first.seeds) ^ set(second.seeds))
    return [f"seed {seed} has no pair: {lacking[seed]} has no usable run of it" for seed in single]


def of_runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _unlike_devices(c: Comparison, groups: Sequence[Seeds]) -> list[str]:
    """Return a note if devices or precisions differ between the groups, since they can cause a difference."""
    if len(groups) < 2 or not all(group.records for group in groups):
        return []
    by_seed = [{r.seed: f"{r.provenance.device} in {r.provenance.precision}" for r in g.records} for g in groups]
    counts = [Counter(settings.values()) for settings in by_seed]
    shares = [{name: number / count.total() for name, number in count.items()} for count in counts]
    shared_seeds = set.intersection(*map(set, by_seed)) if c.paired else set()
    in_pairs = any(len({settings[seed] for settings in by_seed}) > 1 for seed in shared_seeds)
    if not in_pairs and all(share == shares[0] for share in shares):
        return []
    runs = [", ".join(f"{name} ({of_runs(number)})" for name, number in sorted(count.items())) for count in counts]
    told = "; ".join(f"{group.label} on {devices}" for group, devices in zip(groups, runs, strict=True))
    alone = any(all(set(count).isdisjoint(other) for other in counts if other is not count) for count in counts)
    # The ends of a trend decide.
    if alone or (c.test == "trend" and set(counts[0]).isdisjoint(counts[-1])):
        return [f"{CONFOUNDED}, so the devices may cause the difference: {told}"]
    return [f"devices differ between the groups: {told}"]
