"""The paper's figures, and figures of claims in its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from repro.config.parse import build, require
from repro.config.paths import shared_dir
from repro.errors import nearest
from repro.papers.toml_files import FIRST, Run, later_papers, numbers, reading, require_flat

Dash = Literal["solid", "dashed", "dotted"]
Place = Literal["first", "middle", "last"]
Shows = Literal[
    "curves",
    "responses",
    "sorted_responses",
    "flow_by_layer",
    "flow_by_step",
    "lesions_by_count",
    "lesions_by_place",
    "lesions_by_swaps",
    "channels_overlap",
    "channels_correlation",
]


@dataclass(frozen=True)
class Axis:
    """Limits and ticks in the unit of the figure: percent, or steps divided by ``PaperFigure.x_unit``."""

    limits: tuple[float, ...]
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class LineStyle:
    """One kind of line: the values that it shows and the paper's way to draw it.

    ``column`` is a column of ``curve.csv``, or the error of a constructed net before its first step. ``at`` selects an
    evaluation or a layer of ``Record.flow``. A line of responses, lesions or channels needs neither. ``others`` shows,
    in place of the same channel, all other channels of the next block.
    """

    name: str
    label: str
    style: Dash = "solid"
    weight: Literal["thin", "bold"] = "bold"
    column: Literal["train_error", "eval_error", "start_train_error", "start_eval_error"] | None = None
    at: Place | None = None
    others: bool = False


@dataclass(frozen=True)
class Curve:
    """A net and its seeds; ``style`` overrides the style of the line."""

    label: str
    run: Run
    style: Dash | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes; every curve is drawn in the line styles that ``lines`` names.

    Axes without limits fit the measured values. ``x_part`` is the part of the training, from its start, that is shown.
    """

    title: str
    y_label: str
    experiment: str
    lines: tuple[str, ...]
    curves: tuple[Curve, ...]
    shows: Shows = "curves"
    quantity: Literal["forward_std", "gradient_norm", "activation_gradient_norm"] | None = None
    x: Axis | None = None
    y: Axis | None = None
    y_scale: Literal["linear", "log"] = "linear"
    x_part: float = 1.0
    x_label: str = ""
    """The label of the x axis, where it is not the figure's."""
    heading: bool = True
    """Whether the title is printed above the axes: not where the axis repeats it."""
    reduced: bool = False
    """True for nets that only reduced budgets train: the figure at the paper's budget leaves them out."""

    @property
    def of_lesions(self) -> bool:
        """True if trained nets are shown with blocks deleted or swapped."""
        return self.shows.startswith("lesions")

    @property
    def of_channels(self) -> bool:
        """True if channels of trained nets are compared from block to block, by stage."""
        return self.shows.startswith("channels")

    @property
    def over_steps(self) -> bool:
        """True if the x axis counts training steps, false if it counts layers."""
        return self.shows in ("curves", "flow_by_step")


@dataclass(frozen=True)
class PaperFigure:
    """A figure, with the paper's ``number`` or only a name; its panels stand in ``columns``, or all in one row."""

    name: str
    title: str
    recipe: str
    x_label: str
    lines: tuple[LineStyle, ...]
    panels: tuple[Panel, ...]
    number: int | None = None
    x_unit: int = 1
    columns: int | None = None
    legend: Literal["inside", "below"] = "inside"
    """The nets are named in every panel, or once below panels that all have the same ones."""
    paper: str = ""
    """The folder of a later paper; empty for the first one."""

    @property
    def full_title(self) -> str:
        """The title, preceded by the name of a later paper."""
        return f"{later_papers()[self.paper].short}: {self.title}" if self.paper else self.title

    @property
    def stem(self) -> str:
        """The name of its files without an ending: ``figure6``, ``wide_resnet/figure_width``."""
        return _stem(self.name)

    def line(self, name: str) -> LineStyle:
        return next(line for line in self.lines if line.name == name)


def figure_numbers() -> list[int]:
    """List the numbers of the paper's figures that this project can draw."""
    return numbers("figure")


def figure_names() -> list[str]:
    """List all figures of the first paper: its numbers, then the names of the others."""
    return [*map(str, figure_numbers()), *_named(FIRST)]


def later_figures() -> list[str]:
    """List the figures of later papers, as in ``wide_resnet/width``."""
    return [f"{paper}/{name}" for paper in later_papers() for name in _named(paper)]


def _named(paper: str) -> list[str]:
    files = (shared_dir("experiments") / paper).glob("figure_*.toml")
    return sorted(file.stem.removeprefix("figure_") for file in files)


def load_figure(name: int | str) -> PaperFigure:
    """Read the figure with the number or the name ``name``, or one of a later paper by folder and name.

    Raises:
        InputError: There is no such figure, or its file is invalid.
    """
    name, known = str(name), [*figure_names(), *later_figures()]
    require(name in known, f"there is no figure {name} here: known figures are {', '.join(known)}")
    with reading(_stem(name)) as values:
        figure: PaperFigure = build(PaperFigure, values, name=name, paper=name.rpartition("/")[0])
        number = int(name) if name.isdigit() else None
        require(figure.number == number, f"number={figure.number} differs from the number in the file's name")
        _check(figure)
    return figure


def _stem(name: str) -> str:
    paper, slash, own = name.rpartition("/")
    return f"{paper}{slash}figure{own}" if own.isdigit() else f"{paper}{slash}figure_{own}"


def _check(figure: PaperFigure) -> None:
    titles = [panel.title for panel in figure.panels]
    require(len(set(titles)) == len(titles), "two panels have the same title")
    require(not all(panel.reduced for panel in figure.panels), "every panel is reduced: one needs the paper's nets")
    names = {line.name for line in figure.lines}
    for panel in figure.panels:
        where = f"panel {panel.title!r}"
        for curve in panel.curves:
            require_flat(curve.run, f"{curve.label}: run")
        require(0 < panel.x_part <= 1, f"{where}: x_part={panel.x_part} must be above 0 and at most 1")
        flow = panel.shows.startswith("flow")
        has_quantity = panel.quantity is not None
        require(flow == has_quantity, f"{where}: panels of gradient flow need a quantity, and no others have one")
        for name in panel.lines:
            require(name in names, f"unknown line {name!r}: {nearest(name, names)}")
            line = figure.line(name)
            fits = (line.column is not None, line.at is not None) == (panel.shows == "curves", flow)
            require(fits, f"{where}: line {name!r} needs column= for curves, at= for gradient flow, neither for others")
