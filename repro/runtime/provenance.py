"""Provenance of a run, and its text files."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from repro.config.paths import PACKAGE, in_checkout
from repro.errors import InputError, RunError
from repro.runtime.files import replacing

COMMAND = "REPRO_COMMAND"  # the variable with the command for records; child processes inherit it
CURVE_COLUMNS = ("step", "epoch", "lr", "train_loss", "train_error", "eval_loss", "eval_error")


def write_atomically(path: Path, text: str) -> None:
    """Write a text; raise a RunError if it cannot be written."""
    with replacing(path, RunError) as file:
        file.write(text.encode())


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(values, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise an InputError if the file has none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object")
    return values


def curve_csv(rows: Iterable[Iterable[float]]) -> str:
    """Format a curve: a row per evaluation, errors in percent, without times, so that equal runs have equal curves."""
    lines = [CURVE_COLUMNS, *([format(value, ".10g") for value in row] for row in rows)]
    return "".join(",".join(line) + "\n" for line in lines)


def set_command(text: str) -> None:
    """Set the command for the records of this process and of its children."""
    os.environ[COMMAND] = text


def command() -> str:
    """Return the command that repeats the runs of this process."""
    return os.environ.get(COMMAND, "")


def commit() -> str:
    """Return the commit of the running code; ``REPRO_COMMIT`` replaces it without git."""
    return os.environ.get("REPRO_COMMIT") or git("rev-parse", "HEAD") or "unknown"


def dirty() -> bool | None:
    """Return whether code or configuration differ from the commit; ``REPRO_DIRTY`` replaces it without git."""
    if value := os.environ.get("REPRO_DIRTY"):
        return value.lower() in ("1", "true", "yes")
    status = git("status", "--porcelain", "--", "repro", "conf", "experiments", "pyproject.toml")
    return None if status is None else status != ""


def git(*words: str) -> str | None:
    """Return the output of git, or None without git or a checkout."""
    if not in_checkout():
        return None
    try:
        done = subprocess.run(["git", *words], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def environment() -> dict[str, Any]:
    """Describe code, interpreter and packages of this process, as of the first call."""
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    return {
        "commit": commit(),
        "dirty": dirty(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": [f"{name}=={version}" for name, version in sorted(installed.items(), key=lambda p: p[0].lower())],
    }


def uncounted() -> str:
    """Return the reason why a run of this code at the paper's budget would not count as measured, or an empty text."""
    code = environment()
    if code["dirty"]:
        return (
            "repro/, conf/, experiments/ or pyproject.toml have uncommitted changes: runs at the paper's budget that "
            "are trained now will never count as measured; commit first"
        )
    if code["dirty"] is None or code["commit"] == "unknown":
        return (
            "the commit of this code is unknown: no verdict will use runs that are trained now; "
            "set REPRO_COMMIT=<commit> and REPRO_DIRTY=0"
        )
    return ""


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
