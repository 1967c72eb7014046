"""Reads ``experiments/*.toml`` strictly: what does not fit a dataclass exactly is refused."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from typing import Any

from repro.config.parse import convert, require
from repro.config.paths import shared_dir
from repro.errors import InputError, nearest

Run = Mapping[str, Any]
"""The science fields, flat (``{"model.depth": 20}``), that a row or a curve sets on top of its recipe."""


def fill(kind: Any, values: dict[str, Any], **parsed: Any) -> Any:
    """The dataclass ``kind`` from the keys of a file, strict, and the fields that were ``parsed`` already."""
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name not in parsed}
    for name in values:
        if name not in hints:
            raise InputError(f"unknown key {name!r}: {nearest(name, hints)}")
    for item in dataclasses.fields(kind):
        given = item.name in values or item.name in parsed or item.default is not dataclasses.MISSING
        require(given, f"{item.name} is missing")
    return kind(**{name: convert(hints[name], value, name) for name, value in values.items()}, **parsed)


def flat_fields(values: Any, where: str) -> Run:
    """``values`` checked to be flat science fields in quotes, as in ``"optim.lr" = 0.1``."""
    require(isinstance(values, dict), f"{where} must be a table of science fields")
    for key, value in values.items():
        require(key.count(".") == 1 and not isinstance(value, dict), f'{where}: {key} must read "group.field" = value')
    return dict(values)


def read_toml(name: str) -> dict[str, Any]:
    file = shared_dir("experiments") / f"{name}.toml"
    if not file.is_file():
        raise InputError(f"there is no experiments/{name}.toml")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"experiments/{name}.toml is not TOML: {error}") from None


def numbers(kind: str) -> list[int]:
    names = (file.stem.removeprefix(kind) for file in shared_dir("experiments").glob(f"{kind}*.toml"))
    return sorted(int(name) for name in names if name.isdigit())


def require_known(kind: str, number: int) -> None:
    there = numbers(kind)
    known = ", ".join(map(str, there)) or "none"
    require(number in there, f"there is no {kind} {number} here; {kind}s that can be made: {known}")
