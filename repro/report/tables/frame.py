"""A table as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

NOT_RUN = "–"
MINUS = "−"
WIDE = 12
"""A LaTeX table with more columns is scaled to the width of the page."""


@dataclass(frozen=True)
class Cell:
    """A text, and the runs behind it."""

    text: str
    run_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A table as text for people and as values for programs.

    ``rows`` are cells by column, each row with all columns; ``values`` are unrounded, by columns of the CSV. ``words``
    are the left-aligned columns; ``notes`` and the run ``ids`` are printed below the table.
    """

    number: int | None
    title: str
    rows: Sequence[Mapping[str, Cell]]
    values: Sequence[Mapping[str, object]]
    words: Sequence[str]
    notes: tuple[str, ...]
    ids: tuple[str, ...] = ()
    key: str = ""
    """Of a table that is no numbered one of the first paper: ``wide_resnet/4``, ``cifar10``."""

    @property
    def anchor(self) -> str:
        """The place of the table on a page."""
        return f"table-{self.key.replace('/', '-') or self.number}"

    @property
    def stem(self) -> str:
        """The name of its files without an ending, in a folder of its own for a later paper."""
        paper, slash, name = (self.key or str(self.number)).rpartition("/")
        return f"{paper}{slash}table{'' if name.isdecimal() else '_'}{name}"

    @property
    def heading(self) -> str:
        """``Table 6``; empty without a number."""
        return "" if self.number is None else f"Table {self.number}"

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(self.rows[0])

    @property
    def numeric(self) -> frozenset[int]:
        """Positions of the right-aligned columns."""
        return frozenset(position for position, name in enumerate(self.header) if name not in self.words)

    @property
    def texts(self) -> list[list[str]]:
        return [[cell.text for cell in row.values()] for row in self.rows]


def text_table(
    rows: Sequence[Sequence[object]], header: Sequence[str], form: str = "simple", words: Sequence[str] = ()
) -> str:
    """Format rows with tabulate; the first column and ``words`` are left-aligned, all others right-aligned."""
    align = ["left" if place == 0 or name in words else "right" for place, name in enumerate(header)]
    return str(tabulate(rows, header, tablefmt=form, colalign=align, disable_numparse=True))


def to_markdown(frame: Frame) -> str:
    """Return the table with its title above, its notes and the run ids below."""
    body = text_table(frame.texts, frame.header, "pipe", frame.words)
    notes = [f"- {note}" for note in (*frame.notes, *frame.ids)]
    title = f"**{frame.heading}.** {frame.title}." if frame.heading else f"**{frame.title}.**"
    return "\n".join([title, "", body, "", *notes, ""])


def to_latex(frame: Frame) -> str:
    """Return a ``table`` environment, which needs booktabs and, if wide, graphicx; run ids are comments."""
    names = [_tex_header(_tex(name)) for name in frame.header]
    header, *body = [
        " & ".join(row) + r" \\" for row in (names, *([_tex(cell) for cell in row] for row in frame.texts))
    ]
    columns = "".join("l" if name in frame.words else "r" for name in frame.header)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    tabular = [begin, r"\toprule", header, r"\midrule", *body, r"\bottomrule", end]
    caption = f"{frame.heading} of the paper. " if frame.heading else ""
    wide = len(columns) > WIDE
    if wide:
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular, "}"]
    parts = [
        f"% Needs \\usepackage{{{'booktabs,graphicx' if wide else 'booktabs'}}}.",
        *(f"% {note}" for note in frame.ids),
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{caption}{_tex(frame.title)}.}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        *tabular,
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        *(_tex(note) + r"\par" for note in frame.notes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def to_csv(frame: Frame) -> str:
    """Return the values with one line per row and columns in order of first appearance; missing ones are empty."""
    out = io.StringIO()
    names = dict.fromkeys(name for line in frame.values for name in line)
    writer = csv.DictWriter(out, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(frame.values)
    return out.getvalue()


FORMATS: dict[str, Callable[[Frame], str]] = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def rounded(value: float | None) -> float | None:
    """Round away binary noise: an error over 10,000 images has two decimals, a mean a few more."""
    return None if value is None else round(value, 6)


def signed(value: float | None, decimals: int = 2) -> str:
    """Return ``+0.12``, with a true minus sign; a dash for None."""
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
        "…": r"\ldots{}",
        MINUS: "$-$",
    }
)


def _tex(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", text.translate(TEX))


def _tex_header(text: str) -> str:
    """Break a long header into two lines, before its bracket or after its comma."""
    broken = re.sub(r" \(|, ", lambda match: r"\\(" if match[0] == " (" else r",\\", text, count=1)
    return text if broken == text else rf"\shortstack{{{broken}}}"
