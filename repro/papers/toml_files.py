"""The files ``experiments/<paper>/*.toml``."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from repro.config.parse import build, require
from repro.config.paths import shared_dir
from repro.errors import InputError

Run = Mapping[str, Any]
"""The science fields, flat (``{"model.depth": 20}``), that a row or a curve sets on top of its recipe."""


FIRST = "resnet"
"""The folder of the first paper, for names without a folder."""


def require_flat(fields: Run | None, where: str) -> None:
    """Raise ``InputError`` unless all science fields are flat and in quotes, as in ``"optim.lr" = 0.1``."""
    for key, value in (fields or {}).items():
        require(key.count(".") == 1 and not isinstance(value, dict), f'{where}: {key} must read "group.field" = value')


def read_toml(name: str) -> dict[str, Any]:
    """Read the file ``name`` in the folder of the first paper, or a file with its folder (``wide_resnet/table4``).

    Raises:
        InputError: There is no such file, or it is not TOML.
    """
    name = in_folder(name)
    file = shared_dir("experiments") / f"{name}.toml"
    if not file.is_file():
        raise InputError(f"there is no experiments/{name}.toml")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"experiments/{name}.toml is not TOML: {error}") from None


@contextmanager
def reading(name: str) -> Iterator[dict[str, Any]]:
    """Yield the content of a file; name the file in every ``InputError`` that its content causes."""
    values = read_toml(name)
    try:
        yield values
    except InputError as error:
        raise InputError(f"experiments/{in_folder(name)}.toml: {error}") from None


def in_folder(name: str) -> str:
    """Return the name of a file within experiments/."""
    return name if "/" in name else f"{FIRST}/{name}"


def numbers(kind: str, paper: str = FIRST) -> list[int]:
    """List the numbers of the files ``experiments/<paper>/<kind><number>.toml``."""
    folder = shared_dir("experiments") / paper
    names = (file.stem.removeprefix(kind) for file in folder.glob(f"{kind}*.toml"))
    return sorted(int(name) for name in names if name.isdigit())


@dataclass(frozen=True)
class LaterPaper:
    """A later paper, from the ``paper.toml`` in its folder."""

    name: str
    title: str
    short: str
    arxiv: str


@functools.cache
def later_papers() -> dict[str, LaterPaper]:
    """Return the later papers by the names of their folders."""
    names = sorted(file.parent.name for file in shared_dir("experiments").glob("*/paper.toml"))
    papers = {}
    for name in names:
        with reading(f"{name}/paper") as values:
            papers[name] = build(LaterPaper, values, name=name)
    return papers
