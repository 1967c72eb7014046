"""The figures, drawn from records: the paper's numbered ones in its layout, and named ones; as pictures and numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from repro.config.run import slug
from repro.errors import InputError
from repro.papers import figure_names
from repro.report.figures.draw import inline_svg, picture
from repro.report.figures.numbers import csv_text, description, plot
from repro.report.figures.style import COLOURS, METADATA, STYLE
from repro.results.read import Reading
from repro.runtime.files import write_asked_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "describe", "draw", "figure", "names", "plotted", "svg"]


def names() -> list[str]:
    """All figures: the paper's numbers, then the names of what it tells without a figure."""
    return figure_names()


def figure(name: int | str, reading: Reading, scale: str = "paper", columns: int | None = None) -> Figure:
    """A figure in the paper's layout: the mean over seeds, a band from the lowest to the highest.

    Args:
        name: The paper's number, or a name of ``names``.
        scale: ``paper`` draws the runs of the paper's full recipe on its axes; another label, as ``demo``, draws the
            runs of that scale on axes that fit them, and says that they are a proxy.
        columns: Panels side by side, instead of as many as the paper has.

    Raises:
        InputError: There is no such figure.
    """
    return picture(plot(name, reading, scale), columns)


def svg(name: int | str, reading: Reading, scale: str = "paper", columns: int | None = None) -> str:
    """The figure as an ``<svg>`` element to stand in a page beside others: as wide as its place, text as text.

    Raises:
        InputError: There is no such figure.
    """
    shown = plot(name, reading, scale)
    own = f"{file_name(name, scale)}-{columns}" if columns else file_name(name, scale)
    return inline_svg(picture(shown, columns), own, description(shown))


def plotted(name: int | str, reading: Reading, scale: str = "paper") -> str:
    """Exactly the numbers that the figure shows, as CSV: figure, panel, curve, line, x, mean, low, high, n.

    Raises:
        InputError: There is no such figure.
    """
    return csv_text(plot(name, reading, scale))


def describe(name: int | str, reading: Reading, scale: str = "paper") -> str:
    """What the figure shows, in words, for who cannot see it.

    Raises:
        InputError: There is no such figure.
    """
    return description(plot(name, reading, scale))


def draw(name: int | str, out_dir: Path, reading: Reading, scale: str = "paper") -> list[Path]:
    """Writes ``figure<name>.svg``, ``.png`` and, with the plotted numbers, ``.csv``; returns their paths.

    A proxy's files are called ``figure<name>-<scale>``. The same records give the same bytes.

    Raises:
        InputError: There is no such figure, or ``out_dir`` cannot be written.
    """
    import matplotlib

    shown = plot(name, reading, scale)
    drawn = picture(shown)
    contents: dict[str, str | bytes] = {}
    with matplotlib.rc_context(STYLE):
        for kind, metadata in METADATA.items():
            out = io.BytesIO()
            drawn.savefig(out, format=kind, dpi=160, metadata=metadata)
            contents[kind] = out.getvalue()
    contents["csv"] = csv_text(shown)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the figure cannot be written to {out_dir}: {error.strerror or error}") from None
    return [
        write_asked_for(out_dir / f"{file_name(name, scale)}.{kind}", content) for kind, content in contents.items()
    ]


def file_name(name: int | str, scale: str) -> str:
    """``figure6``, ``figure_warmup``, ``figure6-demo``."""
    own = f"figure{name}" if str(name).isdigit() else f"figure_{name}"
    return own if scale == "paper" else f"{own}-{slug(scale)}"
