"""Small runs for the tests: composed from conf/ as a user would, on synthetic data at smoke scale."""

from __future__ import annotations

from pathlib import Path

from repro.compose import plan
from repro.config import RunConfig


def configs(folder: Path, *words: str) -> list[RunConfig]:
    """The runs of ``words`` at smoke scale on synthetic data, with all paths inside ``folder``."""
    given = {word.partition("=")[0] for word in words}
    defaults = {
        "data": "synthetic",
        "scale": "smoke",
        "execution.threads": "1",
        "execution.progress": "none",
        "device": "cpu",
        "paths.data": folder / "data",
        "paths.work": folder / "work",
        "paths.results": folder / "results",
    }
    return plan([*words, *(f"{key}={value}" for key, value in defaults.items() if key not in given)]).runs


def config(folder: Path, *words: str) -> RunConfig:
    (only,) = configs(folder, *words)
    return only
