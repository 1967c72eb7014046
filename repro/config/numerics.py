"""The numerics version of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

NUMERICS_VERSION = 3
"""Raise this with every [numerics] entry of the CHANGELOG, so that old and new records are never averaged."""

MOVED_BY: dict[int, Callable[[Mapping[str, Any]], bool]] = {
    3: lambda fields: fields["model.bn_group_size"] < fields["optim.batch_size"],
}
"""By version: the runs whose numbers it can have changed. A version without an entry can have changed all."""


def numerics_version(fields: Mapping[str, Any], code: int = NUMERICS_VERSION) -> int:
    """Return the version of a run made by code of version ``code``: the last one that can have changed its numbers.

    Args:
        fields: The science of the run, as ``Science.flat`` returns it.
    """
    return next(v for v in range(code, -1, -1) if v not in MOVED_BY or MOVED_BY[v](fields))
