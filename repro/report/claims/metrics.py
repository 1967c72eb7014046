"""Numbers that comparisons take from runs and nets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from repro.config.parse import require
from repro.config.science import Science
from repro.errors import InputError
from repro.papers.claims import Claims, Comparison, Group
from repro.results.channels import CHANNELS
from repro.results.detection_record import DetectionRecord
from repro.results.lesions import LESIONS
from repro.results.read import AnyRecord, read_curve
from repro.results.record import Flow, Record
from repro.results.select import view_of

if TYPE_CHECKING:
    import pandas

OF_NET = ("params", "macs")
"""Metrics that are counted on the model, without a run."""
SMALLEST_NORM = 1e-30
"""Replaces a gradient of exactly 0, which has no logarithm."""
OF_FINAL_NET: Mapping[str, Callable[[Record], float]] = {
    "deletion_rise": lambda record: LESIONS.read(record).deletion_rise(),
    "reordering_rise": lambda record: LESIONS.read(record).reordering_rise(),
    "channel_overlap": lambda record: CHANNELS.read(record).mean("overlap"),
    "channel_correlation": lambda record: CHANNELS.read(record).mean("correlation"),
}
"""Metrics of the final net, measured after the training by a command of their own."""
SAMPLED = ("deletion_rise", "reordering_rise")
"""Metrics that depend on the number of test images and on random choices."""
ONSETS = {"onset_90": 90.0, "onset_80": 80.0}
"""Metrics of the start of convergence: the first evaluation with a training error below this, in percent."""


class Unit(NamedTuple):
    """Digits after the point, and the text behind a value."""

    digits: int
    text: str


UNITS = {
    "params": Unit(0, " parameters"),
    "macs": Unit(0, " multiply-adds"),
    "start_difference": Unit(0, " errors"),
    "start_train_difference": Unit(2, " points"),
    "response_std": Unit(3, ""),
    "lowest_forward_std": Unit(3, ""),
    "log10_gradient_ratio": Unit(3, ""),
    "log10_seconds": Unit(3, ""),
    "deletion_rise": Unit(2, " points"),
    "reordering_rise": Unit(2, " points"),
    "channel_overlap": Unit(3, ""),
    "channel_correlation": Unit(3, ""),
    **dict.fromkeys(ONSETS, Unit(2, " epochs")),
}


def unit_of(metric: str) -> Unit:
    return UNITS.get(metric, Unit(2, " %"))


def value_of(record: AnyRecord, c: Comparison) -> tuple[float, int | None]:
    """Return the value of one run for ``c``, and the number of images if it is an error rate.

    Raises:
        InputError: The record lacks the value.
    """
    if isinstance(record, DetectionRecord):
        precision = record.value(c.metric)
        if precision is None:
            raise InputError(f"it has no {c.metric}")
        return precision, None
    return _value_of_net(of_classification(record), c)


def _value_of_net(record: Record, c: Comparison) -> tuple[float, int | None]:
    """Return the value of a run of classification."""
    metric, result = c.metric, record.result
    if metric == "top1_error":
        return result.reported.top1_error, result.reported.images
    if metric == "train_running_error":
        if result.train_running is None:
            raise InputError("it has no training error")
        return result.train_running.top1_error, result.train_running.images
    if metric.startswith(("10crop_", "multiscale_")):
        name, error = metric.split("_", 1)
        view = view_of(record, name)
        if view is None:
            raise InputError(f"it has no {name} result")
        return getattr(view, error), view.images
    if metric in ("curve_train_error", "curve_eval_error"):
        return float(series(record, c).mean()), None
    if metric in ONSETS:
        return _onset(record, ONSETS[metric]), None
    if metric == "response_std":
        deviations = responses(record)
        return math.fsum(deviations) / len(deviations), None
    if metric in ("lowest_forward_std", "log10_gradient_ratio"):
        require(len(record.flow) > 0 and all(flow.layers for flow in record.flow), "it has no gradient flow")
        forward = min(layer.forward_std for flow in record.flow for layer in flow.layers)
        return forward if metric == "lowest_forward_std" else min(map(_gradient_ratio, record.flow)), None
    if metric == "log10_seconds":
        require(record.wall_seconds > 0, "it has no time of training")
        return math.log10(record.wall_seconds), None
    if metric in OF_FINAL_NET:
        return OF_FINAL_NET[metric](record), None
    return _at_start(record, metric), None


def _at_start(record: Record, metric: str) -> float:
    """Return a difference between a constructed net before its first step and the shallow net that it comes from."""
    built = record.construction
    if built is None:
        raise InputError("it was not constructed from a trained net")
    if metric == "start_train_difference":
        return built.deep_batch_error - built.shallow_batch_error
    return built.deep_errors - built.shallow_errors


def resolution(c: Comparison, records: Sequence[AnyRecord] = (), images: int | None = None) -> float:
    """Return the smallest change of the value of ``c``: one count or, without counts, its last digit."""
    if images:
        return 100 / images
    if records and c.metric in ONSETS:
        # Convergence begins somewhere between two evaluations.
        epochs = read_curve(of_classification(records[0]))["epoch"]
        return float(epochs.diff().fillna(epochs).max())
    digits: float = 10.0 ** -unit_of(c.metric).digits
    return digits


def unlike(c: Comparison, records: Sequence[AnyRecord]) -> str:
    """Return how ``records`` were measured in different ways, so that nothing can be compared; empty if alike."""
    if c.metric in SAMPLED:
        ways = {(found.images, found.draws, found.seed) for found in map(LESIONS.read, map(of_classification, records))}
        told = ", ".join(f"{images:,} images, {draws} draws, seed {seed}" for images, draws, seed in sorted(ways))
        return f"nets were damaged in different ways ({told}): repeat repro lesion" if len(ways) > 1 else ""
    if c.metric == "log10_seconds":
        machines = {_machine(of_classification(record)) for record in records}
        return f"times of different machines: {'; '.join(sorted(machines))}" if len(machines) > 1 else ""
    return ""


def _machine(record: Record) -> str:
    """Name all that moves the time of a run besides its work."""
    ran = record.carried
    words = [record.machine, record.provenance.precision, f"{ran.world_size} x {ran.runs_per_gpu} runs", ran.step]
    return ", ".join(str(word) for word in words if word is not None)


def of_classification(record: AnyRecord) -> Record:
    """Return the record if it is one of classification; raise an ``InputError`` if not."""
    if not isinstance(record, Record):
        raise InputError("it is the record of a detector or of a localizer")
    return record


def responses(record: AnyRecord) -> list[float]:
    """Return the standard deviation of each layer's responses, in the order of computation."""
    record = of_classification(record)
    require(len(record.responses) > 0, "it has no responses of layers")
    return record.deviations()


