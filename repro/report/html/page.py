"""The whole report page, from records alone."""

from __future__ import annotations

import base64
import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from repro.config.paths import shared_dir
from repro.papers import figure_numbers, later_papers, table_numbers
from repro.papers.toml_files import numbers
from repro.report.claims.verdicts import Check
from repro.report.claims.wording import evidence_text, group_text, sentence
from repro.report.figures import Plot
from repro.report.figures.style import DARK
from repro.report.html.figures import figure_views
from repro.report.html.later_papers import later_parts
from repro.report.html.runs import NETS, group_anchor, net_rows, net_views
from repro.report.tables import Cell, Frame
from repro.results.detection_record import EXAMPLES
from repro.results.read import Reading, Record

TEMPLATES = Path(__file__).resolve().parent / "templates"
MARKS = {"holds": "✓", "fails": "✗", "inconclusive": "?", "not run": "–", "not decidable here": "∅"}
"""The verdicts in the order of the page, with their marks."""
PRINTED = {"tables": (6,), "figures": (1, 6, 7)}
"""Numbers of the tables and figures in the short version for print, beside the verdicts."""
MAIN_FIGURE = 6
"""The figure that the page begins with: plain beside residual nets."""
CLASSIFICATION = 6
"""The number of the last table on classification; those on detection and localization stand after the figures."""
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
PLACE = re.compile(r"(Table|Figure)s? (\d+)(?: and (\d+))?")


@dataclass(frozen=True)
class Later:
    """The content of the page's parts on later papers; ``overview`` is the table of all nets on CIFAR-10."""

    overview: Frame
    tables: Mapping[str, Frame]
    plots: Sequence[Plot]
    checks: Sequence[Check]


def page(
    reading: Reading,
    check: Check,
    tables: Sequence[Frame],
    plots: Sequence[Plot],
    pictures: bool = True,
    repository: str = "",
    later: Later | None = None,
) -> str:
    """Return the whole page as HTML that loads nothing else: no server, script, font or picture from elsewhere.

    The same records give the same bytes. Without ``pictures`` the page has only their numbers, which is faster.
    Commits link to ``repository`` if there is one.
    """
    records = {record.run_id: record for record in reading.records}

    def seeds(run_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Return a short text (``s0``) and the full name of each run that has a section."""
        return [(f"s{records[i].seed}", i) for i in run_ids if i in records]

    def target(run_ids: Sequence[str]) -> str:
        """Return the anchor of a number's run, or of its net if it has several seeds; empty without runs."""
        known = [records[i] for i in run_ids if i in records]
        if not known:
            return ""
        return f"run-{known[0].run_id}" if len(known) == 1 else group_anchor(known[0])

    jinja = _environment()
    jinja.filters |= {"seeds": seeds, "target": target, "commits": functools.partial(commits, repository)}
    figures = figure_views(plots, pictures)
    main = main_figure(figures)
    nets = net_rows([record for record in reading.records if main and record.run_id in main["run_ids"]])
    parts = later_parts(later.tables, later.plots, later.checks, pictures) if later else []
    every_table = [*tables, *([later.overview, *later.tables.values()] if later else [])]
    every_figure = [*figures, *(figure for part in parts for figure in part["figures"])]
    checks = [check, *(later.checks if later else [])]
    return jinja.get_template("page.html.j2").render(
        sentence=sentence(check.verdicts),
        basis=basis(reading),
        newest=newest(reading),
        printed=PRINTED,
        colours=DARK,
        marks=MARKS,
        check=check,
        main=main,
        nets_header=NETS,
        nets=nets,
        tables=[table for table in tables if not _of_detection(table)],
        detection=[table for table in tables if _of_detection(table)],
        examples=examples_of(reading),
        figures=[figure for figure in figures if figure is not main],
        overview=later.overview if later else None,
        later=parts,
        groups=net_views(reading.records, used_by(checks, every_table, every_figure)),
    )


def _environment() -> Environment:
    """Return the environment of the templates, with the filters that need no records."""
    jinja = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"code": code, "drawn": Markup, "rows": rows, "places": places}
    jinja.filters |= {"group_text": group_text, "evidence_text": evidence_text}
    return jinja


