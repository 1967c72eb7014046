"""Published tables with our results beside them."""

from repro.report.tables.filled import size_of, table
from repro.report.tables.frame import FORMATS, Cell, Frame, to_csv, to_latex, to_markdown
from repro.report.tables.terminal import to_text

__all__ = ["FORMATS", "Cell", "Frame", "size_of", "table", "to_csv", "to_latex", "to_markdown", "to_text"]
