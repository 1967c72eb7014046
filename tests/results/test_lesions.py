"""Stored errors of damaged nets: what they say, and how they are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import InputError
from repro.results.lesions import LESIONS
from repro.results.read import read_record
from tests.planted import edit, plant, plant_lesions


def planted(root: Path, rise: int = 20) -> Path:
    folder = plant(root, 20)
    plant_lesions(folder, rise)
    return folder


def test_errors_are_read_in_percent_by_number_of_blocks_and_by_place(tmp_path: Path) -> None:
    found = LESIONS.read(read_record(planted(tmp_path) / "record.json"))
    assert found.error == 10
    assert found.by_place() == {1: [29.0], 2: [31.0]}
    assert found.by_count() == {0: [10.0], 1: [29.0, 31.0], 2: [90.0]}
    assert found.by_swaps() == {0: [10.0], 1: [30.0]}
    assert found.tau_by_swaps() == {1: -1.0}
    assert found.deletion_rise() == pytest.approx(20) == found.reordering_rise()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("errors", 1001, "1001 errors among 1000"),
        ("fingerprint", "0" * 16, "fingerprint"),
        ("removable", [0], "deleted"),
        ("stages", [3], "order"),
        ("schema", 0, "schema"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(key: str, value: object, reason: str, tmp_path: Path) -> None:
    folder = planted(tmp_path)
    edit(folder, key, value=value, name=LESIONS.file)
    with pytest.raises(InputError, match=reason):
        LESIONS.read(read_record(folder / "record.json"))


def test_a_run_without_lesions_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="repro lesion"):
        LESIONS.read(read_record(plant(tmp_path) / "record.json"))


def test_lesions_of_published_runs_are_published_once(tmp_path: Path) -> None:
    work, results = tmp_path / "work", tmp_path / "results"
    folder = planted(work)
    assert LESIONS.plan(work, results, []) == [], "the run is not published"
    assert LESIONS.plan(work, results, [folder.name]) == [folder.name]
    plant(results / "runs", 20)
    assert LESIONS.plan(work, results, []) == [folder.name]
    assert LESIONS.publish([folder.name], work, results) == [results / "runs" / folder.name / LESIONS.file]
    assert LESIONS.plan(work, results, []) == []
    plant_lesions(folder, 30)
    with pytest.raises(InputError, match="--replace"):
        LESIONS.plan(work, results, [])
    assert LESIONS.plan(work, results, [], replace=True) == [folder.name]
