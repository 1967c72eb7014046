"""The output of `repro show` and `repro status`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from repro.cli.status import RunStatus
from repro.config.run import RunConfig
from repro.launch.cost import REFERENCE_SPEED, Estimate, Speed, estimate
from repro.launch.image_counts import image_counts
from repro.launch.lacking import LEFT_OUT, divided
from repro.launch.outcome import done_among, faults, faulty_text
from repro.launch.published import published_speeds
from repro.launch.schedules import schedules_text
from repro.launch.speeds import source, speeds_of
from repro.report.tables.frame import text_table
from repro.runtime.device import device_name, pick_device
from repro.runtime.progress import duration

DAY = 86400.0
UNKNOWN = Speed(math.inf, block_seconds=0.0)
"""The speed of a device without a benchmark; it makes every time 0."""


def show(configs: Sequence[RunConfig]) -> str:
    """Describe planned runs: their cost, and their configuration with the values that vary."""
    execution, speeds = configs[0].execution, list[Speed | None]()
    if execution.slurm is None:
        measured = speeds_of(configs)
        speeds, told = [*measured], f"on this device ({device_name(pick_device(execution.device))}"
        told += f"; speed {source(measured)})"
    else:
        speeds, told = published_speeds(configs)
    known = zip(configs, speeds, strict=True)
    costs = [estimate(config, speed or UNKNOWN, *image_counts(config)) for config, speed in known]
    faulty = faults(configs)
    done = done_among(configs, faulty)
    texts = [cost_table(configs, costs, done, faulty), composed(configs), totals(configs, costs, done, told)]
    texts += [missing_text(configs), faulty_text(faulty), schedules_text(configs)]
    return "\n\n".join(filter(None, texts))


def missing_text(configs: Sequence[RunConfig]) -> str:
    """Name the data and the weights that the runs lack here, a note for each thing; empty if everything is there."""
    things = dict.fromkeys(thing for reasons in divided(configs).lacking.values() for thing in reasons)
    own = [thing for thing in things if not thing.startswith(LEFT_OUT)]
    return "\n".join(f"note: missing here, so that `repro run` ends at once: {thing}" for thing in own)


def cost_table(
    configs: Sequence[RunConfig], costs: Sequence[Estimate], done: Container[str], faulty: Container[str]
) -> str:
    header = ["run", "params", "multiply-adds", "steps", "time", "memory", ""]
    rows = []
    for config, cost in zip(configs, costs, strict=True):
        sizes = [f"{number:,}" for number in (cost.size.params, cost.size.macs, cost.steps)]
        memory = f"{cost.memory / 1e9:.1f} GB" if cost.memory >= 1e8 else f"{cost.memory / 1e6:.0f} MB"
        state = "done" if config.run_id in done else "invalid" if config.run_id in faulty else ""
        rows.append([config.run_id, *sizes, duration(cost.seconds) if cost.seconds else "unknown", memory, state])
    return text_table(rows, header, words=("",))


def composed(configs: Sequence[RunConfig]) -> str:
    """Format the configuration as YAML, with lists of the values that vary over the runs."""
    varied: list[str] = []
    tree: dict[str, Any] = {"exp": configs[0].exp or None, "scale": configs[0].scale}
    for group, name, values in _values(configs):
        shown = [plain_value(value) for value in values]
        if len(values) > 1:
            varied.append(f"{group}.{name}".strip("."))
        part = tree.setdefault(group, {}) if group else tree
        part[name] = shown if len(values) > 1 else shown[0]
    text = yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100)
    note = f"  # lists where the runs differ: {', '.join(sorted(varied))}" if varied else ""
    return f"configuration{note}\n{text}".rstrip()


def _values(configs: Sequence[RunConfig]) -> list[tuple[str, str, list[object]]]:
    """Return group, name and distinct values of every setting."""
    rows: list[tuple[str, str, list[object]]] = [("", "seed", list(dict.fromkeys(c.seed for c in configs)))]
    for group in ("model", "data", "optim", "eval", "detection", "localization", "execution", "paths"):
        if getattr(configs[0], group) is None:
            continue
        for field in dataclasses.fields(getattr(configs[0], group)):
            values = [getattr(getattr(config, group), field.name, None) for config in configs]
            rows.append((group, field.name, list(dict.fromkeys(values))))
    return rows


def plain_value(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {field.name: plain_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def totals(configs: Sequence[RunConfig], costs: Sequence[Estimate], done: Container[str], told: str) -> str:
    """Describe the time of all runs in sequence and their work; warn above a day.

    Args:
        done: The ids of the runs that are done.
        told: The device and the source of its speed, or the reason why the time is unknown.
    """
    seconds = sum(cost.seconds for cost in costs)
    macs = sum(cost.macs for cost in costs)
    runs = "1 run" if len(costs) == 1 else f"{len(costs)} runs"
    text = f"{runs}, about {duration(seconds)} {told}, one after the other"
    if not all(cost.seconds for cost in costs):
        text = f"{runs}; the time is unknown: {told}"
    spent = [cost.seconds for config, cost in zip(configs, costs, strict=True) if config.run_id in done]
    if spent and len(spent) < len(costs):
        text += f"; {len(spent)} of them done, about {duration(seconds - sum(spent))} left"
    text += (
        f"\nin all {macs:.2g} multiply-adds, forward and backward: {duration(macs / REFERENCE_SPEED)} on a device that "
        f"sustains {REFERENCE_SPEED:.0e} a second"
    )
    if seconds - sum(spent) > DAY:
        text += "\nwarning: that is more than a day; scale=demo takes minutes, seed=0 trains one seed"
    return text


LEAST = ("images/s", "experiment", "left", "differs in", "published", "step")
"""Columns that are dropped on a narrow terminal, in this order."""
NUMBERS = ("step", "error %", "images/s", "left")


def show_statuses(statuses: Sequence[RunStatus], work: Path, width: int | None = None) -> str:
    """Format one line per run, without the columns that do not fit into ``width``."""
    if not statuses:
        return f"no runs in {work}; `repro run exp=cifar_residual_vs_plain scale=demo` trains some"
    columns = {
        "run": [s.run_id for s in statuses],
        "state": [s.state for s in statuses],
        "experiment": [s.exp for s in statuses],
        "differs in": [s.differs for s in statuses],
        "step": [f"{s.step:,} / {s.steps:,}" for s in statuses],
        "error %": ["" if s.error is None else f"{s.error:.2f}" for s in statuses],
        "images/s": [f"{s.images_per_second:,.0f}" if s.images_per_second else "" for s in statuses],
        "left": [duration(s.seconds_left) if s.seconds_left else "" for s in statuses],
        "published": [s.published for s in statuses],
        "": [s.note for s in statuses],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    droppable = [name for name in LEAST if name in columns]
    while width is not None and droppable and width_of(columns) > width:
        del columns[droppable.pop(0)]
    rows = list(zip(*columns.values(), strict=True))
    return text_table(rows, list(columns), words=[name for name in columns if name not in NUMBERS])


def width_of(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the width of a table with two blanks between its columns."""
    return sum(max(map(len, (name, *cells))) + 2 for name, cells in columns.items()) - 2
