"""All runs as one tidy table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_type_hints

from repro.config.run import DataConfig, EvalConfig, ModelConfig, OptimConfig
from repro.errors import InputError
from repro.results.read import LeftOut, Reading, read_curve
from repro.results.record import Construction, Evaluation, Record, RunningError, ViewResult
from repro.results.stored import Provenance
from repro.runtime.provenance import CURVE_COLUMNS

if TYPE_CHECKING:
    import pandas

FINGERPRINT = "fp-"
"""The prefix of the digits, some of which programs would read as numbers (``12e45678`` is infinite)."""
SETTINGS: Mapping[str, type] = {"model": ModelConfig, "data": DataConfig, "optim": OptimConfig, "eval": EvalConfig}
ERRORS: Mapping[str, type] = {
    "final": Evaluation,
    "best": Evaluation,
    "train": Evaluation,
    "train_running": RunningError,
    "chosen": Evaluation,
    "validation": Evaluation,
}
VIEWS: Mapping[str, type] = {"10crop": ViewResult, "multiscale": ViewResult, "large_crop": ViewResult}
LAST = ("top5_errors", "top5_error", "changed", "cuda")
"""Columns that were added later come last in their part."""
CURVE_IDENTITY = ("run_id", "key", "label", "exp", "scale", "seed")
CURVE = {
    "eval_split": "the split of `eval_loss` and `eval_error`: `test`, `val` or `val5k`",
    "step": "optimizer updates so far",
    "epoch": "the same in passes over the training set",
    "lr": "learning rate of the last update",
    "train_loss": "mean cross entropy over the augmented batches since the evaluation before",
    "train_error": "error over the same batches",
    "eval_loss": "mean cross entropy over `eval_split`, in evaluation mode",
    "eval_error": "error over `eval_split`, in evaluation mode",
}


def meanings(parts: Mapping[str, type]) -> dict[str, str]:
    """Return the columns of dataclasses, with the texts beside their fields.

    Args:
        parts: The dataclasses by the prefix of their columns.
    """
    found = {}
    for prefix, kind in parts.items():
        hints = get_type_hints(kind, include_extras=True)
        for name in sorted(hints, key=LAST.__contains__):
            for text in getattr(hints[name], "__metadata__", ()):
                if isinstance(text, str):  # other annotations are limits
                    found[f"{prefix}.{name}" if prefix else name] = text
    return found


def sections() -> dict[str, dict[str, str]]:
    """Return the columns in the order of the table, and their meanings, by section of docs/export.md."""
    own = meanings({"": Record})
    measured = list(own).index("steps")
    return {
        "run": dict(list(own.items())[:measured]),
        "settings": meanings(SETTINGS),
        "errors": meanings(ERRORS),
        "views": meanings(VIEWS),
        "construction": meanings({"construction": Construction}),
        "measured": dict(list(own.items())[measured:]),
        "provenance": meanings({"provenance": Provenance}),
    }


def run_columns() -> list[str]:
    """Return the columns of ``runs``, the same for all kinds of runs."""
    return [name for section in sections().values() for name in section]


def curve_columns() -> list[str]:
    return [*CURVE_IDENTITY, "eval_split", *CURVE_COLUMNS]


def columns_table(name: str) -> str:
    """Tabulate the columns of a section of docs/export.md; those of one name and meaning share a line."""
    same: dict[tuple[str, str], list[str]] = {}
    for column, meaning in (CURVE if name == "curve" else sections()[name]).items():
        same.setdefault((column.rpartition(".")[2], meaning), []).append(f"`{column}`")
    rows = [f"| {', '.join(columns)} | {meaning} |" for (_, meaning), columns in same.items()]
    return "\n".join(["| column | meaning |", "|---|---|", *rows, ""])


def runs(reading: Reading) -> pandas.DataFrame:
    """Tabulate one row per run, with ``run_columns()``; missing values are empty, lists are JSON."""
    import pandas

    columns = run_columns()
    return pandas.DataFrame([_row(record, columns) for record in reading.records], columns=columns, dtype=object)


def curves(reading: Reading) -> tuple[pandas.DataFrame, list[LeftOut]]:
    """Tabulate one row per evaluation, with ``curve_columns()``; also return the runs whose curve cannot be read."""
    import pandas

    parts, left_out = [], []
    for record in reading.records:
        try:
            curve = read_curve(record)
        except InputError as error:
            left_out.append(LeftOut(record.run_id, str(error)))
            continue
        same = {name: getattr(record, name) for name in CURVE_IDENTITY}
        parts.append(curve.assign(**same, eval_split=record.science.data.eval_split)[curve_columns()])
    return pandas.concat(parts) if parts else pandas.DataFrame(columns=curve_columns()), left_out


def to_csv(frame: pandas.DataFrame) -> str:
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _row(record: Record, columns: Sequence[str]) -> dict[str, Any]:
    """Return the values of a run by column, without missing ones."""
    parts = {**vars(record.science), **vars(record.result), **{view.view: view for view in record.result.views}}
    parts |= {"construction": record.construction, "provenance": record.provenance}
    values = {**vars(record), "fingerprint": f"{FINGERPRINT}{record.fingerprint}"}
    for prefix, part in parts.items():
        values |= {f"{prefix}.{name}": value for name, value in getattr(part, "__dict__", {}).items()}
    return {name: _cell(values[name]) for name in columns if name in values}


def _cell(value: Any) -> Any:
    """Convert lists and booleans to JSON: a cell of a tidy table has one plain value."""
    return json.dumps(value) if isinstance(value, list | tuple | bool) else value
