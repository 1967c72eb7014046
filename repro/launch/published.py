"""Speeds of the GPUs of Slurm jobs, from published benchmarks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.paths import shared_dir
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.launch.cost import BACKWARD, Speed
from repro.models.count import measure
from repro.runtime.provenance import read_json

OPERATIONS = 2 * (1 + BACKWARD)  # of a multiply-add in a training step
FREE = "not deterministic"
"""The words in the label of a benchmark of a net whose algorithms may differ in their last bits."""
FARTHEST = 2.0
"""The largest ratio of the multiply-adds of two nets at which the speed of one counts as measured for the other."""


@dataclass(frozen=True)
class Published:
    """A published speed; ``net`` was timed, and ``measured`` is False if a run's own net is of quite another size."""

    speed: Speed
    net: str
    measured: bool


def published_speeds(configs: Sequence[RunConfig], folder: Path | None = None) -> tuple[list[Speed | None], str]:
    """Return each run's speed on the jobs' kind of GPU, and that kind with the source, or why the speed is unknown.

    Args:
        folder: The folder of benchmarks as `repro bench --json` writes them; by default ``results/bench``.
    """
    slurm = configs[0].execution.slurm
    assert slurm is not None
    kind = slurm.gpu or slurm.constraint
    if not kind:
        return [None] * len(configs), "set execution.slurm.gpu to the kind of the jobs' GPUs, as in h100"
    found = list(cases(folder or shared_dir("results") / "bench", kind))
    published = [speed_by(config, [case for _, case in found]) for config in configs]
    speeds = [one.speed if one else None for one in published]
    if not all(speeds):
        fitting = " for the images, batch and precision of all runs" if found else ""
        return speeds, f"no benchmark of {kind}{fitting} is published in results/bench"
    files = " and ".join(dict.fromkeys(name for name, _ in found))
    return speeds, f"on {kind} (speed published in {files}{extrapolated(configs, published)})"


def extrapolated(configs: Sequence[RunConfig], published: Sequence[Published | None]) -> str:
    """Name the nets whose speed is that of a net of quite another size; empty without any."""
    nets: dict[str, list[str]] = {}
    for config, one in zip(configs, published, strict=True):
        if one and not one.measured:
            nets.setdefault(one.net, []).append(config.label)
    parts = [f"of {', '.join(dict.fromkeys(labels))} extrapolated from {net}" for net, labels in nets.items()]
    return "".join(f"; {part}" for part in parts)


def cases(folder: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file name and figures of every net that was measured on a device of this kind."""
    for path in sorted(folder.glob("*.json")):
        try:
            document = read_json(path)
            if kind.lower() in str(document["device"]["name"]).lower():
                for part in document["parts"]:
                    if part["kind"] == "case" and part["result"]:
                        yield path.name, part["result"] | {"deterministic": FREE not in part["label"]}
        except (InputError, KeyError, TypeError):
            continue


def speed_by(config: RunConfig, found: Sequence[dict[str, Any]]) -> Published | None:
    """Return the speed of the net nearest in size among those of the same images, batch, arithmetic and determinism."""
    optim, macs = config.optim, measure(config.model, config.data.image_size, config.data.num_classes).macs
    wanted = config.data.image_size, optim.batch_size, optim.precision, config.execution.deterministic
    fastest: dict[float, tuple[float, str]] = {}
    for case in found:
        if tuple(case[name] for name in ("image_size", "batch_size", "arithmetic", "deterministic")) == wanted:
            measured = case["flops_per_second"] * case["step_ms"]["median"] / 1000 / optim.batch_size / OPERATIONS
            distance = abs(math.log(measured / macs))
            # Of several step modes the fastest, as in execution.step=auto.
            speed = (1 + BACKWARD) * measured * case["images_per_second"]
            fastest[distance] = max(fastest.get(distance, (0.0, "")), (speed, case["net"]))
    if not fastest:
        return None
    nearest = min(fastest)
    speed, net = fastest[nearest]
    return Published(Speed(speed, block_seconds=0.0), net, measured=nearest <= math.log(FARTHEST))
