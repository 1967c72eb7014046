"""Slots of parallel runs, on fake GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch import plan
from repro.launch.outcome import Outcome
from repro.launch.slots import Slot, share_of, share_processors, shared_gpus, slots_for, visible_gpus
from repro.runtime.nvidia_mps import mps
from tests.runs import config, configs


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.launch.slots.pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def runs(folder: Path, *words: str) -> list[RunConfig]:
    return configs(folder, "seed=0,1,2,3,4", *words)


def test_a_cpu_trains_one_after_the_other_unless_asked(tmp_path: Path) -> None:
    assert slots_for(runs(tmp_path)) == []
    assert slots_for(runs(tmp_path, "execution.parallel=1")) == []
    assert slots_for(runs(tmp_path, "execution.parallel=2")) == [Slot(), Slot()]
    assert len(slots_for(runs(tmp_path, "execution.parallel=9"))) == 5, "no worker without a run"
    assert slots_for(runs(tmp_path, "execution.parallel=9")[:1]) == []


@pytest.mark.usefixtures("two_gpus")
def test_runs_are_dealt_over_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots_for(runs(tmp_path)) == [Slot(1, "0"), Slot(1, "1")]
    assert slots_for(runs(tmp_path, "execution.runs_per_gpu=3")) == [Slot(3, "0"), Slot(2, "1")]
    assert slots_for(runs(tmp_path, "execution.runs_per_gpu=3", "execution.parallel=3")) == [
        Slot(2, "0"),
        Slot(1, "1"),
    ]
    with pytest.raises(InputError, match=r"raise execution\.runs_per_gpu"):
        slots_for(runs(tmp_path, "execution.parallel=3"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_gpus() == ["5", "7"]


@pytest.mark.usefixtures("two_gpus")
def test_runs_that_share_a_gpu_get_processes_where_mps_starts_and_threads_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "log"
    control = folder / "nvidia-cuda-mps-control"
    control.write_text(f'#!/bin/sh\n[ "$1" = -d ] || read word\necho "$1$word $CUDA_MPS_PIPE_DIRECTORY" >> {log}\n')
    control.chmod(0o755)
    some = runs(tmp_path, "execution.runs_per_gpu=2", f"paths.work={os.path.relpath(tmp_path / 'w')}")
    monkeypatch.setattr("repro.runtime.nvidia_mps.LONGEST_PATH", 1000)
    client = f"import os; print('client', os.environ['CUDA_MPS_PIPE_DIRECTORY'], file=open({str(log)!r}, 'a'))"
    monkeypatch.setattr("repro.runtime.nvidia_mps.CLIENT", client)
    slots = slots_for(some)
    with shared_gpus(slots, some) as found:
        assert found == (slots, {}), "there is no MPS here"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with shared_gpus(slots, some) as (apart, environment):
        assert apart == [Slot(1, "0"), Slot(1, "0"), Slot(1, "1"), Slot(1, "1")]
        pipe = environment["CUDA_MPS_PIPE_DIRECTORY"]
        assert Path(pipe).is_dir() and Path(pipe).parent == some[0].paths.work
    assert log.read_text().splitlines() == [f"-d {pipe}", f"client {pipe}", f"quit {pipe}"]
    assert not Path(pipe).exists()
    # The daemon starts but its server does not, as in some containers, so no client gets a GPU.
    monkeypatch.setattr("repro.runtime.nvidia_mps.CLIENT", f"{client}; raise SystemExit(1)")
    with shared_gpus(slots, some) as found:
        assert found == (slots, {})
        assert log.read_text().splitlines()[3:] == [f"-d {pipe}", f"client {pipe}", f"quit {pipe}"], "it is ended first"
    assert not Path(pipe).exists()


def test_mps_is_left_where_its_socket_would_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "there")
    with mps(tmp_path / ("x" * 100)) as environment:
        assert environment is None
    assert not list(tmp_path.iterdir())


def test_small_nets_share_a_gpu_as_far_as_its_memory_goes(tmp_path: Path) -> None:
    small = config(tmp_path, "data=cifar10", "scale=paper", "model.depth=20")
    deep = config(tmp_path, "data=cifar10", "scale=paper", "model.depth=110")
    wide = config(tmp_path, "data=cifar10", "scale=paper", "model.depth=20", "optim.batch_size=1024")
    assert share_of(small, 80e9) == share_of(deep, 80e9) == 4, "a layer decides, not the depth"
    assert share_of(wide, 80e9) == 1
    assert share_of(small, 5e9) == 2
    assert share_of(small, 1e9) == 1


def test_a_plan_that_goes_on_gives_its_last_runs_the_threads_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads change the last bits, so the last run of four must not get all processors."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(plan, "is_done", lambda config: config.seed < 3)
    monkeypatch.setattr(plan, "check", lambda *_: None)
    monkeypatch.setattr(plan, "seconds_of", lambda configs, _: {config.run_id: 1.0 for config in configs})
    given: list[RunConfig] = []

    def attempt(config: RunConfig, *_: object) -> Outcome:
        given.append(config)
        return Outcome("done")

    monkeypatch.setattr(plan, "attempt", attempt)
    four = configs(tmp_path, "seed=0,1,2,3", "execution.threads=null", "execution.parallel=4")
    plan.launch(four, lambda _: None)
    assert [c.execution.threads for c in given] == [2]


def test_processors_are_shared_unless_the_user_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(7)))
    free = runs(tmp_path, "execution.threads=null")
    assert {c.execution.threads for c in share_processors(free, [Slot(), Slot(width=2)])} == {2}
    assert {c.execution.threads for c in share_processors(free, [Slot(width=9)])} == {1}
    assert share_processors(free, []) == free, "alone, a run takes what is there"
    assert {c.execution.threads for c in share_processors(runs(tmp_path, "execution.threads=5"), [Slot()] * 2)} == {5}
    assert [c.run_id for c in share_processors(free, [Slot()] * 2)] == [c.run_id for c in free]
