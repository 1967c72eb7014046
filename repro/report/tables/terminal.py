"""A table as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import MIN_PADDING

from repro.report.tables.frame import Frame, text_table

GAP = 2
"""Columns of the terminal between two columns of the table."""
HEADER, CELL = 18, 28
"""Characters after which the head of a column and its cells are wrapped."""
RUNS = "Runs"
"""The column of seeds, which Markdown shows."""


def to_text(frame: Frame, width: int = 80) -> str:
    """Return the table in blocks of columns that fit into ``width``, each with the first column, and its notes.

    The runs behind the values are in the other formats.
    """
    columns, blocks = _fitted(frame, width)
    title = f"{frame.heading}. {frame.title}." if frame.heading else f"{frame.title}."
    lines = textwrap.wrap(title, width)
    for block in blocks:
        rows = list(zip(*(columns[name] for name in block), strict=True))
        words = [columns[name][0] for name in block if name in frame.words]
        lines += ["", text_table(rows[1:], rows[0], "simple", words)]
    notes = [
        textwrap.fill(note, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        for note in frame.notes
    ]
    return "\n".join([*lines, "", *notes, ""])


def _fitted(frame: Frame, width: int) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Return the columns as texts, cells wrapped only if the table does not fit otherwise, and the blocks of names."""
    texts = {name: [row[name].text for row in frame.rows] for name in frame.header if name != RUNS}
    for longest in (width, CELL):
        columns = {
            name: [_wrapped(name, HEADER), *(_wrapped(text, longest) for text in cells)]
            for name, cells in texts.items()
        }
        blocks = _blocks({name: _size(column) for name, column in columns.items()}, width)
        if len(blocks) == 1:
            break
    return columns, blocks


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def _size(column: Sequence[str]) -> int:
    head, *cells = (max(map(len, text.split("\n"))) for text in column)
    padded: int = head + MIN_PADDING
    return max(padded, *cells)


def _blocks(sizes: dict[str, int], width: int) -> list[list[str]]:
    """Divide the columns into blocks no wider than ``width``, if that is possible, each with the first column."""
    first, *names = sizes
    blocks = [[first]]
    for name in names:
        used = sum(sizes[other] + GAP for other in blocks[-1])
        if used + sizes[name] > width and len(blocks[-1]) > 1:
            blocks.append([first])
        blocks[-1].append(name)
    return blocks
