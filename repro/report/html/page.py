"""The page as a whole, from records alone."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from repro.report.html.runs import group_anchor, net_views, run_anchor
from repro.report.html.view_models import CellView, ClaimView, FigureView, Link, RowView, TableView
from repro.report.tables import Frame
from repro.results.read import Reading, Record

TEMPLATES = Path(__file__).resolve().parent / "templates"

STATUSES = {
    "holds": ("Holds", "✓"),
    "fails": ("Fails", "✗"),
    "inconclusive": ("Inconclusive", "?"),
    "not run": ("Not run", "–"),
    "not decidable here": ("Not decidable here", "∅"),
}
"""The verdicts in the order of the page, with their headings and marks."""
DECIDED = ("holds", "fails", "inconclusive")


@dataclass(frozen=True)
class StatusView:
    """The claims of one verdict; those that say something are ``open`` from the start."""

    status: str
    title: str
    mark: str
    claims: tuple[ClaimView, ...]

    @property
    def name(self) -> str:
        return self.status.replace(" ", "-")

    @property
    def open(self) -> bool:
        return self.status in DECIDED


def page(
    reading: Reading,
    *,
    tables: Sequence[TableView],
    figures: Sequence[FigureView],
    claims: Sequence[ClaimView],
    refused: Sequence[tuple[str, str]],
) -> str:
    """Write the whole page as HTML that needs nothing else: no server, script, font or picture from elsewhere.

    The same records give the same bytes.

    Args:
        refused: Names of records with the reason why no verdict rests on them.
    """
    template = environment({record.run_id: record for record in reading.records}).get_template("page.html.j2")
    return template.render(
        sentence=sentence(claims),
        basis=basis(reading),
        outcomes=[StatusView(name, *words, _with(claims, name)) for name, words in STATUSES.items()],
        claims=claims,
        tables=tables,
        figures=figures,
        groups=net_views(reading.records, used_by(tables, figures, claims)),
        refused=refused,
    )


def sentence(claims: Sequence[ClaimView]) -> str:
    """Count the paper's claims by verdict, in one sentence."""
    one = {"holds": "holds", "fails": "fails", "inconclusive": "is inconclusive", "not run": "lacks runs"}
    many = {"holds": "hold", "fails": "fail", "inconclusive": "are inconclusive", "not run": "lack runs"}
    parts = []
    for status in STATUSES:
        found = _with(claims, status)
        count, counted = len(found), sum(not claim.run_ids for claim in found)
        if count or status in ("holds", "fails"):
            words = (one if count == 1 else many).get(status, "cannot be decided by runs of this project")
            if status == "holds" and counted:
                words += f" ({'all' if counted == count else counted} counted on the nets, without training)"
            parts.append(f"{count or 'none'} {words}")
    return f"Of the paper's {len(claims)} claims, {', '.join(parts[:-1])} and {parts[-1]}."


def _with(claims: Sequence[ClaimView], status: str) -> tuple[ClaimView, ...]:
    return tuple(claim for claim in claims if claim.status == status)


def basis(reading: Reading) -> str:
    """Count the runs behind the page, in one sentence."""
    runs, proxies = len(reading.records), sum(record.scale != "paper" for record in reading.records)
    if not runs:
        return "No run has been published yet."
    text = f"{runs} runs stand behind this page" if runs > 1 else "One run stands behind this page"
    if proxies == runs:
        return f"{text}, all of them proxies: reduced runs, which decide no claim of the paper."
    return text + (f", {proxies} of them proxies (reduced runs)." if proxies else ", at the paper's budget.")


def table_view(table: Frame) -> TableView:
    """Lay a table out for the page; a row without a name, as further nets in Table 1, has that of the row above."""
    rows, name = [], ""
    for position, cells in enumerate((tuple(row.values()) for row in table.rows), 1):
        name = cells[0].text or name
        # The seeds stand below the first number that rests on them, not below each.
        before = [cell.run_ids for cell in cells]
        listed = [cell.run_ids not in before[:place] for place, cell in enumerate(cells)]
        texts = zip(cells[1:], listed[1:], strict=True)
        shown = (CellView(name), *(CellView(cell.text, cell.run_ids, first) for cell, first in texts))
        rows.append(RowView(f"table-{table.number}-row-{position}", shown, name.endswith("(cited)")))
    return TableView(
        f"table-{table.number}",
        f"Table {table.number}",
        table.title,
        table.header,
        tuple(rows),
        table.numeric,
        table.notes,
    )


def used_by(
    tables: Sequence[TableView], figures: Sequence[FigureView], claims: Sequence[ClaimView]
) -> dict[str, list[Link]]:
    """Link, for every run, the claims, rows and figures that rest on it, in the order of the page."""
    uses: dict[str, list[Link]] = defaultdict(list)

    def note(run_ids: Sequence[str], link: Link) -> None:
        for run_id in run_ids:
            if link not in uses[run_id]:
                uses[run_id].append(link)

    for claim in claims:
        note(claim.run_ids, Link(claim.anchor, f"Claim {claim.id}"))
    for table in tables:
        for row in table.rows:
            for cell in row.cells:
                note(cell.run_ids, Link(row.anchor, f"{table.short}, {row.cells[0].text}"))
    for figure in figures:
        note(figure.run_ids, Link(figure.anchor, figure.short))
    return uses


def environment(records: Mapping[str, Record]) -> Environment:
    """Set up Jinja with escaping everywhere, and filters that turn the runs behind a number into places on the page."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "code": code,
        "seeds": functools.partial(seeds, records),
        "target": functools.partial(target, records),
        "drawn": Markup,
    }
    jinja.filters.update(filters)
    return jinja


def code(text: str) -> Markup:
    """Escape a text and mark the parts between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def seeds(records: Mapping[str, Record], run_ids: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the anchor, a short text (``s0``) and the full name of each run that has a section."""
    return [(run_anchor(i), f"s{records[i].seed}", i) for i in run_ids if i in records]


def target(records: Mapping[str, Record], run_ids: Sequence[str]) -> str:
    """Return the anchor of a number's run, or of the net where it rests on several seeds; empty without any."""
    known = [records[i] for i in run_ids if i in records]
    if not known:
        return ""
    return run_anchor(known[0].run_id) if len(known) == 1 else group_anchor(known[0])
