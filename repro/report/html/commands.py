"""Short command lines that make runs again."""

from __future__ import annotations

import functools
import shlex

from repro.config.compose import choices, plan
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.results.record import Record

NET = ("model.depth", "model.shortcut")
"""Always said, so that a command names the net that it trains."""


def repeat(record: Record) -> str | None:
    """Write ``repro run …`` for this run alone: its config groups, its net, the other fields that differ, its seed.

    None where the configuration files no longer describe such a run; its record still has the command that made it.
    """
    model, data = record.science.model.name, record.science.data.name
    words = [f"{group}={name}" for group, name in (("model", model), ("data", data)) if name in choices(group)]
    # The paper's scale is the default, and a run's name carries the scale.
    words += [f"scale={record.scale}"] if record.scale in choices("scale") and record.scale != "paper" else []
    base = _planned(tuple(words))
    if base is None or base.scale != record.scale:
        return None
    usual, fields = base.science.flat(), record.science.flat()
    differing = [f"{key}={_word(value)}" for key, value in fields.items() if key in NET or usual[key] != value]
    words = [word for word in words if word not in _defaults()]
    return shlex.join(["repro", "run", *words, *differing, f"seed={record.seed}"])


@functools.cache
def _planned(words: tuple[str, ...]) -> RunConfig | None:
    try:
        return plan(list(words)).runs[0]
    except InputError:
        return None


@functools.cache
def _defaults() -> tuple[str, ...]:
    """Return the words that change nothing because the configuration chooses them anyway."""
    base = plan([]).runs[0]
    return f"model={base.model.name}", f"data={base.data.name}"


def _word(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "").replace("'", "")
