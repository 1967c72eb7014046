"""One page, ``report.html``: every verdict, table and figure, each number leading to its run and back."""

from repro.report.html.page import Contents, page

__all__ = ["Contents", "page"]
