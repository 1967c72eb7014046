"""Notes about schedules that never act."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.launch.schedules import schedules_text
from tests.runs import configs

DROPS = "note: the learning rate never drops: optim.milestones=[32000,48000] is not below optim.steps="
WARMUP = "note: the warm-up never ends: optim.warmup_steps=400 is not below optim.steps=400"


@pytest.mark.parametrize(
    ("words", "notes"),
    [
        (["optim.steps=10000"], [f"{DROPS}10000"]),
        (["optim.steps=32000"], [f"{DROPS}32000"]),
        (["optim.steps=32001"], []),
        (["optim.steps=10000", "optim.milestones=[]"], []),
        (["optim.steps=10000", "optim.schedule=cosine"], []),
        (["optim.steps=400", "model.depth=20,110"], [f"{DROPS}400", WARMUP]),
    ],
)
def test_a_schedule_that_never_acts_is_noted_once(tmp_path: Path, words: list[str], notes: list[str]) -> None:
    text = schedules_text(configs(tmp_path, "scale=paper", "data=cifar10", *words, "seed=0,1"))
    assert text.splitlines() == notes
