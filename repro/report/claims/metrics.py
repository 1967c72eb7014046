"""The numbers that comparisons take from runs or count on nets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repro.config.parse import build, require
from repro.config.run import DataConfig, ModelConfig, later_defaults
from repro.errors import InputError
from repro.papers.claims import Claims, Comparison, Group
from repro.results.read import Flow, Record, read_curve

if TYPE_CHECKING:
    import pandas

SMALLEST_NORM = 1e-30
"""Stands for a gradient of exactly 0, which has no logarithm."""
ONSETS = {"onset_90": 90.0, "onset_80": 80.0}
"""Metrics of when a net begins to converge: the training error below which an evaluation must have come, in percent."""


@dataclass(frozen=True)
class Scale:
    """How values of a metric are written: digits after the point, and the unit behind a value."""

    digits: int
    unit: str


def scale_of(metric: str) -> Scale:
    if metric in ("params", "macs", "start_difference"):
        return Scale(0, {"params": " parameters", "macs": " multiply-adds", "start_difference": " errors"}[metric])
    if metric in ONSETS:
        return Scale(2, " epochs")
    if metric == "start_train_difference":
        return Scale(2, " points")
    if metric in ("response_std", "lowest_forward_std", "log10_gradient_ratio"):
        return Scale(3, "")
    return Scale(2, " %")


@dataclass(frozen=True)
class Quantity:
    """A value, and the images that it was counted over where it is an error rate."""

    value: float
    images: int | None = None


def quantity(record: Record, c: Comparison) -> Quantity:
    """What ``c`` compares, of one run.

    Raises:
        InputError: The record does not hold it; the sentence says what is missing.
    """
    metric, result = c.metric, record.result
    if metric == "top1_error":
        return Quantity(result.final.top1_error, result.final.images)
    if metric == "train_running_error":
        if result.train_running is None:
            raise InputError("it has no training error")
        return Quantity(result.train_running.top1_error, result.train_running.images)
    if metric.startswith(("10crop_", "multiscale_")):
        return _view(record, *metric.split("_", 1))
    if metric in ("curve_train_error", "curve_eval_error"):
        return Quantity(float(series(record, c).mean()))
    if metric in ONSETS:
        return Quantity(_onset(record, ONSETS[metric]))
    if metric == "response_std":
        deviations = responses(record)
        return Quantity(math.fsum(deviations) / len(deviations))
    if metric in ("lowest_forward_std", "log10_gradient_ratio"):
        require(len(record.flow) > 0 and all(flow.layers for flow in record.flow), "it has no gradient flow")
        of_flow = _lowest_forward if metric == "lowest_forward_std" else _gradient_ratio
        return Quantity(min(map(of_flow, record.flow)))
    return _start(record, metric)


def resolution(record: Record | None, c: Comparison, images: int | None) -> float:
    """Return what one count changes the value of ``c`` by; without a count, the last digit in which it is written.

    Args:
        record: One of the runs; None where there is none to look at.
        images: Those that the value was counted over.
    """
    if images:
        return 100 / images
    if record is not None and c.metric in ONSETS:
        # Convergence begins somewhere between two evaluations.
        epochs = read_curve(record)["epoch"]
        return float(epochs.diff().fillna(epochs).max())
    digits: float = 10.0 ** -scale_of(c.metric).digits
    return digits


def responses(record: Record) -> list[float]:
    """Return the standard deviation of each layer's responses, in the order of computation.

    Raises:
        InputError: The record has none, or some overflow.
    """
    require(len(record.responses) > 0, "it has no responses of layers")
    deviations = [layer.std for layer in record.responses if layer.std is not None]
    require(len(deviations) == len(record.responses), "the responses of some of its layers overflow")
    return deviations


def series(record: Record, c: Comparison) -> pandas.Series:
    """The errors of the curve within the window of ``c``, in percent, by step.

    Raises:
        InputError: There is no such curve, or no evaluation lies within the window.
    """
    column = c.metric.removeprefix("curve_")
    curve = read_curve(record).set_index("step")[column].dropna()
    first, last = (part * record.steps for part in c.window)
    within = curve[(curve.index > first) & (curve.index <= last)]
    require(len(within) > 0, f"its curve has no {column} within {c.window[0]:.0%} to {c.window[1]:.0%} of the steps")
    return within


def _view(record: Record, name: str, error: str) -> Quantity:
    for view in record.result.views:
        if view.view == name:
            value: float = getattr(view, error)
            return Quantity(value, view.images)
    raise InputError(f"it has no {name} result")


def _lowest_forward(flow: Flow) -> float:
    return min(layer.forward_std for layer in flow.layers)


def _gradient_ratio(flow: Flow) -> float:
    """Return the logarithm of the gradients that came back to the first quarter of the layers over the last's.

    Geometric means of the root mean squares over a layer's outputs. Of the activations, since behind a batch norm
    weights that have grown have smaller gradients.
    """
    logs = [
        math.log10(max(layer.activation_gradient_norm, SMALLEST_NORM) / math.sqrt(_elements(layer.layer)))
        for layer in flow.layers
    ]
    quarter = max(1, len(logs) // 4)
    return (math.fsum(logs[:quarter]) - math.fsum(logs[-quarter:])) / quarter


def _elements(layer: str) -> float:
    """Return the outputs of a 3x3 layer for one image, as a part of those of the first stage's layers.

    From one stage to the next the channels double and both sides of the map halve (Table 1, section 4.2).
    """
    name, _, place = layer.partition(".")
    return 0.5 ** int(place.partition(".")[0]) if name == "stages" else 1.0


def _onset(record: Record, below: float) -> float:
    """Return the epoch of the first evaluation with a running training error below ``below`` percent.

    A net that never comes there counts with its last epoch, so that its delay is understated.
    """
    curve = read_curve(record)[["epoch", "train_error"]].dropna()
    require(len(curve) > 0, "its curve has no train_error")
    reached = curve[curve["train_error"] < below]
    return float((reached["epoch"] if len(reached) else curve["epoch"].iloc[-1:]).iloc[0])


def _start(record: Record, metric: str) -> Quantity:
    built = record.construction
    if built is None:
        raise InputError("it was not constructed from a trained net")
    if metric == "start_train_difference":
        return Quantity(built.deep_batch_error - built.shallow_batch_error)
    return Quantity(built.deep_errors - built.shallow_errors)


# --- exact numbers ------------------------------------------------------------------------------------------------


def count(claims: Claims, c: Comparison, of_runs: Sequence[float]) -> tuple[bool, tuple[float, ...], str]:
    """Return whether the numbers are as ``c`` says, the different ones among them, and how they were counted.

    Args:
        of_runs: The numbers that runs counted; those of a net need none.
    """
    of_net = c.metric in ("params", "macs")
    numbers = [float(counted(claims, claims.groups[name], c.metric)) for name in c.groups] if of_net else list(of_runs)
    fits = len(set(numbers)) == 1 if len(c.groups) == 2 else all(_within(c, number) for number in numbers)
    return fits, tuple(dict.fromkeys(numbers)), "counted on the model" if of_net else "counted in every run"


def _within(c: Comparison, number: float) -> bool:
    return (
        (c.above is None or number > c.above)
        and (c.below is None or number < c.below)
        and (c.equals is None or number == c.equals)
    )


def counted(claims: Claims, group: Group, metric: str) -> int:
    """Count ``params`` or ``macs`` of the group's net.

    Raises:
        InputError: Recipe and run do not describe a net.
    """
    # Only here, since torch takes seconds to import and nothing else of the claims needs it.
    from repro.models.count import measure

    fields = {**later_defaults(), **claims.recipes[group.recipe], **group.run}
    model: ModelConfig = build(ModelConfig, _part(ModelConfig, fields, "model"), f"groups.{group.name}: model")
    data: DataConfig = build(DataConfig, _part(DataConfig, fields, "data"), f"groups.{group.name}: data")
    model.validate()
    size = measure(model, data.image_size, data.num_classes)
    value: int = getattr(size, metric)
    return value


def _part(kind: type, fields: dict[str, object], name: str) -> dict[str, object]:
    wanted = [field.name for field in dataclasses.fields(kind)]
    missing = [field for field in wanted if f"{name}.{field}" not in fields]
    if missing:
        raise InputError(f"the recipe does not set {name}.{missing[0]}")
    return {field: fields[f"{name}.{field}"] for field in wanted}
