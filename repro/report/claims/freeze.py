"""Frozen rules of the claims: their digest and its log."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from repro.config.paths import shared_dir
from repro.errors import InputError
from repro.papers import load_recipe
from repro.papers.toml_files import FIRST, read_toml
from repro.runtime.files import write_asked_for

LOCK, LOG = "claims.lock", "AMENDMENTS.md"
PROSE = ("label", "where", "text", "words", "proxy_words", "proxy_experiment")
"""Keys of claims.toml that decide nothing: texts, and commands for missing runs."""
ENTRY = re.compile(r"^## \d{4}-\d{2}-\d{2}.*\n", re.MULTILINE)
DIGEST = re.compile(r"^Digest: `([0-9a-f]{16})`", re.MULTILINE)
LISTED = 30
"""If there are more changes, the log only counts them by claim or group; the history of the lock has all."""

Rules = Mapping[str, Any]
"""Everything that decides a claim, flat: ``{"groups / plain20 / seeds": 5, …}``."""


def rules(paper: str = FIRST) -> Rules:
    """Read the rules of a paper's claims: its claims.toml without prose, and the recipes that it names.

    They are read from the files and not from dataclasses, so that a change of the code does not move the digest.
    """
    values = read_toml(f"{paper}/claims")
    recipes = {group["recipe"]: None for group in values.get("groups", {}).values() if "recipe" in group}
    fields = {name: load_recipe(name).fields for name in recipes}
    return dict(_flat({**values, "recipes": fields}))


def digest(rules: Rules) -> str:
    """Return 16 hexadecimal digits of the rules."""
    return hashlib.sha256(_text(rules).encode()).hexdigest()[:16]


def faults(paper: str = FIRST) -> list[str]:
    """Return a sentence if the rules differ from the frozen ones, or the frozen ones from the log; else nothing."""
    present, frozen, log = rules(paper), _frozen(paper), f"experiments/{paper}/{LOG}"
    command = "repro check --freeze" if paper == FIRST else f"repro check --paper {paper} --freeze"
    remedy = f"describe change, reason and known results in {log}, then run `{command}`"
    if changed := changes(frozen, present):
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        return [f"the rules of the claims differ from the frozen ones: {changed[0]}{more}; {remedy}"]
    logged = DIGEST.findall(_read(paper, LOG))
    if logged[-1:] != [digest(frozen)]:
        named = logged[-1] if logged else "none"
        return [f"{log} ends with the digest {named} instead of {digest(frozen)}; {remedy}"]
    return []


def freeze(paper: str = FIRST) -> str:
    """Write the lock, add digest and changes to the last entry of the log, and return a message.

    Raises:
        InputError: The last entry belongs to an earlier freeze, or gives no reason.
    """
    present, log = rules(paper), _read(paper, LOG)
    if not faults(paper):
        return f"the rules are already frozen, with the digest {digest(present)}\n"
    last = ENTRY.split(log)[-1] if ENTRY.search(log) else ""
    if not last.strip() or DIGEST.search(last):
        raise InputError(
            f'experiments/{paper}/{LOG} needs a new entry for this change: "## YYYY-MM-DD: …" and the reason below'
        )
    changed = changes(_frozen(paper), present)
    listed = changed
    if len(changed) > LISTED:
        places = Counter(" / ".join(change.split(" = ")[0].split(" / ")[:2]) for change in changed)
        listed = [f"{place}: {number}" for place, number in places.items()]
    entry = [f"Digest: `{digest(present)}`, {len(changed)} changes (all are in the history of {LOCK}):", ""]
    write_asked_for(_folder(paper) / LOCK, _text(present))
    lines = [log.rstrip(), "", *entry, *(f"- {line}" for line in listed), ""]
    write_asked_for(_folder(paper) / LOG, "\n".join(lines))
    return f"frozen, with the digest {digest(present)}: {len(changed)} changes\n"


def changes(old: Rules, new: Rules) -> list[str]:
    """Return one phrase for each rule that changed, sorted by name."""
    before, after = ({key: json.dumps(value, ensure_ascii=False) for key, value in r.items()} for r in (old, new))
    phrases = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            phrases.append(f"{key} = {before[key]} is gone")
        elif key not in before:
            phrases.append(f"{key} = {after[key]} is new")
        elif before[key] != after[key]:
            phrases.append(f"{key} = {after[key]} instead of {before[key]}")
    return phrases


def _flat(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        # Claims and comparisons are keyed by name, since their order decides nothing.
        names = [str(value.get("id") or value.get("name")) for value in values]
        places = [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]
        values = {
            place: {key: item for key, item in value.items() if key not in ("id", "name")}
            for place, value in zip(places, values, strict=True)
        }
    if not isinstance(values, dict):
        yield " / ".join(path), values
        return
    for key, value in values.items():
        if key not in PROSE:
            # That a claim is undecidable is a rule; the reason is prose.
            yield from _flat(True if key == "undecidable" else value, (*path, key))


def _text(rules: Rules) -> str:
    lines = [f" {json.dumps(key, ensure_ascii=False)}: {json.dumps(rules[key], ensure_ascii=False)}" for key in rules]
    return "{\n" + ",\n".join(sorted(lines)) + "\n}\n"


def _frozen(paper: str) -> Rules:
    try:
        frozen: Rules = json.loads(_read(paper, LOCK) or "{}")
    except ValueError as error:
        raise InputError(f"experiments/{paper}/{LOCK} is not JSON ({error}): restore it from git") from None
    return frozen


def _folder(paper: str) -> Path:
    return shared_dir("experiments") / paper


def _read(paper: str, name: str) -> str:
    """Return the text of a file of the paper's folder; empty if there is none."""
    try:
        return (_folder(paper) / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"experiments/{paper}/{name} cannot be read: {error}") from None
