"""The speed of this device, from finished runs first."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from repro.config.run import RunConfig
from repro.engine.step import step_mode
from repro.launch.cost import BACKWARD, Speed, calibrate
from repro.models.count import measure
from repro.results.read import Record, read_records
from repro.runtime.device import arithmetic, device_name, num_threads, pick_device

SHORTEST = 5.0
"""Seconds that a finished run must have trained: in shorter ones starting is too large a part."""

Setting = tuple[object, ...]
"""All that a run's speed depends on besides its net's multiply-adds."""
Finished = dict[Setting, list[Record]]


@dataclass(frozen=True)
class KnownSpeed:
    """The speed that a run will have here."""

    speed: Speed
    runs: tuple[str, ...] = ()
    """Ids of the finished runs that it comes from; none where it was measured now."""


def speeds_of(configs: Sequence[RunConfig]) -> list[KnownSpeed]:
    """Return each run's speed: that of finished runs in the work folder, where there are some like it."""
    finished = finished_runs({config.paths.work for config in configs})
    return [speed_like(config, finished.get(setting_of(config), [])) for config in configs]


def finished_runs(works: Set[Path]) -> Finished:
    """Return the records in work folders of runs that trained long enough to tell a speed."""
    finished: Finished = {}
    for record in read_records(works).records:
        if record.steps * record.science.optim.batch_size >= SHORTEST * record.images_per_second > 0:
            finished.setdefault(setting_of_record(record), []).append(record)
    return finished


def step_seconds(config: RunConfig, mode: str, finished: Finished) -> float | None:
    """Return the time of a step executed in ``mode``, by the finished runs like it; None where there are none."""
    like = finished.get(setting_of(config, mode))
    if not like:
        return None
    macs = measure(config.model, config.data.image_size, config.data.num_classes).macs
    return (1 + BACKWARD) * macs * config.optim.batch_size / speed_like(config, like).speed.macs_per_second


def speed_like(config: RunConfig, like: Sequence[Record]) -> KnownSpeed:
    """Return the speed of ``like``, finished runs of the same setting, or a measured one where there are none."""
    if not like:
        return KnownSpeed(calibrate(config))
    macs = measure(config.model, config.data.image_size, config.data.num_classes).macs

    def distance(record: Record) -> float:
        return abs(math.log(record.macs / macs))

    # Of the same net, else of the next in size.
    least = min(map(distance, like))
    nearest = [record for record in like if distance(record) == least]
    # The fastest: other programs on this machine only ever slow a run down.
    fastest = max(record.images_per_second * record.macs for record in nearest)
    speed = Speed((1 + BACKWARD) * fastest / config.execution.num_ranks, block_seconds=0.0)
    return KnownSpeed(speed, tuple(record.run_id for record in nearest))


def setting_of(config: RunConfig, mode: str | None = None) -> Setting:
    """Return what the speed of ``config`` depends on; ``mode`` is that of its steps where it is not its own."""
    device, execution = pick_device(config.execution.device), config.execution
    return (
        device_name(device),
        1 if device.type == "cuda" else num_threads(execution),
        arithmetic(device, config.optim.precision),
        mode or step_mode(config, device),
        execution.num_ranks,
        1,  # estimates are of a run that has its device for itself
        config.model.name,
        config.data.image_size,
        config.optim.batch_size,
    )


def setting_of_record(record: Record) -> Setting:
    carried, science = record.carried, record.science
    on_gpu = record.provenance.cuda is not None
    return (
        record.provenance.device,
        1 if on_gpu else carried.threads,
        record.provenance.precision,
        carried.step,
        carried.world_size,
        carried.runs_per_gpu if on_gpu else 1,
        science.model.name,
        science.data.image_size,
        science.optim.batch_size,
    )


def source(known: Sequence[KnownSpeed]) -> str:
    """Return where the speeds come from, in a few words."""
    count = len({run_id for one in known for run_id in one.runs})
    if not count:
        return "measured now"
    text = f"from {count} finished run{'s' if count > 1 else ''}"
    return text if all(one.runs for one in known) else f"{text}, otherwise measured now"
