"""Seeds that failed, and committed records that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from repro.config.science import Science, later_defaults
from repro.errors import InputError
from repro.papers.claims import Claims
from repro.report.claims.evidence import Problem
from repro.results.read import Record
from repro.runtime.provenance import git, read_json


def absent(claims: Claims, records: Sequence[Record], folders: Sequence[Path], published: Path | None) -> list[Problem]:
    """Name every counted seed that failed in ``folders``, and every record once committed in ``published``.

    No verdict rests on them: they are told so that nobody takes a seed that went wrong for one that nobody ran.
    """
    finished = {record.run_id for record in records}
    return [
        *(problem for problem in failed(claims, folders) if problem.name.split("/")[-1] not in finished),
        *(deleted(published) if published else ()),
    ]


def failed(claims: Claims, folders: Sequence[Path]) -> list[Problem]:
    """Find the runs at the paper's budget that ended in an error, of seeds that a group asks for."""
    problems = []
    for file in sorted(file for folder in folders for file in folder.glob("*/failure.txt")):
        folder = file.parent
        if (folder / "record.json").exists():
            continue
        try:
            science = Science.from_dict(read_json(folder / "config.json").get("science"))
            labels = _groups(claims, science)
            present = folder.name.endswith(science.fingerprint()[:8])
            lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except (InputError, OSError):
            continue  # `repro status` tells of folders that are broken
        if labels and present:  # one of older numerics is no seed of what is counted now
            why = f": {lines[-1].rstrip('.')}" if lines else ""
            reason = f"seed {science.seed} of {', '.join(labels)} failed and stays missing{why}"
            problems.append(Problem(f"{folder.parent.name}/{folder.name}", reason, False))
    return problems


def deleted(published: Path) -> list[Problem]:
    """Find the records that were committed in the folder ``published`` and are not there now; none without git."""
    log = git(
        *("-C", str(published.parent), "log", "--diff-filter=A", "--no-renames", "--relative", "--name-only"),
        *("--format=commit %h of %as", "--", f"{published.name}/*/record.json"),
    )
    came_with: dict[str, str] = {}
    commit = ""
    for line in (log or "").splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line:
            came_with.setdefault(line, commit)  # the log goes back in time
    gone: dict[str, list[str]] = {}
    for name, commit in sorted(came_with.items()):
        if not (published.parent / name).is_file():
            gone.setdefault(commit, []).append(name.removesuffix("/record.json"))
    return [
        Problem(", ".join(names), f"committed in {commit} and deleted since", False) for commit, names in gone.items()
    ]


def _groups(claims: Claims, science: Science) -> list[str]:
    """Return the labels of the groups of which a run is a counted seed."""
    defaults, fields = later_defaults(), science.flat()
    return [
        group.label
        for group in claims.groups.values()
        if science.seed < group.seeds and fields == {**defaults, **claims.recipes[group.recipe], **group.run}
    ]
