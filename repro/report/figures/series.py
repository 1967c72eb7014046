"""Numbers of one run for one line of a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repro.config.parse import require
from repro.papers import LineStyle, Panel
from repro.papers.figures import Place
from repro.results.read import Record, read_curve

if TYPE_CHECKING:
    import pandas


def values_of(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    """Return the numbers of ``record`` for ``line``, by step or by the number of the layer from 1.

    They are empty where there is nothing to show, as the start of a net that was not constructed.

    Raises:
        InputError: The record does not hold them; the sentence says what is missing.
    """
    if panel.shows == "curves":
        return _curve(record, line)
    if panel.shows in ("responses", "sorted_responses"):
        return _responses(record, largest_first=panel.shows == "sorted_responses")
    return _flow(record, panel, line)


def steps_of(record: Record, panel: Panel, line: LineStyle) -> int | None:
    """Return the training step that a line over layers shows; None for the other lines."""
    if panel.shows != "flow_by_layer" or line.at is None or not record.flow:
        return None
    return record.flow[_position(line.at, len(record.flow))].step


def _position(at: Place, count: int) -> int:
    return {"first": 0, "middle": count // 2, "last": count - 1}[at]


def _curve(record: Record, line: LineStyle) -> pandas.Series:
    import pandas

    if line.column is not None and line.column.startswith("start_"):
        begun = record.construction
        if begun is None:
            return pandas.Series(dtype=float)
        tested = 100 * begun.deep_errors / begun.images
        return pandas.Series({0: begun.deep_batch_error if line.column == "start_train_error" else tested})
    return read_curve(record).set_index("step")[line.column].dropna()


def _responses(record: Record, largest_first: bool) -> pandas.Series:
    require(bool(record.responses), "it has no layer responses")
    values = [response.std for response in record.responses if response.std is not None]
    require(len(values) == len(record.responses), "the responses of some of its layers overflow")
    return _by_layer(sorted(values, reverse=True) if largest_first else values)


def _flow(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    import pandas

    require(bool(record.flow), "it has no gradient flow (eval.gradient_flow)")
    assert line.at is not None and panel.quantity is not None
    if panel.shows == "flow_by_layer":
        layers = record.flow[_position(line.at, len(record.flow))].layers
        return _by_layer([getattr(layer, panel.quantity) for layer in layers])
    by_step = {flow.step: flow.layers[_position(line.at, len(flow.layers))] for flow in record.flow}
    return pandas.Series({step: getattr(layer, panel.quantity) for step, layer in by_step.items()})


def _by_layer(values: list[float]) -> pandas.Series:
    import pandas

    return pandas.Series(values, index=range(1, len(values) + 1))
