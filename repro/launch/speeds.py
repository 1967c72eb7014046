"""The speed of this device, from finished runs or measured."""

import math
from collections.abc import Sequence, Set
from pathlib import Path

from repro.config.run import RunConfig
from repro.engine.step import step_mode
from repro.launch.cost import BACKWARD, Speed, calibrate
from repro.models.count import measure
from repro.results.read import Record, read_records
from repro.runtime.device import arithmetic, device_name, num_threads, pick_device

SHORTEST = 5.0  # the least seconds of training that give a speed: in shorter runs the start counts too much

Setting = tuple[object, ...]  # everything that determines a run's speed, except its net's multiply-adds
Finished = dict[Setting, list[Record]]


def speeds_of(configs: Sequence[RunConfig]) -> list[Speed]:
    """Return each run's speed, from similar finished runs in the work folder or measured now."""
    finished = finished_runs({config.paths.work for config in configs})
    return [speed_like(config, finished.get(setting_of(config), [])) for config in configs]


def finished_runs(works: Set[Path]) -> Finished:
    """Return the records of runs that trained long enough to give a speed, by setting."""
    finished: Finished = {}
    for record in read_records(works).records:
        if record.steps * record.science.optim.batch_size >= SHORTEST * record.images_per_second > 0:
            finished.setdefault(setting_of_record(record), []).append(record)
    return finished


def step_seconds(config: RunConfig, mode: str, finished: Finished) -> float | None:
    """Return the time of a step executed in ``mode`` from similar finished runs, or None without such runs."""
    like = finished.get(setting_of(config, mode))
    if not like:
        return None
    macs = measure(config.model, config.data.image_size, config.data.num_classes).macs
    return (1 + BACKWARD) * macs * config.optim.batch_size / speed_like(config, like).macs_per_second


def speed_like(config: RunConfig, like: Sequence[Record]) -> Speed:
    """Return the speed of the finished runs ``like``, which have the same setting; without any, measure it."""
    if not like:
        return calibrate(config)
    macs = measure(config.model, config.data.image_size, config.data.num_classes).macs
    # Take the same net, or the nearest in size.
    distances = [abs(math.log(record.macs / macs)) for record in like]
    nearest = [record for record, distance in zip(like, distances, strict=True) if distance == min(distances)]
    # Take the fastest: other programs on this machine only ever slow a run down.
    fastest = max(r.images_per_second * r.macs * r.science.model.computed_share for r in nearest)
    runs = tuple(record.run_id for record in nearest)
    return Speed((1 + BACKWARD) * fastest / config.execution.num_ranks, block_seconds=0.0, runs=runs)


def setting_of(config: RunConfig, mode: str | None = None) -> Setting:
    """Return the settings that determine the speed of ``config``, with the step's ``mode`` if another is given."""
    device, execution = pick_device(config.execution.device), config.execution
    return (
        device_name(device),
        1 if device.type == "cuda" else num_threads(execution),
        arithmetic(device, config.optim.precision),
        mode or step_mode(config, device),
        execution.num_ranks,
        1,  # estimates are for a run alone on its device
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


def source(speeds: Sequence[Speed]) -> str:
    """Describe the source of the speeds in a few words."""
    count = len({run_id for speed in speeds for run_id in speed.runs})
    if not count:
        return "measured now"
    text = f"from {count} finished run{'s' if count > 1 else ''}"
    return text if all(speed.runs for speed in speeds) else f"{text}, otherwise measured now"
