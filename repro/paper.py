"""What the paper says, as data: reads ``experiments/*.toml`` into frozen dataclasses, refusing what does not fit."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from repro.errors import InputError, nearest
from repro.resources import shared_dir
from repro.strict import build, convert, require

Run = Mapping[str, Any]
"""The science fields, flat (``{"model.depth": 20}``), that a row or a curve sets on top of its recipe."""


@dataclass(frozen=True)
class Published:
    """A value as the paper prints it: ``single`` alone, or ``best`` with the mean and std of ``runs`` runs."""

    single: float | None = None
    best: float | None = None
    mean: float | None = None
    std: float | None = None
    runs: int | None = None

    @property
    def headline(self) -> float:
        """The value that the paper puts first."""
        return next(value for value in (self.single, self.best, self.mean) if value is not None)

    @property
    def aggregate(self) -> str:
        """How the paper aggregated its headline value: ``single``, ``best of 5`` or ``mean of 5``."""
        if self.single is not None:
            return "single"
        return f"{'mean' if self.best is None else 'best'} of {self.runs}"


@dataclass(frozen=True)
class PaperRow:
    """A row of a published table: cited from other work, or the authors' own and then filled by ``run``."""

    label: str
    paper: Mapping[str, Published]
    run: Run | None
    cited: bool = False
    layers: int | None = None
    params_millions: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """A published table; ``metrics`` are fields of an evaluation in a record, ``recipe`` what its runs must follow."""

    number: int
    title: str
    metrics: tuple[str, ...]
    recipe: str
    experiment: str
    rows: tuple[PaperRow, ...]


@dataclass(frozen=True)
class Axis:
    """Limits and ticks in the units of the figure: percent, or steps divided by ``PaperFigure.x_unit``."""

    limits: tuple[float, ...]
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class LineStyle:
    """One kind of line: the column of ``curve.csv`` that it shows and how the paper draws it."""

    name: str
    column: Literal["train_error", "eval_error"]
    label: str
    style: Literal["solid", "dashed"]
    weight: Literal["thin", "bold"]


