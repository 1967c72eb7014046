"""Conversion between plain values and dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from repro.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Bound:
    """A limit, annotated beside the type of a number: ``Annotated[int, POSITIVE]``."""

    text: str
    holds: Callable[[float], bool]


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf:
    """The words that a value can be, beside its type: ``Annotated[str, OneOf(FAMILIES)]``."""

    words: Collection[str]


POSITIVE = Bound("must be above 0", lambda value: value > 0)
NOT_NEGATIVE = Bound("must not be negative", lambda value: value >= 0)


class Open:
    """A dataclass that older and newer code also write: unknown keys are ignored, and missing values may be None."""


def build(kind: Any, values: Any, where: str = "", **parsed: Any) -> Any:
    """Convert ``values`` to the dataclass ``kind``; refuse everything that does not fit exactly.

    Args:
        where: The name of the group in messages.
        parsed: Fields that are already converted; ``values`` must not have them.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a group of settings, not {values!r}")
    hints, is_open = _hints(kind), issubclass(kind, Open)
    prefix = f"{where}." if where else ""
    for name in values:
        if (name not in hints or name in parsed) and not is_open:
            known = [hint for hint in hints if hint not in parsed]
            raise InputError(f"unknown key {prefix + str(name)!r}: {nearest(str(name), known)}")
    given = {name: convert(hints[name], value, prefix + name) for name, value in values.items() if name in hints}
    given |= parsed
    for field in dataclasses.fields(kind):
        if field.name not in given and field.default is field.default_factory is dataclasses.MISSING:
            if not is_open or type(None) not in _alternatives(hints[field.name]):
                raise InputError(f"{prefix + field.name} is missing")
            given[field.name] = None
    return kind(**given)


def plain(value: Any) -> Any:
    """Return JSON values from which ``build`` makes the same dataclass; fields at their default are left out."""
    if dataclasses.is_dataclass(value):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {field.name: plain(part) for field, part in fields if part != field.default}
    return [plain(part) for part in value] if isinstance(value, tuple) else value


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, annotated or not."""
    return typing.get_args(hint.__origin__ if typing.get_origin(hint) is Annotated else hint)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Convert ``value`` to the type ``hint``; ``where`` names the key in messages."""
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint is Any:
        return value
    if typing.get_origin(hint) is not None:
        return _convert_generic(hint, value, where)
    if hint is bool:
        require(isinstance(value, bool), f"{where}={value!r} must be true or false")
        return value
    if hint in (int, float):
        return _number(hint, value, where)
    if hint is Path:
        require(isinstance(value, (str, Path)) and str(value) != "", f"{where}={value!r} must be a path")
        return Path(value).expanduser()
    require(isinstance(value, str), f"{where}={value!r} must be a word")
    return value


def _convert_generic(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _bounded(hint, convert(args[0], value, where), where)
    if origin is Literal:
        words = {str(a): a for a in args}
        if value is None or str(value) not in words:
            raise InputError(f"{where}={value} is unknown: {nearest(str(value), words)}")
        return words[str(value)]
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where}={value!r} must be a list, as in {where}=[1,2]")
        parts = dataclasses.is_dataclass(args[0])
        return tuple(convert(args[0], v, f"{where}[{i}]" if parts else where) for i, v in enumerate(value))
    if origin is Mapping:
        require(isinstance(value, dict), f"{where} must be a group, not {value!r}")
        return {str(name): convert(args[1], v, f"{where}.{name}") for name, v in value.items()}
    if value is None and type(None) in args:
        return None
    word = next((a for a in args if typing.get_origin(a) is Literal and value in typing.get_args(a)), args[0])
    return convert(word, value, where)


def _bounded(hint: Any, value: Any, where: str) -> Any:
    for bound in hint.__metadata__:
        if isinstance(bound, OneOf) and value not in bound.words:
            raise InputError(f"{where}={value} is unknown: {nearest(str(value), bound.words)}")
        if isinstance(bound, Bound) and isinstance(value, (int, float)) and not bound.holds(value):
            words = ["null" if a is type(None) else typing.get_args(a)[0] for a in _alternatives(hint)[1:]]
            raise InputError(", or ".join([f"{where}={value} {bound.text}", *words]))
    return value


def _number(hint: Any, value: Any, where: str) -> Any:
    try:
        number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:
        raise InputError(f"{where} is a number that is too large") from None
    fits = number and (hint is float or float(value).is_integer())
    require(fits, f"{where}={value!r} must be a {'whole number' if hint is int else 'number'}")
    return hint(value)


def require(condition: bool, sentence: str) -> None:
    """Raise ``InputError`` with ``sentence`` unless ``condition`` is true."""
    if not condition:
        raise InputError(sentence)
