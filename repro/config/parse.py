"""Plain values, as configuration files hold them, to dataclasses: what does not fit exactly is refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal

from repro.errors import InputError, nearest


def build(kind: Any, values: Any, where: str = "") -> Any:
    """Converts ``values`` to the dataclass ``kind``, refusing what does not fit exactly."""
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a group of settings, not {values!r}")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for name in values:
        if name not in hints:
            raise InputError(f"unknown key {prefix + str(name)!r}: {nearest(str(name), hints)}")
    missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and f.default is dataclasses.MISSING]
    if missing:
        raise InputError(f"{prefix + missing[0]} is missing")
    return kind(**{name: convert(hints[name], value, prefix + name) for name, value in values.items()})


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``; ``where`` names the key in messages."""
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        words = {str(a): a for a in args}
        if value is None or str(value) not in words:
            raise InputError(f"{where}={value} is unknown: {nearest(str(value), words)}")
        return words[str(value)]
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        word = next((a for a in args if typing.get_origin(a) is Literal and value in typing.get_args(a)), args[0])
        return convert(word, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}={value!r} must be a list, as in {where}=[1,2]")
        return tuple(convert(args[0], v, where) for v in value)
    if hint is bool:
        require(isinstance(value, bool), f"{where}={value!r} must be true or false")
        return value
    if hint in (int, float):
        number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
        whole = number and float(value).is_integer()
        require(whole if hint is int else number, f"{where}={value!r} must be a {'whole ' * (hint is int)}number")
        return hint(value)
    if hint is Path:
        require(isinstance(value, (str, Path)) and str(value) != "", f"{where}={value!r} must be a path")
        return Path(value).expanduser()
    require(isinstance(value, str), f"{where}={value!r} must be a word")
    return value


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)
