"""Stored likeness of channels: what is refused, and which images claims take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repro.errors import InputError
from repro.results.channels import CHANNELS
from repro.results.read import read_record
from tests.planted import edit, plant, plant_channels


def planted(root: Path, **how: Any) -> Path:
    folder = plant(root, 20)
    plant_channels(folder, 0.4, 0.7, **how)
    return folder / "record.json"


def test_the_mean_is_over_stages(tmp_path: Path) -> None:
    found = CHANNELS.read(read_record(planted(tmp_path)))
    assert found.by_stage("overlap") == {1: 0.4, 2: 0.5}
    assert found.mean("correlation") == pytest.approx(0.75)


def test_a_comparison_on_other_images_is_no_evidence(tmp_path: Path) -> None:
    found = CHANNELS.read(read_record(planted(tmp_path, images=50)))
    with pytest.raises(InputError, match=r"50 images.*1,000.*repro visualize"):
        found.mean("overlap")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("overlap", 1.5, "overlap=1.5"),
        ("correlation", -2.0, "correlation=-2"),
        ("top", 0, "top=0"),
        ("stage", 2, "2, 2"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(key: str, value: float, reason: str, tmp_path: Path) -> None:
    record = planted(tmp_path)
    stages = CHANNELS.read_file(record.with_name(CHANNELS.file)).stages
    damaged = [{**vars(stages[0]), key: value}, vars(stages[1])]
    edit(record.parent, "stages", value=damaged, name=CHANNELS.file)
    with pytest.raises(InputError, match=reason):
        CHANNELS.read(read_record(record))
