"""``auto`` compiles blocks inside the graph where that pays, and says what it weighed; the GPU is only pretended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.config.run import RunConfig
from repro.engine.compiled import cache_folder
from repro.launch import compiled
from repro.launch.compiled import COMPILE_SECONDS, KEPT_SECONDS, Saving, forecast, saved_bytes, with_steps
from repro.models.count import measure
from repro.runtime import checkpoint
from tests.planted import edit, plant
from tests.runs import configs

BANDWIDTH = 3.35e12
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H100, as far as the choice asks for one, on which a small net compiles."""
    sheet = SimpleNamespace(memory_clock_rate=2_619_000, memory_bus_width=5120)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: sheet)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "H100")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(compiled, "builds", lambda device: True)
    monkeypatch.setattr(compiled, "lacking_for_triton", lambda: "")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    for module in ("compiled", "speeds"):
        monkeypatch.setattr(f"repro.launch.{module}.pick_device", lambda name: CUDA)


def on_gpu(folder: Path, *words: str) -> list[RunConfig]:
    runs = configs(folder, "data=cifar10", "scale=paper", *words)
    return [run.with_execution(device="cuda") for run in runs]


def modes(runs: list[RunConfig]) -> list[str]:
    return [run.execution.step for run in runs]


def finish(work: Path, step: str, images_per_second: float, depth: int = 20) -> None:
    """Plants the record of a run that the pretended GPU finished."""
    seed = 1 if step == "compile" else 0
    folder = plant(work, depth, seed=seed, device="H100", precision="tf32", cuda="13.0")
    done = {"device": "cuda", "threads": 1, "world_size": 1, "step": step, "runs_per_gpu": 1}
    edit(folder, "execution", value=done)
    edit(folder, "images_per_second", value=images_per_second)
    edit(folder, "macs", value=measure(on_gpu(work.parent, f"model.depth={depth}")[0].model, 32, 10).macs)


@pytest.mark.parametrize(
    ("steps", "milliseconds", "at_once", "compile_seconds", "pays"),
    [
        ([64_000], 0.25, 1, 80, False),  # 16 s
        ([64_000], 0.25, 1, 15, True),
        ([64_000] * 6, 0.25, 1, 80, True),  # 96 s
        ([64_000] * 6, 0.25, 4, 80, False),  # of which four are gained at the same time
        ([64_000], -0.1, 1, 15, False),
        ([], 1.0, 1, 15, False),
    ],
)
def test_compiling_pays_where_the_steps_left_save_more_than_it_takes(
    steps: list[int], milliseconds: float, at_once: int, compile_seconds: float, pays: bool
) -> None:
    runs = [(count, Saving(milliseconds / 1000, "measured")) for count in steps]
    assert forecast(runs, at_once, compile_seconds).pays is pays


def test_the_assumed_saving_of_resnet_20_is_that_of_its_counted_traffic(tmp_path: Path) -> None:
    (run,) = on_gpu(tmp_path, "model.depth=20")
    assert saved_bytes(run, "tf32") == pytest.approx((2.19 - 1.45) * 1e9, rel=0.05)
    assert saved_bytes(run, "bf16") == saved_bytes(run, "tf32") / 2
    assert compiled.bandwidth(CUDA) == pytest.approx(BANDWIDTH, rel=0.01)


def test_a_short_plan_is_not_compiled_a_long_one_is_and_both_say_why(tmp_path: Path, told: list[str]) -> None:
    assert modes(with_steps(on_gpu(tmp_path, "model.depth=20"), 1)) == ["auto"]
    (line,) = told
    assert "does not compile" in line
    assert "15 s" in line or "14 s" in line
    assert "1 min 20 s" in line
    assert "assumed" in line
    told.clear()
    many = on_gpu(tmp_path, "model.depth=20,56,110", "seed=0,1,2")
    assert modes(with_steps(many, 1)) == ["compile"] * 9
    assert len(told) == 1, "depths and seeds share what is compiled"
    assert "9 runs" in told[0]


def test_kinds_that_share_no_code_are_weighed_apart(tmp_path: Path, told: list[str]) -> None:
    runs = on_gpu(tmp_path, "model.depth=1202") + on_gpu(tmp_path, "model.depth=20", "optim.precision=bf16")
    assert modes(with_steps(runs, 1)) == ["compile", "auto"]
    assert len(told) == 2


def test_what_an_earlier_run_compiled_is_kept_for_the_device(tmp_path: Path, told: list[str]) -> None:
    runs = on_gpu(tmp_path, "model.depth=20", "seed=0,1")
    assert modes(with_steps(runs, 1)) == ["auto", "auto"]
    folder = cache_folder(tmp_path / "work", CUDA)
    assert "H100" in folder.name
    assert torch.__version__ in folder.name
    (folder / "fxgraph" / "ab").mkdir(parents=True)
    assert KEPT_SECONDS < COMPILE_SECONDS
    assert modes(with_steps(runs, 1)) == ["compile", "compile"]


def test_finished_runs_of_both_kinds_tell_what_compiling_saves(tmp_path: Path, told: list[str]) -> None:
    runs = on_gpu(tmp_path, "model.depth=20")
    finish(tmp_path / "work", "graph", 64_000.0)  # 2 ms a step
    assert modes(with_steps(runs, 1)) == ["auto"]
    finish(tmp_path / "work", "compile", 256_000.0)  # 0.5 ms
    told.clear()
    assert modes(with_steps(runs, 1)) == ["compile"]
    assert "1 min 36 s (measured" in told[0]


@pytest.mark.parametrize(
    ("made_on", "step", "kept"),
    [
        ({}, "graph, 8 images", "graph"),
        ({"ranks": "1"}, "eager", "eager"),
        ({"ranks": "2"}, "eager", "compile"),
        ({"device": "a CPU", "ranks": "1"}, "eager", "compile"),
    ],
)
def test_a_run_keeps_the_mode_that_it_began_in_on_the_same_device(
    tmp_path: Path, told: list[str], made_on: dict[str, str], step: str, kept: str
) -> None:
    begun, new = on_gpu(tmp_path, "model.depth=1202", "seed=0,1")
    begun.work_dir.mkdir(parents=True)
    stored = {"model": {}, "setting": {"device": "H100", "step": step} | made_on}
    checkpoint.save(checkpoint.step_path(begun.work_dir, 5), stored)
    assert modes(with_steps([begun, new], 1)) == [kept, "compile"]


@pytest.mark.parametrize("words", [{"step": "graph"}, {"step": "eager"}, {"devices": 2}, {"device": "cpu"}])
def test_what_is_said_stays(tmp_path: Path, told: list[str], words: dict[str, Any]) -> None:
    (run,) = on_gpu(tmp_path, "model.depth=1202")
    given = run.with_execution(**words)
    assert with_steps([given], 1) == [given]
    assert told == []


def test_a_net_that_draws_in_every_step_is_no_graph_and_not_compiled(tmp_path: Path, told: list[str]) -> None:
    runs = on_gpu(tmp_path, "model.depth=110", "model.survival=linear", "seed=0,1,2,3")
    assert with_steps(runs, 1) == runs
    assert told == []


@pytest.mark.parametrize("lacking", ["a C compiler such as gcc", ""])
def test_where_nothing_compiles_it_is_a_graph(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setattr(compiled, "lacking_for_triton", lambda: lacking)
    monkeypatch.setattr(compiled, "builds", lambda device: False)
    assert modes(with_steps(on_gpu(tmp_path, "model.depth=1202"), 1)) == ["auto"]
    assert "does not compile" in told[-1]
    assert lacking in told[-1]
