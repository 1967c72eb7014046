"""Estimates from finished similar runs, or from a measurement if there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.cli.show import show
from repro.config.run import RunConfig
from repro.launch import plan
from repro.launch.cost import Speed, estimate
from repro.launch.outcome import Outcome
from repro.launch.speeds import source, speeds_of
from repro.models.count import measure
from repro.runtime.device import device_name
from repro.runtime.progress import duration
from tests.planted import edit, plant
from tests.runs import config, configs

MEASURED = Speed(1e9, 1e-3)
IMAGES = 64_000 * 128
"""Images in the training of a run of the paper."""


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.launch.speeds.calibrate", lambda _: MEASURED)


def finish(work: Path, images_per_second: float, depth: int = 20, seed: int = 0, **execution: Any) -> str:
    """Plant the record of a run that this device finished; return its id."""
    where: dict[str, Any] = {"device": device_name(torch.device("cpu")), "precision": "fp32", "cuda": None}
    folder = plant(work, depth, seed=seed, **where)
    edit(folder, "execution", value={"device": "cpu", "threads": 1, "world_size": 1, "step": "eager", **execution})
    edit(folder, "images_per_second", value=images_per_second)
    edit(folder, "macs", value=measure(paper(work.parent, depth).model, 32, 10).macs)
    return folder.name


def paper(folder: Path, depth: int, *words: str) -> RunConfig:
    return config(folder, "data=cifar10", "scale=paper", f"model.depth={depth}", *words)


def seconds(run: RunConfig, speed: Speed) -> float:
    return estimate(run, speed, 50_000, 10_000).seconds


def test_a_finished_run_of_the_same_net_tells_the_time(tmp_path: Path) -> None:
    run_id = finish(tmp_path / "work", 1000.0)
    run = paper(tmp_path, 20)
    (known,) = speeds_of([run])
    assert known.runs == (run_id,)
    evaluated = (64_000 / 390.625 + 1) * 10_000 + 50_000  # forward only: a third of the time of a training image
    assert seconds(run, known) == pytest.approx((IMAGES + evaluated / 3) / 1000.0)


def test_other_nets_take_the_time_of_their_multiply_adds_from_the_next_in_size(tmp_path: Path) -> None:
    finish(tmp_path / "work", 1000.0)
    deep = finish(tmp_path / "work", 300.0, depth=110)
    small, middle, large = paper(tmp_path, 20), paper(tmp_path, 32), paper(tmp_path, 164)
    known = speeds_of([small, middle, large])
    macs = [measure(run.model, 32, 10).macs for run in (small, middle, paper(tmp_path, 110), large)]
    assert seconds(middle, known[1]) == pytest.approx(seconds(small, known[0]) * macs[1] / macs[0])
    assert known[2].runs == (deep,)
    assert seconds(large, known[2]) == pytest.approx(seconds(small, known[0]) * 1000 / 300 * macs[3] / macs[2])


def test_the_fastest_of_the_same_net_counts_and_too_short_ones_do_not(tmp_path: Path) -> None:
    slow, fast = (finish(tmp_path / "work", speed, seed=seed) for seed, speed in enumerate((70.0, 1000.0)))
    finish(tmp_path / "work", 1e9, seed=2)  # 8 ms
    (known,) = speeds_of([paper(tmp_path, 20)])
    assert known.runs == (slow, fast)
    assert known.macs_per_second == pytest.approx(3 * 1000 * measure(paper(tmp_path, 20).model, 32, 10).macs)


@pytest.mark.parametrize(
    "other",
    [
        ("execution.threads=2",),
        ("execution.step=compile",),
        ("optim.precision=bf16",),
        ("optim.batch_size=64",),
        ("execution=ddp", "execution.devices=2"),
        ("data=synthetic", "data.image_size=16"),
    ],
)
def test_runs_of_another_setting_say_nothing(other: tuple[str, ...], tmp_path: Path) -> None:
    finish(tmp_path / "work", 1000.0)
    words = {"data": "cifar10", "scale": "paper", "model.depth": "20"}
    words |= dict(word.split("=") for word in other)
    assert speeds_of([config(tmp_path, *(f"{key}={value}" for key, value in words.items()))]) == [MEASURED]


def test_runs_of_another_device_say_nothing(tmp_path: Path) -> None:
    plant(tmp_path / "work")
    assert speeds_of([paper(tmp_path, 20)]) == [MEASURED]


def test_show_says_where_the_speed_comes_from(tmp_path: Path) -> None:
    runs = [paper(tmp_path, depth) for depth in (20, 56)]
    assert "; speed measured now)" in show(runs)
    for seed in range(2):
        finish(tmp_path / "work", 1000.0, seed=seed)
    assert "; speed from 2 finished runs)" in show(runs)
    mixed = [MEASURED, replace(MEASURED, runs=("a",))]
    assert source(mixed) == "from 1 finished run, otherwise measured now"


def test_after_each_run_the_time_left_is_that_of_finished_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    runs = configs(tmp_path, "data=cifar10", "scale=paper", "model.depth=20", "seed=0,1,2")

    def attempt(run: RunConfig, *_: object) -> Outcome:
        finish(tmp_path / "work", 1000.0 * (1 + run.seed), seed=run.seed)
        return Outcome("done")

    monkeypatch.setattr(plan, "attempt", attempt)
    data: Any = {runs[0].data: SimpleNamespace(train=range(50_000), eval=range(10_000))}
    monkeypatch.setattr(plan, "load_all", lambda _: data)
    plan.launch(runs, lambda _: None)
    one = (IMAGES + ((64_000 / 390.625 + 1) * 10_000 + 50_000) / 3) / 1000
    assert [line for line in told if line.startswith("[")] == [
        f"[1/3] {runs[0].run_id}",
        f"[2/3] {runs[1].run_id}, about {duration(2 * one)} left for all",
        f"[3/3] {runs[2].run_id}, about {duration(one / 2)} left for all",
    ]
