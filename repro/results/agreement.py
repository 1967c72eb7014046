"""The agreement of a run with other seeds of its settings."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from repro.results.publish import is_same
from repro.results.read import AnyRecord, Record

R = TypeVar("R", bound=AnyRecord)
State = Literal["identical", "within", "outside", "unknown"]
CONFIDENCE = 0.95
FEWEST = 3
"""The least number of other seeds for a spread: two have an interval of 15.6 standard deviations to each side."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of a run with others; ``text`` has the numbers."""

    state: State
    text: str


def same_settings(record: R, others: Sequence[R]) -> list[R]:
    """Return the records that have the settings of ``record`` and any seed, except those in its own folder."""

    def recipe(one: R) -> tuple[object, int]:
        return dataclasses.replace(one.science, seed=0), one.numerics_version

    here = record.folder.resolve()
    return [other for other in others if recipe(other) == recipe(record) and other.folder.resolve() != here]


def agreement(record: Record, others: Sequence[Record]) -> Agreement:
    """Compare the final error of ``record`` with those of ``others``, seeds of one recipe.

    The spread is the prediction interval of the others: if nothing else differs, 95 of 100 new seeds are within it. Of
    fewer than ``FEWEST`` others the state is unknown.
    """
    if any(is_same(record, other) for other in others if other.run_id == record.run_id):
        return Agreement("identical", f"{record.run_id} equals the other record of this run to the bit")
    error, errors = (record.result.reported.top1_error, [other.result.reported.top1_error for other in others])
    if len(errors) < FEWEST:
        seen = f", other seeds of its settings {', '.join(f'{one:.2f} %' for one in errors)}" if errors else ""
        needs = f"too few seeds to judge: a spread needs {FEWEST} others, found {len(errors)}"
        return Agreement("unknown", f"{record.run_id} has an error of {error:.2f} %{seen}; {needs}")
    mean, std = statistics.fmean(errors), statistics.stdev(errors)
    limit = _quantile(len(errors) - 1) * std * math.sqrt(1 + 1 / len(errors))
    state: State = "within" if abs(error - mean) <= limit else "outside"
    spread = f"{mean:.2f} ± {std:.2f} % of {len(errors)} seeds (95 %: {mean - limit:.2f} to {mean + limit:.2f})"
    return Agreement(state, f"{record.run_id} has an error of {error:.2f} %, {state} the spread of {spread}")


def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
