"""The values of one run in a figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from repro.config.parse import require
from repro.papers.figures import LineStyle, Panel, Place
from repro.results.channels import CHANNELS
from repro.results.lesions import LESIONS
from repro.results.read import Record, read_curve

if TYPE_CHECKING:
    import pandas


def values_of(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    """Return the values of ``record`` for ``line``, by step, layer from 1, number of blocks or stage.

    They are empty if there is nothing to show, such as the start of a net that was not constructed.

    Raises:
        InputError: The record lacks the values.
    """
    if panel.shows == "curves":
        return _curve(record, line)
    if panel.shows in ("responses", "sorted_responses"):
        return _responses(record, largest_first=panel.shows == "sorted_responses")
    if panel.of_lesions:
        return _lesions(record, panel)
    if panel.of_channels:
        return _channels(record, panel, line)
    return _flow(record, panel, line)


def step_of(record: Record, panel: Panel, line: LineStyle) -> int | None:
    """Return the training step of a line over layers; None for other lines."""
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
        train = line.column == "start_train_error"
        return pandas.Series({0: begun.deep_batch_error if train else 100 * begun.deep_errors / begun.images})
    return read_curve(record).set_index("step")[line.column].dropna()


def _responses(record: Record, largest_first: bool) -> pandas.Series:
    require(bool(record.responses), "it has no layer responses")
    values = record.deviations()
    return _by_layer(sorted(values, reverse=True) if largest_first else values)


def _lesions(record: Record, panel: Panel) -> pandas.Series:
    """Average the errors of a damaged net over random draws; empty if it was not tested."""
    import pandas

    if not LESIONS.is_there(record):
        return pandas.Series(dtype=float)
    lesions = LESIONS.read(record)
    if panel.shows == "lesions_by_place":
        found = {0: [lesions.error], **lesions.by_place()}
    else:
        found = lesions.by_count() if panel.shows == "lesions_by_count" else lesions.by_swaps()
    return pandas.Series({x: sum(errors) / len(errors) for x, errors in found.items()})


def lesion_images(records: Iterable[Record]) -> str:
    """Say on how many images damaged nets were tested; empty without such nets."""
    counts = sorted({LESIONS.read(record).images for record in records})
    if not counts:
        return ""
    least = "" if len(counts) == 1 else f"{counts[0]:,} to "
    return f"Damaged nets were tested on the first {least}{counts[-1]:,} test images."


def _channels(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    """Return the likeness of a net's channels by stage; empty if they were not compared."""
    import pandas

    if not CHANNELS.is_there(record):
        return pandas.Series(dtype=float)
    what = panel.shows.removeprefix("channels_")
    return pandas.Series(CHANNELS.read(record).by_stage(f"other_{what}" if line.others else what))


def _flow(record: Record, panel: Panel, line: LineStyle) -> pandas.Series:
    import pandas

    require(bool(record.flow), "it has no gradient flow (eval.gradient_flow)")
    assert line.at is not None and panel.quantity is not None
    if panel.shows == "flow_by_layer":
        flow = record.flow[_position(line.at, len(record.flow))]
        return _by_layer([getattr(layer, panel.quantity) for layer in flow.layers])
    by_step = {flow.step: flow.layers[_position(line.at, len(flow.layers))] for flow in record.flow}
    return pandas.Series({step: getattr(layer, panel.quantity) for step, layer in by_step.items()})


def _by_layer(values: list[float]) -> pandas.Series:
    import pandas

    return pandas.Series(values, index=range(1, len(values) + 1))
