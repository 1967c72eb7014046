"""Seeds without a record: those that failed, and records that were deleted.

No verdict uses them. Listing them distinguishes a failed seed from one that was never run, and tells what was hidden.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from repro.config.science import Science
from repro.errors import InputError
from repro.papers.claims import Claims
from repro.papers.toml_files import FIRST
from repro.report.claims.evidence import Problem, selected
from repro.report.claims.metrics import OF_NET
from repro.results.read import AnyRecord, record_from
from repro.results.scales import DEFAULTS, compared
from repro.results.select import run_ids
from repro.runtime.provenance import git, read_json

PROXIES = ("tenth", "demo")
"""Scales whose runs are shown beside a verdict, the largest budget first. They decide nothing."""
FEW = 3
"""Deleted records of a commit that are named one by one; of more only the number is told."""


def absent(
    claims: Claims, records: Sequence[AnyRecord], folders: Sequence[Path], published: Path | None
) -> list[Problem]:
    """List counted seeds that failed in ``folders``, and committed records that were deleted from ``published``.

    The first paper's list has all deleted records, that of a later one those that one of its claims would use.
    """
    finished = {record.run_id for record in records}
    problems = [problem for problem in _failed(claims, folders) if problem.name.split("/")[-1] not in finished]
    gone = _deleted(claims, records, published) if published else []
    return problems + [problem for problem in gone if claims.paper == FIRST or problem.claims != ()]


def _failed(claims: Claims, folders: Sequence[Path]) -> list[Problem]:
    """List failed runs at the paper's budget whose seeds a group counts."""
    problems = []
    for file in sorted(file for folder in folders for file in folder.glob("*/failure.txt")):
        folder = file.parent
        if (folder / "record.json").exists():
            continue
        try:
            science = Science.from_dict(read_json(folder / "config.json").get("science"))
            labels = _labels(claims, science)
            present = folder.name.endswith(science.fingerprint()[:8])
            lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except (InputError, OSError):
            continue  # `repro status` reports invalid folders
        if labels and present:  # runs of older numerics are not counted
            why = f": {lines[-1].rstrip('.')}" if lines else ""
            reason = f"seed {science.seed} of {', '.join(labels)} failed and stays missing{why}"
            problems.append(Problem(f"{folder.parent.name}/{folder.name}", reason, False))
    return problems


def _labels(claims: Claims, science: Science) -> list[str]:
    """Return the labels of the groups that count a run."""
    fields = compared(science)
    found = []
    for group in claims.groups.values():
        wanted = {**DEFAULTS, **claims.recipes[group.recipe], **group.run}
        if science.seed < group.seeds and all(wanted.get(key, ...) == value for key, value in fields.items()):
            found.append(group.label)
    return found


def _deleted(claims: Claims, records: Sequence[AnyRecord], published: Path) -> list[Problem]:
    """List records that were committed in ``published`` and deleted since; none without git."""
    log = git(
        *("-C", str(published.parent), "log", "--diff-filter=A", "--no-renames", "--relative", "--name-only"),
        *("--format=commit %h of %as", "--", f"{published.name}/*/record.json"),
    )
    came_with: dict[str, str] = {}
    for commit, *names in (part.split("\n") for part in (log or "").split("commit ")):
        came_with = dict.fromkeys(filter(None, names), commit) | came_with  # the log starts with the newest commit
    gone: dict[str, list[str]] = {}
    for name, commit in sorted(came_with.items()):
        if not (published.parent / name).is_file():
            gone.setdefault(commit, []).append(name)
    here = [record for record in records if record.folder.parent == published]
    problems = []
    for commit, names in gone.items():
        many = f"committed in {commit} and deleted since" if len(names) > FEW else ""
        for name, record in zip(names, _as_committed(names, commit, published.parent), strict=True):
            concerned = None if record is None else concerns(claims, record)
            reason = f"committed in {commit} and deleted since"
            deleted = Problem(name.removesuffix("/record.json"), reason, False, concerned, many)
            problems.append(deleted if record is None else _replaced(deleted, record, here))
    return problems


def _as_committed(names: Sequence[str], commit: str, root: Path) -> list[AnyRecord | None]:
    """Read records as they came with a commit (``1e80adc of 2026-11-21``); None for one that cannot be read."""
    objects = [f"{commit.partition(' ')[0]}:./{name}" for name in names]
    text, decoder = git("-C", str(root), "show", *objects) or "", json.JSONDecoder()
    found: list[AnyRecord | None] = []
    for name in names:
        try:
            values, end = decoder.raw_decode(text)
            text = text[end:].lstrip()
        except ValueError:  # the next one cannot be found behind it
            return [*found, *[None] * (len(names) - len(found))]
        try:
            found.append(record_from(values, (root / name).parent))
        except InputError:
            found.append(None)
    return found


def _replaced(deleted: Problem, record: AnyRecord, here: Sequence[AnyRecord]) -> Problem:
    """Add to what is told of a deleted record that runs of newer numerics replaced it, if published ones do."""
    old = record.numerics_version
    newer = [other for other in here if other.science == record.science and other.numerics_version > old]
    if not newer:
        return deleted
    new = max(other.numerics_version for other in newer)
    by = run_ids([other for other in newer if other.numerics_version == new])
    return replace(
        deleted,
        reason=f"{deleted.reason}, of numerics version {old} and replaced by {by} of version {new}",
        together=f"of numerics version {old} and replaced by runs of version {new} with the same settings and seeds "
        "(CHANGELOG.md)",
    )


def concerns(claims: Claims, record: AnyRecord) -> tuple[str, ...]:
    """Return the ids of the claims of which a comparison selects a record, at the paper's or at a reduced budget."""
    found = []
    for claim in claims.claims:
        ours = [c for c in claim.comparisons if c.metric not in OF_NET]
        if any(selected(claims, c, [record], scale).records for c in ours for scale in ("paper", *PROXIES)):
            found.append(claim.id)
    return tuple(found)
