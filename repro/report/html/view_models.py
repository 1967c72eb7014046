"""Parts of the page, in plain shapes."""

from __future__ import annotations

from dataclasses import dataclass

# The template knows these and nothing of tables, figures or claims.


@dataclass(frozen=True)
class Link:
    """A place on the page; ``text`` is its name for people."""

    anchor: str
    text: str


@dataclass(frozen=True)
class CellView:
    """Text with the runs that its number rests on, none for a published value; ``listed`` shows each of them."""

    text: str
    run_ids: tuple[str, ...] = ()
    listed: bool = True


@dataclass(frozen=True)
class RowView:
    """A row with its name in the first cell; ``cited`` is other people's work."""

    anchor: str
    cells: tuple[CellView, ...]
    cited: bool = False


@dataclass(frozen=True)
class TableView:
    """A table of the paper; ``short`` is its name in links, ``numeric`` are the columns set flush right."""

    anchor: str
    short: str
    title: str
    header: tuple[str, ...]
    rows: tuple[RowView, ...]
    numeric: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FigureView:
    """A figure: pictures as SVG markup, the plotted data as ``header`` and ``rows``, and the runs behind it.

    ``svg`` is empty where nothing was measured, ``narrow`` where a narrow page needs no picture of its own. ``listed``
    is its name in the list of contents, empty for a proxy.
    """

    anchor: str
    listed: str
    short: str
    title: str
    svg: str
    narrow: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    data_caption: str
    data_file: str
    run_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvidenceView:
    """One comparison of a claim: its groups of runs with their values, and the result of the test."""

    name: str
    status: str
    groups: tuple[CellView, ...]
    text: str


@dataclass(frozen=True)
class ClaimView:
    """A claim of the paper with its verdict; ``proxy`` is the same of reduced runs and decides nothing.

    ``commands`` train what is missing.
    """

    anchor: str
    id: str
    text: str
    where: str
    status: str
    reason: str
    evidence: tuple[EvidenceView, ...] = ()
    proxy_status: str = ""
    proxy: tuple[EvidenceView, ...] = ()
    commands: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def run_ids(self) -> tuple[str, ...]:
        cells = [cell for part in (*self.evidence, *self.proxy) for cell in part.groups]
        return tuple(dict.fromkeys(run_id for cell in cells for run_id in cell.run_ids))
