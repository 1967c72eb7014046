"""Estimates for the GPUs of Slurm jobs, from published benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from repro.launch.cost import estimate
from repro.launch.published import FREE, published_speeds
from repro.models.count import measure
from tests.runs import configs

PAPER = ("data=cifar10", "scale=paper", "execution=slurm")


def bench(folder: Path, name: str, device: str, *cases: dict[str, Any]) -> None:
    parts: list[dict[str, Any]] = [{"kind": "case", "label": case["net"], "result": case} for case in cases]
    parts += [{"kind": "case", "label": "failed", "result": None}, {"kind": "pairs", "result": {}}]
    (folder / f"{name}.json").write_text(json.dumps({"device": {"name": device}, "parts": parts}))


def case(macs: int, loop_ms: float, step_ms: float, arithmetic: str = "tf32", net: str = "ResNet-20") -> dict[str, Any]:
    """Return the figures of a net in batches of 128, as `repro bench` computes them."""
    return {
        "net": net,
        "arithmetic": arithmetic,
        "batch_size": 128,
        "image_size": 32,
        "step_ms": {"median": step_ms},
        "images_per_second": 128_000 / loop_ms,
        "flops_per_second": 6 * macs * 128_000 / step_ms,
    }


def test_the_kind_of_gpu_gives_the_time_of_its_benchmark(tmp_path: Path) -> None:
    small, large = configs(tmp_path, "model.depth=20,110", *PAPER, "execution.slurm.gpu=h100")
    macs = [measure(config.model, 32, 10).macs for config in (small, large)]
    slow, fast = case(macs[0], 10.0, 8.0), case(macs[0], 4.0, 3.0)
    other = case(macs[0], 1.0, 0.9, arithmetic="bf16")
    free = case(macs[0], 2.0, 1.9, net=f"ResNet-20 {FREE}")
    bench(tmp_path, "h100", "NVIDIA H100 80GB HBM3", slow, fast, other, free, case(macs[1], 20.0, 18.0))
    bench(tmp_path, "cpu", "AMD EPYC", case(macs[0], 0.1, 0.1))
    (tmp_path / "broken.json").write_text("[")
    speeds, told = published_speeds([small, large], tmp_path)
    assert "h100" in told and "h100.json" in told
    seconds = [estimate(c, s, 50_000, 0).seconds for c, s in zip((small, large), speeds, strict=True) if s is not None]
    assert seconds == pytest.approx([64_000 * 0.004, 64_000 * 0.020], rel=0.01), "evaluations add little"
    assert "extrapolated" not in told


def test_a_speed_of_a_net_of_quite_another_size_is_named_as_extrapolated(tmp_path: Path) -> None:
    nets = configs(tmp_path, "model.depth=20,32,44,1202", "seed=0,1", *PAPER, "execution.slurm.gpu=h100")
    macs = [measure(config.model, 32, 10).macs for config in configs(tmp_path, "model.depth=20,110", *PAPER)]
    bench(tmp_path, "h100", "NVIDIA H100", case(macs[0], 4.0, 3.0), case(macs[1], 20.0, 18.0, net="ResNet-110"))
    speeds, told = published_speeds(nets, tmp_path)
    assert all(speeds)
    said = "h100.json; of ResNet-44 extrapolated from ResNet-20; of ResNet-1202 extrapolated from ResNet-110)"
    assert told.endswith(said), "ResNet-32 has 1.7 times the multiply-adds of ResNet-20, ResNet-44 2.4 times"


@pytest.mark.parametrize(
    ("word", "said"),
    [("gpu=a100", "no benchmark of a100"), ("constraint=v100", "no benchmark of v100"), ("gpus=1", "slurm.gpu")],
)
def test_without_a_benchmark_one_sentence_says_so(tmp_path: Path, word: str, said: str) -> None:
    bench(tmp_path, "h100", "NVIDIA H100", case(10**7, 4.0, 3.0))
    speeds, told = published_speeds(configs(tmp_path, *PAPER, f"execution.slurm.{word}"), tmp_path)
    assert speeds == [None]
    assert said in told
