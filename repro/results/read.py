"""Reads what runs left behind, and refuses what does not hold together."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.config.parse import build, require
from repro.config.run import DataConfig, EvalConfig, ModelConfig, OptimConfig, fingerprint, recipe_of
from repro.errors import InputError
from repro.runtime.provenance import CURVE_COLUMNS, SCHEMA

if TYPE_CHECKING:
    import pandas

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Evaluation:
    """Errors counted over ``images`` of ``split`` with the weights after ``step`` steps; ``top1_error`` in percent.
    ``loss`` is None where it is not finite: a deep plain net's answers can overflow while it trains soundly.
    """

    split: str
    errors: int
    images: int
    top1_error: float
    loss: float | None
    step: int
    top5_errors: int | None = None
    top5_error: float | None = None


@dataclass(frozen=True)
class ViewResult:
    """The final net on several views of every image (section 3.4): ``10crop`` or ``multiscale``, softmax averaged."""

    view: str
    split: str
    errors: int
    images: int
    top1_error: float
    top5_errors: int
    top5_error: float


@dataclass(frozen=True)
class LayerResponse:
    """Standard deviation of a 3x3 layer's output after batch norm, before nonlinearity or addition (Fig. 7)."""

    layer: str
    std: float | None
    """None where the responses overflow."""


@dataclass(frozen=True)
class LayerFlow:
    """One layer's forward standard deviation (after batch norm), and the norms of the gradients of its weight and of
    that output. The latter is what comes back: behind batch norm, larger weights have smaller gradients."""

    layer: str
    forward_std: float
    gradient_norm: float
    activation_gradient_norm: float


@dataclass(frozen=True)
class Flow:
    """Signals and gradients through all 3x3 layers after ``step`` steps (``eval.gradient_flow``)."""

    step: int
    layers: tuple[LayerFlow, ...]


@dataclass(frozen=True)
class Construction:
    """How a net that begins as a trained shallow one compares with it before its first step.

    Errors are over the evaluated split in evaluation mode, or over training batches in training mode; ``gap`` is the
    largest difference of a logit in evaluation mode, ``changed`` the images that both answer differently.
    """

    from_run: str
    shallow_errors: int
    deep_errors: int
    images: int
    gap: float
    shallow_batch_error: float
    deep_batch_error: float
    changed: int = 0


@dataclass(frozen=True)
class RunningError:
    """Errors counted over the augmented training batches of the steps ``first_step`` to ``last_step``."""

    errors: int
    images: int
    top1_error: float
    loss: float
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Result:
    final: Evaluation
    best: Evaluation
    train: Evaluation | None
    train_running: RunningError | None
    views: tuple[ViewResult, ...] = ()


@dataclass(frozen=True)
class Science:
    """What ``RunConfig.science`` gave, in its types."""

    seed: int
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    eval: EvalConfig


@dataclass(frozen=True)
class Provenance:
    commit: str | None
    dirty: bool | None
    device: str
    precision: str
    finished: str
    cuda: str | None = None


@dataclass(frozen=True)
class Carried:
    """On what a run was carried out: ``world_size`` devices, of which each has ``threads`` where it is a processor."""

    threads: int | None = None
    world_size: int = 1
    runs_per_gpu: int | Literal["auto"] = 1
    step: str | None = None
    """How a step was executed (``repro.engine.step.step_modes``)."""


@dataclass(frozen=True)
class Record:
    """A finished run, checked; ``folder`` holds its ``record.json`` and ``curve.csv``."""

    run_id: str
    key: str
    label: str
    exp: str
    scale: str
    seed: int
    fingerprint: str
    numerics_version: int
    science: Science
    result: Result
    steps: int
    params: int
    macs: int
    wall_seconds: float
    images_per_second: float
    provenance: Provenance
    folder: Path
    execution: Carried = Carried()
    responses: tuple[LayerResponse, ...] = ()
    flow: tuple[Flow, ...] = ()
    construction: Construction | None = None
    below_80_step: int | None = None
    """The end of the first 50 steps with a running training error below 80 %; None where there are none, or where
    older code did not look."""

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The science fields without the seed, flat and complete: ``{"optim.lr": 0.1, …}``, lists for tuples."""
        flat = recipe_of(dataclasses.asdict(self.science))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in flat.items()}


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not counted, and why."""

    name: str
    reason: str
    folder: Path = Path()


