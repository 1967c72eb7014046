"""Folders of the code, the data and the results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from repro.errors import InputError

PACKAGE = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return the parent of the default folders: the checkout, or the current folder for an installed wheel."""
    return PACKAGE.parent if in_checkout() else Path.cwd()


def in_checkout() -> bool:
    return (PACKAGE.parent / "conf" / "config.yaml").is_file()


def shared_dir(name: str) -> Path:
    """Return the folder ``conf``, ``experiments`` or ``results``, below ``REPRO_SHARE`` if that is set."""
    if share := os.environ.get("REPRO_SHARE"):
        return Path(share) / name
    return PACKAGE.parent / name if in_checkout() else PACKAGE / "share" / name


def default_path(name: str, results: Path | None = None) -> Path:
    """Return the default of ``paths.<name>``; ``REPRO_DATA``, ``REPRO_WORK`` and ``REPRO_RESULTS`` override it."""
    if value := os.environ.get(f"REPRO_{name.upper()}"):
        return Path(value)
    if name == "work":
        return (results or default_path("results")) / "work"
    return home() / name


def resolve_paths(given: Mapping[str, object]) -> dict[str, Path]:
    """Return the three folders; the default of each one that ``given`` lacks, for work a folder in results."""
    results = Path(str(given["results"])) if given.get("results") else default_path("results")
    work = Path(str(given["work"])) if given.get("work") else default_path("work", results)
    data = Path(str(given["data"])) if given.get("data") else default_path("data")
    return {name: expanded(path).absolute() for name, path in (("data", data), ("work", work), ("results", results))}


def expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # no user has that name
        raise InputError(f"the folder {path} cannot be found: there is no home folder {path.parts[0]}") from error
