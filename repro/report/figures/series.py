"""What one run contributes to one line of a figure: numbers by training step or by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repro.config.parse import require
from repro.papers import LineStyle, Panel
from repro.papers.figures import Place
from repro.results.read import Flow, Record, read_curve

if TYPE_CHECKING:
    import pandas


def series(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    """The numbers of ``record`` for ``line``, by step or by the number of the layer from 1.

    Empty where there is nothing to show, as the start of a net that was not constructed.

    Raises:
        InputError: The record does not hold them; the sentence says what is missing.
    """
    if panel.shows == "curves":
        return _curve(record, line)
    if panel.shows in ("responses", "sorted_responses"):
        return _responses(record, largest_first=panel.shows == "sorted_responses")
    require(bool(record.flow), "it has no gradient flow (eval.gradient_flow)")
    assert line.at is not None
    assert panel.quantity is not None
    return (_flow_by_layer if panel.shows == "flow_by_layer" else _flow_by_step)(record, panel.quantity, line.at)


def steps_of(record: Record, panel: Panel, line: LineStyle) -> int | None:
    """The training step that a line over layers is of; None for the other lines."""
    if panel.shows != "flow_by_layer" or line.at is None or not record.flow:
        return None
    return record.flow[position(line.at, len(record.flow))].step


def position(at: Place, count: int) -> int:
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
    import pandas

    require(bool(record.responses), "it has no layer responses")
    values = [response.std for response in record.responses if response.std is not None]
    require(len(values) == len(record.responses), "the responses of some of its layers overflow")
    if largest_first:
        values.sort(reverse=True)
    return pandas.Series(values, index=range(1, len(values) + 1))


def _flow_by_layer(record: Record, quantity: str, at: Place) -> pandas.Series:
    import pandas

    layers = record.flow[position(at, len(record.flow))].layers
    return pandas.Series([getattr(layer, quantity) for layer in layers], index=range(1, len(layers) + 1))


def _flow_by_step(record: Record, quantity: str, at: Place) -> pandas.Series:
    import pandas

    def value(flow: Flow) -> float:
        found: float = getattr(flow.layers[position(at, len(flow.layers))], quantity)
        return found

    return pandas.Series({flow.step: value(flow) for flow in record.flow})
