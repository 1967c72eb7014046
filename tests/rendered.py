"""Output rendered from planted records, with few nets to count, since building all of them takes seconds."""

from __future__ import annotations

import dataclasses
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