@dataclass(frozen=True)
class Reading:
    """All records that hold together, and the ones that do not."""

    records: tuple[Record, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def read_records(roots: Iterable[Path]) -> Reading:
    """Reads ``<root>/<run_id>/record.json`` under every root; a run that lies in two roots counts once.

    A folder without a record is a run that is not finished; a root that does not exist holds nothing.
    """
    records: dict[str, Record] = {}
    left_out: list[LeftOut] = []
    for root in roots:
        for file in sorted(root.glob("*/record.json")):
            name = f"{root.name}/{file.parent.name}"
            try:
                record = read_record(file)
            except InputError as error:
                left_out.append(LeftOut(name, str(error), file.parent))
                continue
            first = records.setdefault(record.run_id, record)
            if first.result != record.result:
                counted = f"{first.folder.parent.name}/{first.run_id}"
                left_out.append(
                    LeftOut(name, f"its result differs from the one of {counted}, which counts", file.parent)
                )
    return Reading(tuple(records[run_id] for run_id in sorted(records)), tuple(left_out))


def read_record(file: Path) -> Record:
    """A record, checked.

    Raises:
        InputError: It cannot be read, or its parts do not hold together; the sentence says which.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"record.json cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"record.json is not JSON: {error}") from None
    require(isinstance(values, dict), "record.json is not a JSON object")
    require(values.get("schema") == SCHEMA, f"schema={values.get('schema')!r} is not {SCHEMA}, the one that is read")
    try:
        record: Record = build(Record, {**_readable(Record, values), "folder": file.parent})
    except OverflowError:
        raise InputError("record.json holds a number that is too large") from None
    _check(record, values["science"])
    return record


def read_curve(record: Record) -> pandas.DataFrame:
    """The curve of a run, one row an evaluation: ``CURVE_COLUMNS``, errors in percent, NaN for an empty cell.

    Raises:
        InputError: There is no curve, or it does not fit the record.
    """
    import pandas

    file = record.folder / "curve.csv"
    try:
        curve = pandas.read_csv(file)
    except OSError:
        raise InputError("it has no curve.csv") from None
    except ValueError as error:
        raise InputError(f"curve.csv cannot be read: {error}") from None
    require(tuple(curve.columns) == CURVE_COLUMNS, f"curve.csv must have the columns {','.join(CURVE_COLUMNS)}")
    require(len(curve) > 0, "curve.csv has no rows")
    numeric = all(pandas.api.types.is_numeric_dtype(kind) for kind in curve.dtypes)
    require(numeric, "curve.csv holds a cell that is not a number")
    steps = curve["step"]
    require(steps.is_monotonic_increasing and steps.is_unique, "the steps of curve.csv do not rise")
    require(steps.iloc[-1] == record.steps, f"curve.csv ends at step {steps.iloc[-1]} instead of {record.steps}")
    for name in ("train_error", "eval_error"):
        require(bool(curve[name].dropna().between(0, 100).all()), f"curve.csv holds a {name} that is not from 0 to 100")
    return curve


def _readable(kind: Any, values: Any) -> Any:
    """``values`` without the keys that are not read here, but for the science, where an unknown key is a refusal."""
    if kind is Science:
        return values
    if typing.get_origin(kind) is tuple and isinstance(values, list):
        return [_readable(typing.get_args(kind)[0], value) for value in values]
    if not dataclasses.is_dataclass(kind):
        kind = next((k for k in typing.get_args(kind) if dataclasses.is_dataclass(k)), None)
        if kind is None:
            return values
    if not isinstance(values, dict):
        return values
    hints = typing.get_type_hints(kind)
    return {name: _readable(hints[name], value) for name, value in values.items() if name in hints}


def _check(record: Record, science: dict[str, Any]) -> None:
    for name in ("run_id", "key", "scale", "exp"):
        value = getattr(record, name)
        if name == "exp" and value == "":
            continue  # a run of no experiment, composed on the command line
        require(PLAIN_NAME.fullmatch(value) is not None, f"{name}={value!r} is not a plain name")
    require(record.run_id == record.folder.name, f"its run_id {record.run_id} is not the name of its folder")
    digest = fingerprint(science, record.numerics_version)
    require(digest == record.fingerprint, f"its configuration has the fingerprint {digest}, not {record.fingerprint}")
    name = f"{record.key}-s{record.seed}-{digest[:8]}"
    require(record.run_id == name, f"its run_id is not {name}, as its key, seed and fingerprint ask")
    require(record.seed == record.science.seed, f"seed={record.seed} is not the seed of its configuration")
    require(record.params > 0 and record.macs > 0, "params and macs must be above 0")
    planned = record.science.optim.steps
    require(record.steps == planned, f"it ended at step {record.steps} of {planned}")
    below = record.below_80_step
    require(below is None or 0 < below <= record.steps, f"below_80_step={below} is not one of its {record.steps} steps")
    result = record.result
    require(result.final.step == record.steps, f"its final error is of step {result.final.step}, not {record.steps}")
    require(0 <= result.best.step <= record.steps, f"its best error is of step {result.best.step} of {record.steps}")
    split = record.science.data.eval_split
    for name in ("final", "best"):
        found = getattr(result, name).split
        require(found == split, f"its {name} error is of the split {found}, not {split}")
    for name in ("final", "best", "train", "train_running"):
        if (counts := getattr(result, name)) is not None:
            _check_counts(name, counts)
    names = [view.view for view in result.views]
    require(len(set(names)) == len(names), f"result.views names a view twice: {', '.join(names)}")
    for view in result.views:
        require(view.split == split, f"its {view.view} error is of the split {view.split}, not {split}")
        _check_counts(view.view, view)


def _check_counts(name: str, counts: Evaluation | RunningError | ViewResult) -> None:
    require(
        0 <= counts.errors <= counts.images and counts.images > 0,
        f"result.{name} counts {counts.errors} errors among {counts.images} images",
    )
    error = 100 * counts.errors / counts.images
    require(
        abs(counts.top1_error - error) < 1e-9,
        f"result.{name}.top1_error={counts.top1_error} is not 100 * {counts.errors} / {counts.images} = {error}",
    )
    if isinstance(counts, RunningError) or counts.top5_errors is None or counts.top5_error is None:
        return
    error = 100 * counts.top5_errors / counts.images
    require(
        0 <= counts.top5_errors <= counts.errors and abs(counts.top5_error - error) < 1e-9,
        f"result.{name}: {counts.top5_errors} top-5 errors ({counts.top5_error} %) do not fit {counts.errors} errors "
        f"among {counts.images} images",
    )
