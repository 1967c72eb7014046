"""The functions of ``import repro`` (docs/python.md)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from repro.config.arguments import (
    evidence_roots,
    published_results,
    quiet_caches,
    record_folders,
    refuse_unknown_scale,
)
from repro.config.parse import require
from repro.config.paths import resolve_paths
from repro.errors import InputError, nearest
from repro.papers import ALL_NETS
from repro.results.read import LeftOut, Reading, read_records

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from repro.evaluation.classifier import Classifier

__all__ = ["InputError", "curves", "figure", "load", "runs", "table"]

Only = Literal["published", "own"] | None


def load(run: str, device: str = "cpu") -> Classifier:
    """Load the final net of a run, in evaluation mode and with its preprocessing.

    Args:
        run: A run id or the beginning of one, as in ``cifar10-resnet20-s0``, in the work folder or published.
        device: Where to, as torch names it.

    Raises:
        InputError: There is no such run, or its weights do not exist.
    """
    from repro.evaluation.classifier import load_classifier

    paths = resolve_paths({})
    return load_classifier(run, paths, published_results(paths)).to(device)


def runs(only: Only = None) -> pandas.DataFrame:
    """Return all finished runs, a row each, with the columns of docs/export.md.

    Args:
        only: ``published`` or ``own`` leaves the others out.
    """
    from repro.results import export

    reading = _reading(only)
    _warn(reading.left_out)
    return export.runs(reading)


def curves(only: Only = None) -> pandas.DataFrame:
    """Return the curves of all finished runs, a row an evaluation, with the columns of docs/export.md."""
    from repro.results import export

    reading = _reading(only)
    frame, without = export.curves(reading)
    _warn((*reading.left_out, *without))
    return frame


def figure(name: int | str, scale: str = "paper", only: Only = None) -> Figure:
    """Draw a figure from the measured curves.

    Args:
        name: The paper's number, or a name as ``repro list`` has it.
        scale: ``paper``, or the proxies of another scale: ``tenth``, ``demo``.

    Raises:
        InputError: There is no such figure or scale.
    """
    refuse_unknown_scale(scale.partition(",")[0])  # may be a column's label, "smoke, optim.nesterov=true"
    quiet_caches(resolve_paths({})["work"])
    from repro.report.figures.draw import picture
    from repro.report.figures.numbers import plot

    return picture(plot(name, _reading(only), scale))


def table(
    number: int | str, scale: str | None = None, only: Only = None, *, unrounded: bool = False
) -> pandas.DataFrame:
    """Return a table with the measured values beside the published ones, as ``repro table`` prints it.

    Args:
        scale: The proxies that are shown; the largest budget of each row for None.
        unrounded: Return the numbers and the run ids behind them, with the columns of ``--format csv``.

    Raises:
        InputError: There is no such table or scale.
    """
    if scale is not None:
        refuse_unknown_scale(scale)
        require(number != ALL_NETS, f"scale={scale!r} is for one paper's table: leave it out")
    import pandas

    from repro.report.tables import table as filled
    from repro.results.ensembles import read_ensembles

    if str(number) == "1":
        from repro.report.tables.table1 import architecture

        frame = architecture()
    elif number == ALL_NETS:
        from repro.report.tables.overview import overview

        frame = overview(_reading(only))
    else:
        frame = filled(number, _reading(only), "paper", read_ensembles(_roots(only)), scale)
    return pandas.DataFrame(frame.values) if unrounded else pandas.DataFrame(frame.texts, columns=list(frame.header))


def _roots(only: Only) -> list[Path]:
    known = ("published", "own")
    require(only is None or only in known, f"unknown only={only!r}: {nearest(str(only), known)}")
    return evidence_roots(resolve_paths({}), published=only == "published", unpublished=only == "own")


def _reading(only: Only) -> Reading:
    return read_records(record_folders(resolve_paths({}), _roots(only)))


def _warn(left_out: tuple[LeftOut, ...]) -> None:
    for left in left_out:
        warnings.warn(f"left out: {left.name}: {left.reason}", stacklevel=3)
