"""Output rendered from planted records, with few nets to count, since building all of them takes seconds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from repro.papers import PaperTable, load_table
from repro.report.tables import overview, table1
from tests.planted import DEMO, plant


@contextmanager
def short_table_1() -> Iterator[None]:
    """Return Table 1 with only its first net and the references, and the table of all nets with those of 20 layers."""

    def first_and_references(number: int) -> PaperTable:
        paper = load_table(number)
        return dataclasses.replace(paper, rows=tuple(row for row in paper.rows if row.cited or row.layers == 18))

    small = dataclasses.replace(load_table(6), rows=tuple(row for row in load_table(6).rows if row.layers == 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table1, "load_table", first_and_references)
        patch.setattr(overview, "tables", lambda: [small])
        yield


def plant_some(results: Path) -> Path:
    """Plant two nets with five seeds and one with one at the paper's budget, and two proxies; return their folder."""
    runs = results / "runs"
    for seed in range(5):
        plant(runs, 20, "A", seed, 8.6 + seed / 20, train_error=0.4)
        plant(runs, 20, "none", seed, 9.0 + seed / 20, train_error=2.0)
    plant(runs, 56, "A", 0, 7.0)
    for seed in range(2):
        plant(
            runs,
            56,
            "none",
            seed,
            80.0 + seed,
            train_error=85.0,
            scale="demo",
            exp="cifar_residual_vs_plain",
            science=DEMO,
        )
    return runs


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def found(pattern: str, text: str) -> re.Match[str]:
    """Return the first match of a pattern, which may go over several lines."""
    match = re.search(pattern, text, re.DOTALL)
    assert match is not None, pattern
    return match