def series(record: AnyRecord, c: Comparison) -> pandas.Series:
    """Return the errors of the curve within the window of ``c``, in percent, by step."""
    column = c.metric.removeprefix("curve_")
    curve = read_curve(of_classification(record)).set_index("step")[column].dropna()
    first, last = (part * record.steps for part in c.window)
    within = curve[(curve.index > first) & (curve.index <= last)]
    require(len(within) > 0, f"its curve has no {column} within {c.window[0]:.0%} to {c.window[1]:.0%} of the steps")
    return within


def _gradient_ratio(flow: Flow) -> float:
    """Return log10 of the gradients in the first quarter of the layers relative to those in the last quarter.

    These are gradients of activations, as geometric means over layers of their root mean squares. Gradients of weights
    would mislead: before a batch norm they shrink as the weights grow.
    """
    logs = [
        math.log10(max(layer.activation_gradient_norm, SMALLEST_NORM) / math.sqrt(_elements(layer.layer)))
        for layer in flow.layers
    ]
    quarter = max(1, len(logs) // 4)
    return (math.fsum(logs[:quarter]) - math.fsum(logs[-quarter:])) / quarter


def _elements(layer: str) -> float:
    """Return the number of outputs of a 3x3 layer for one image, relative to a layer of the first stage."""
    # Each stage doubles the channels and halves height and width (Table 1, section 4.2).
    name, _, place = layer.partition(".")
    return 0.5 ** int(place.partition(".")[0]) if name == "stages" else 1.0


def _onset(record: Record, below: float) -> float:
    """Return the epoch of the first evaluation with a running training error below ``below`` percent."""
    curve = read_curve(record)[["epoch", "train_error"]].dropna()
    require(len(curve) > 0, "its curve has no train_error")
    reached = curve[curve["train_error"] < below]
    # A net that never gets there counts with its last epoch, which understates its delay.
    return float((reached["epoch"] if len(reached) else curve["epoch"].iloc[-1:]).iloc[0])


def count(claims: Claims, c: Comparison, of_runs: Sequence[float]) -> tuple[bool, tuple[float, ...], str]:
    """Return whether exact numbers agree with ``c``, the distinct numbers, and how they were counted.

    Args:
        of_runs: Numbers that were counted in runs; unused for metrics of a net.
    """
    of_net = c.metric in OF_NET
    numbers = [float(_counted(claims, claims.groups[name], c.metric)) for name in c.groups] if of_net else of_runs
    above, below = (-math.inf if c.above is None else c.above), (math.inf if c.below is None else c.below)
    within = all(above < number < below and c.equals in (None, number) for number in numbers)
    fits = len(set(numbers)) == 1 if len(c.groups) == 2 else within
    return fits, tuple(dict.fromkeys(numbers)), "counted on the model" if of_net else "counted in every run"


def _counted(claims: Claims, group: Group, metric: str) -> int:
    """Count ``params`` or ``macs`` of the group's net."""
    # Imported here, since torch takes seconds to import and nothing else about claims needs it.
    from repro.models.count import measure

    try:
        science = Science.from_flat({**claims.recipes[group.recipe], **group.run})
        science.model.validate()
    except InputError as error:
        raise InputError(f"groups.{group.name}: {error}") from None
    return int(getattr(measure(science.model, science.data.image_size, science.data.num_classes), metric))