def main_figure(figures: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the view of Figure 6 that shows most lines, the largest budget first; None if no net in it was trained."""
    views = [figure for figure in figures if figure["number"] == MAIN_FIGURE and figure["rows"]]
    return max(views, key=lambda figure: len(figure["rows"]), default=None)


def _of_detection(table: Frame) -> bool:
    return table.number is not None and table.number > CLASSIFICATION


def examples_of(reading: Reading) -> list[tuple[str, str]]:
    """Return label and seed of each detector that kept pictures of its findings, and these as the source of an image.

    Published records have none: pictures of test images have licences of their own.
    """
    found = []
    for record in reading.detectors:
        file = record.folder / EXAMPLES
        if file.is_file():
            source = f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}"
            found.append((f"{record.label} on {record.science.data.name}, seed {record.seed}", source))
    return found


def basis(reading: Reading) -> str:
    """Return the number of runs behind the page, in one sentence."""
    runs, proxies = len(reading.records), sum(record.scale != "paper" for record in reading.records)
    if not runs:
        return "No run has been published yet."
    text = f"This page shows {runs} runs" if runs > 1 else "This page shows one run"
    if proxies == runs:
        return f"{text}, all of them proxies: reduced runs, which decide no claim of the paper."
    return text + (f", {proxies} of them proxies (reduced runs)." if proxies else ", at the paper's budget.")


def newest(reading: Reading) -> Record | None:
    """Return the record that was finished last, which dates the page; None without records."""
    return max(reading.records, key=lambda record: (record.provenance.finished, record.run_id), default=None)


def repository() -> str:
    """Return the address of the repository in CITATION.cff; empty if it names none."""
    file = shared_dir("results").parent / "CITATION.cff"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r'^repository-code: "?(https://[^\s"]+?)/?"?$', text, re.MULTILINE)
    return found[1] if found else ""


def commits(repository: str, text: str) -> Markup:
    """Escape a text and link its commits to ``repository`` if there is one."""
    escaped = str(escape(text))
    link = rf'<a href="{escape(repository)}/commit/\g<0>">\g<0></a>'
    return Markup(COMMIT.sub(link, escaped) if repository else escaped)


def rows(table: Frame) -> Iterator[tuple[str, str, tuple[Cell, ...]]]:
    """Yield anchor, name and cells of each row; a row without a name (Table 1) has that of the row above."""
    name = ""
    for position, row in enumerate(table.rows, 1):
        cells = tuple(row.values())
        name = cells[0].text or name
        yield f"{table.anchor}-row-{position}", name, cells


def places(where: str, paper: str = "") -> list[tuple[str, str]]:
    """Return anchor and name of each table and figure of this page in ``where``: ``Table 2, Figures 1 and 4``."""
    shown = {"Table": numbers("table", paper), "Figure": []} if paper else {}
    shown = shown or {"Table": table_numbers(), "Figure": figure_numbers()}
    of_paper = f"{paper}-" if paper else ""
    named = [(kind, int(number)) for kind, *found in PLACE.findall(where) for number in found if number]
    known = [(kind, number) for kind, number in named if number in shown[kind]]
    return [(f"{kind.lower()}-{of_paper}{number}", f"{kind} {number}") for kind, number in known]


def used_by(
    checks: Sequence[Check], tables: Sequence[Frame], figures: Sequence[dict[str, Any]]
) -> dict[str, dict[str, str]]:
    """Return the claims, rows and figures that use each run, by anchor in the order of the page."""
    uses: dict[str, dict[str, str]] = defaultdict(dict)
    places = [(f"claim-{v.claim.id}", f"Claim {v.claim.id}", v.run_ids) for check in checks for v in check.verdicts]
    for table in tables:
        for anchor, name, cells in rows(table):
            places += [(anchor, f"{_short(table)}, {name}", cell.run_ids) for cell in cells]
    places += [(figure["anchor"], figure["short"], figure["run_ids"]) for figure in figures]
    for anchor, text, run_ids in places:
        for run_id in run_ids:
            uses[run_id][anchor] = text
    return uses


def _short(table: Frame) -> str:
    """Name a table in short: ``Table 6``, ``Wide ResNet, Table 4``, ``All nets``."""
    paper = table.key.partition("/")[0]
    if not table.heading:
        return "All nets"
    return f"{later_papers()[paper].short}, {table.heading}" if paper else table.heading


def code(text: str) -> Markup:
    """Escape a text and mark the parts between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))
