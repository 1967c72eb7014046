"""Text in rows and columns, for people: as Markdown, or as LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tabulate import tabulate

NOT_RUN = "–"
MINUS = "−"
WIDE = 12
"""A LaTeX table of more columns is scaled to the width of the page."""


@dataclass(frozen=True)
class Cell:
    """``run_ids`` are the runs behind the text."""

    text: str
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A table of text; ``numeric`` are the columns set flush right, ``notes`` and ``ids`` (of runs) stand below."""

    number: int
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int]
    notes: tuple[str, ...]
    ids: tuple[str, ...] = ()


def grid_to_markdown(grid: Grid) -> str:
    """The table with its title above, its notes and the run ids below."""
    align = ["right" if column in grid.numeric else "left" for column in range(len(grid.header))]
    rows = [[cell.text for cell in row] for row in grid.rows]
    body = tabulate(rows, grid.header, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [f"- {note}" for note in (*grid.notes, *grid.ids)]
    return "\n".join([f"**Table {grid.number}.** {grid.title}.", "", body, "", *notes, ""])


def grid_to_latex(grid: Grid) -> str:
    """A ``table`` environment that needs the package booktabs, a wide one graphicx too; run ids stand in comments."""
    tex = [[_tex(cell.text) for cell in row] for row in grid.rows]
    header = [_tex_header(_tex(cell)) for cell in grid.header]
    body = [" & ".join(row) + r" \\" for row in (header, *tex)]
    columns = "".join("r" if column in grid.numeric else "l" for column in range(len(header)))
    tabular = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    wide = len(header) > WIDE
    if wide:
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular, "}"]
    parts = [
        f"% Needs \\usepackage{{booktabs{',graphicx' * wide}}}.",
        *(f"% {note}" for note in grid.ids),
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{Table {grid.number} of the paper. {_tex(grid.title)}.}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        *tabular,
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        *(_tex(note) + r"\par" for note in grid.notes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def signed(value: float | None, decimals: int = 2) -> str:
    """``+0.12``, with a true minus sign; a dash where there is none."""
    return NOT_RUN if value is None else f"{value:+.{decimals}f}".replace("-", MINUS)


TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "–": "--",
        MINUS: "$-$",
    }
)


def _tex(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", text.translate(TEX))


def _tex_header(text: str) -> str:
    """A long header in two lines, broken before its bracket or after its comma."""
    broken = re.sub(r" \(|, ", lambda match: r"\\(" if match[0] == " (" else r",\\", text, count=1)
    return text if broken == text else rf"\shortstack{{{broken}}}"