@dataclass(frozen=True)
class Curve:
    label: str
    run: Run


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``lines`` names the line styles that every curve is drawn in."""

    y_label: str
    experiment: str
    lines: tuple[str, ...]
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    title: str = ""


@dataclass(frozen=True)
class PaperFigure:
    number: int
    title: str
    recipe: str
    x_label: str
    x_unit: int
    lines: tuple[LineStyle, ...]
    panels: tuple[Panel, ...]

    def line(self, name: str) -> LineStyle:
        return next(line for line in self.lines if line.name == name)


@dataclass(frozen=True)
class Recipe:
    """How the paper trains: every science field but those of the row, flat, as stated or, where silent, chosen."""

    name: str
    title: str
    stated: Run
    chosen: Run
    unset: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """``{"optim.lr": 0.1, …}`` with None for the fields that the recipe leaves unset."""
        return {**self.stated, **self.chosen, **dict.fromkeys(self.unset)}


def table_numbers() -> list[int]:
    """The numbers of the published tables that there is data for."""
    return _numbers("table")


def figure_numbers() -> list[int]:
    """The numbers of the published figures that there is data for."""
    return _numbers("figure")


def load_table(number: int) -> PaperTable:
    """Table ``number`` of the paper.

    Raises:
        InputError: There is no such table, or its file does not fit.
    """
    _known("table", number)
    values = _read(f"table{number}")
    try:
        rows = tuple(_row(row) for row in values.pop("rows", []))
        table: PaperTable = _fill(PaperTable, values, rows=rows)
        require(table.number == number, f"number={table.number} is not the number in the file's name")
        for row in rows:
            require(set(row.paper) == set(table.metrics), f"{row.label}: paper must give {', '.join(table.metrics)}")
            require(row.cited == (row.run is None), f"{row.label}: a row is either cited or has a run")
    except InputError as error:
        raise InputError(f"experiments/table{number}.toml: {error}") from None
    return table


def load_figure(number: int) -> PaperFigure:
    """Figure ``number`` of the paper.

    Raises:
        InputError: There is no such figure, or its file does not fit.
    """
    _known("figure", number)
    values = _read(f"figure{number}")
    try:
        panels = tuple(_panel(panel) for panel in values.pop("panels", []))
        figure: PaperFigure = _fill(PaperFigure, values, panels=panels)
        require(figure.number == number, f"number={figure.number} is not the number in the file's name")
        names = {line.name for line in figure.lines}
        for panel in panels:
            for name in panel.lines:
                require(name in names, f"unknown line {name!r}: {nearest(name, names)}")
    except InputError as error:
        raise InputError(f"experiments/figure{number}.toml: {error}") from None
    return figure


def load_recipe(name: str) -> Recipe:
    """The recipe ``experiments/<name>.toml``.

    Raises:
        InputError: There is no such recipe, or its file does not fit.
    """
    values = _read(name)
    try:
        stated, chosen = _flat(values.pop("stated", {}), "stated"), _flat(values.pop("chosen", {}), "chosen")
        recipe: Recipe = _fill(Recipe, values, name=name, stated=stated, chosen=chosen)
        named = [*stated, *chosen, *recipe.unset]
        twice = sorted({key for key in named if named.count(key) > 1})
        require(not twice, f"{', '.join(twice)} is named more than once")
    except InputError as error:
        raise InputError(f"experiments/{name}.toml: {error}") from None
    return recipe


def _row(values: dict[str, Any]) -> PaperRow:
    run, paper = values.pop("run", None), values.pop("paper", {})
    where = str(values.get("label"))
    require(isinstance(paper, dict), f"{where}: paper must give a value for each metric")
    published = {metric: build(Published, value, f"{where}: {metric}") for metric, value in paper.items()}
    for value in published.values():
        alone = value.single is not None and value == Published(single=value.single)
        of_runs = value.single is None and value.runs is not None and (value.best, value.mean) != (None, None)
        require(alone or of_runs, f"{where}: a published value is single alone, or best or mean with its runs")
    run = None if run is None else _flat(run, f"{where}: run")
    row: PaperRow = _fill(PaperRow, values, paper=published, run=run)
    return row


def _panel(values: dict[str, Any]) -> Panel:
    curves = tuple(
        _fill(Curve, curve, run=_flat(curve.pop("run", {}), f"{curve.get('label')}: run"))
        for curve in values.pop("curves", [])
    )
    panel: Panel = _fill(Panel, values, curves=curves)
    return panel


def _fill(kind: Any, values: dict[str, Any], **parsed: Any) -> Any:
    """The dataclass ``kind`` from the keys of a file, strict, and the fields that were ``parsed`` already."""
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name not in parsed}
    for name in values:
        require(name in hints, f"unknown key {name!r}: {nearest(name, hints)}")
    for item in dataclasses.fields(kind):
        given = item.name in values or item.name in parsed or item.default is not dataclasses.MISSING
        require(given, f"{item.name} is missing")
    return kind(**{name: convert(hints[name], value, name) for name, value in values.items()}, **parsed)


def _flat(values: Any, where: str) -> Run:
    """``values`` checked to be flat science fields in quotes, as in ``"optim.lr" = 0.1``."""
    require(isinstance(values, dict), f"{where} must be a table of science fields")
    for key, value in values.items():
        require(key.count(".") == 1 and not isinstance(value, dict), f'{where}: {key} must read "group.field" = value')
    return dict(values)


def _read(name: str) -> dict[str, Any]:
    file = shared_dir("experiments") / f"{name}.toml"
    if not file.is_file():
        raise InputError(f"there is no experiments/{name}.toml")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"experiments/{name}.toml is not TOML: {error}") from None


def _numbers(kind: str) -> list[int]:
    names = (file.stem.removeprefix(kind) for file in shared_dir("experiments").glob(f"{kind}*.toml"))
    return sorted(int(name) for name in names if name.isdigit())


def _known(kind: str, number: int) -> None:
    numbers = _numbers(kind)
    known = ", ".join(map(str, numbers)) or "none"
    require(number in numbers, f"there is no {kind} {number} here; {kind}s that can be made: {known}")
