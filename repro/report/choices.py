"""The effect of each open choice on the paper's comparisons."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from repro.config.run import RunConfig
from repro.report.tables.frame import NOT_RUN, signed, text_table
from repro.results.record import Record

EXPERIMENT = "cifar_open_choices"


class Question(NamedTuple):
    """A difference between two nets that is above zero in the paper; ``error`` is a field of ``Result``."""

    worse: str
    better: str
    error: str
    title: str


QUESTIONS = (
    Question("plain-56", "plain-20", "train_running", "plain-56 − plain-20, running training error"),
    Question("plain-56", "plain-20", "final", "plain-56 − plain-20, test error"),
    Question("plain-20", "ResNet-20", "final", "plain-20 − ResNet-20, test error"),
)
"""Degradation in training and test error (Figure 1), and the benefit of shortcuts at equal depth (Figure 6)."""


class Difference(NamedTuple):
    """A difference of two means in percentage points; its standard ``error`` is None if a net has a single seed."""

    points: float
    error: float | None

    def __str__(self) -> str:
        return signed(self.points) + ("" if self.error is None else f" ± {self.error:.2f}")


@dataclass
class Choice:
    """The runs of one recipe: the defaults (``switch`` is empty), or the defaults with one switch changed."""

    switch: str
    runs: list[RunConfig] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    """Records by label of the net, one per seed."""

    def difference(self, question: Question) -> Difference | None:
        """Return the measured difference for ``question``; None if one of its nets has no record."""
        groups = [self.records.get(label, []) for label in (question.worse, question.better)]
        read = [[getattr(record.result, question.error) for record in group] for group in groups]
        errors = [[counts.top1_error for counts in group if counts is not None] for group in read]
        if not all(errors):
            return None
        points = statistics.fmean(errors[0]) - statistics.fmean(errors[1])
        if min(map(len, errors)) == 1:
            return Difference(points, None)
        return Difference(points, math.sqrt(sum(statistics.variance(group) / len(group) for group in errors)))

    def reverses(self, question: Question, usual: Choice) -> bool:
        """Return whether the difference has the opposite sign of the defaults' difference."""
        here, before = self.difference(question), usual.difference(question)
        return here is not None and before is not None and here.points * before.points < 0

    @property
    def made(self) -> int:
        """Number of runs with a record."""
        there = {record.fingerprint for group in self.records.values() for record in group}
        return sum(run.fingerprint in there for run in self.runs)

    @property
    def whole(self) -> bool:
        return all(self.difference(question) is not None for question in QUESTIONS)


def choices(runs: Sequence[RunConfig], records: Sequence[Record]) -> list[Choice]:
    """Group the records of ``runs`` by the switch that each run changes, the defaults first.

    A choice that does not affect a net (option A does not affect plain nets) uses the default records of that net.

    Args:
        runs: Runs of the experiment; the first run of each net follows the defaults.
        records: All records; those of other runs are ignored.
    """
    # As in tables, runs of uncommitted code do not count at the paper's budget. Proxies claim less.
    made = {r.fingerprint: r for r in records if r.scale != "paper" or r.provenance.dirty is False}
    recipes: dict[str, dict[str, Any]] = {}
    found: dict[str, Choice] = {"": Choice("")}
    for run in runs:
        recipe = run.science.flat()
        switch = _switched(recipe, recipes.setdefault(run.model.label, recipe))
        choice = found.setdefault(switch, Choice(switch))
        choice.runs.append(run)
        group = choice.records.setdefault(run.model.label, [])
        group += [made[run.fingerprint]] if run.fingerprint in made else []
    for choice in found.values():
        choice.records = {**found[""].records, **choice.records}
    return list(found.values())


def _switched(recipe: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """Return the settings of ``recipe`` that differ from ``usual``, as on the command line."""
    changes = {key: value for key, value in recipe.items() if value != usual[key]}
    return " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in changes.items())


def to_text(found: Sequence[Choice], command: str) -> str:
    """Return a table with one row per choice, reversed differences marked, and a summary below it.

    Args:
        command: Command that trains the missing runs.
    """
    usual, *others = found
    header = ["choice", "runs", *(question.title for question in QUESTIONS)]
    rows = [[choice.switch or "defaults", *_cells(choice, usual)] for choice in found]
    reversing = [c.switch for c in others if any(c.reverses(question, usual) for question in QUESTIONS)]
    whole = sum(usual.whole and choice.whole for choice in others)
    lines = [f"{whole} of {len(others)} choices are measured (differences in percentage points)."]
    if reversing:
        lines.append(f"{len(reversing)} reverse a difference: {', '.join(reversing)}.")
        lines.append("With one seed, or within the ± of zero, this can be chance.")
    elif whole:
        lines.append("None of them reverses a difference.")
    if lacking := sum(len(choice.runs) - choice.made for choice in found):
        lines.append(f"{lacking} runs are missing or were made from uncommitted code: {command}")
    return "\n".join([text_table(rows, header, words=header), "", *lines])


def _cells(choice: Choice, usual: Choice) -> list[str]:
    cells = [f"{choice.made} of {len(choice.runs)}"]
    for question in QUESTIONS:
        difference = choice.difference(question)
        mark = " reversed" if choice.reverses(question, usual) else ""
        cells.append(NOT_RUN if difference is None else f"{difference}{mark}")
    return cells
