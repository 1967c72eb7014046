"""What a command that needs no Hydra reads from its words: folders and the protocol."""

from __future__ import annotations

import os
from pathlib import Path

from repro.errors import InputError, nearest
from repro.resources import default_path, in_checkout, resolve_paths, shared_dir


def paths_from(words: list[str], *, protocol: bool = False) -> dict[str, Path]:
    """The three folders for a command that needs no other setting, but for the ``protocol`` where it reads one.

    Raises:
        InputError: A word sets something else, or nothing.
    """
    given = {}
    known = [*(f"paths.{name}" for name in ("data", "work", "results")), *["protocol"] * protocol]
    for word in words:
        key, sign, value = word.partition("=")
        if key not in known:
            raise InputError(f"unknown word {word!r}: {nearest(key, known)}")
        if not sign:
            raise InputError(f"{word!r} sets nothing: write {word}=…")
        if key != "protocol":
            given[key.removeprefix("paths.")] = value
    return resolve_paths(given)


def protocol_from(words: list[str]) -> str:
    values = [word.partition("=")[2] for word in words if word.startswith("protocol=")]
    return values[-1] if values else "paper"


def published_results(paths: dict[str, Path]) -> Path:
    """The results folder; a wheel brings the published ones along."""
    default = paths["results"] == default_path("results").absolute()
    return shared_dir("results") if default and not in_checkout() else paths["results"]


def evidence_roots(paths: dict[str, Path], *, published: bool, unpublished: bool) -> list[Path]:
    """Where evidence is read: the results folder, the work folder, or both; ``record_folders`` has their runs."""
    roots = [published_results(paths), paths["work"]]
    return roots[:1] if published else roots[1:] if unpublished else roots


def record_folders(paths: dict[str, Path], roots: list[Path]) -> list[Path]:
    """The folders that hold runs: ``runs`` of the results folder, the work folder itself."""
    return [root if root == paths["work"] else root / "runs" for root in roots]


def quiet_caches(work: Path) -> None:
    """Sends what libraries keep on disk to ``paths.work``; must come before they are imported."""
    for name, folder in (
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ("TRITON_CACHE_DIR", "triton"),
        ("MPLCONFIGDIR", "matplotlib"),
    ):
        os.environ.setdefault(name, str(work / "cache" / folder))


def say(text: str) -> None:
    print(text, flush=True)
