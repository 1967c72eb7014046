"""All files that are generated from the committed records."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from repro.errors import InputError, nearest
from repro.papers import ALL_NETS, FIRST, later_tables, table_numbers
from repro.papers.claims import papers_with_claims
from repro.report.claims.format import to_markdown as claims_to_markdown
from repro.report.claims.verdicts import Check, check, check_papers
from repro.report.claims.wording import sentence
from repro.report.figures import Plot, csv_text, draw, later_plots, shown_plots
from repro.report.html.page import Later, page, repository
from repro.report.readme import depths_table, measured_table, nets_table
from repro.report.tables import FORMATS, Frame, overview, table, table1, to_markdown
from repro.results.ensembles import EnsembleReading, read_ensembles
from repro.results.export import columns_table, sections
from repro.results.read import Reading, read_records
from repro.runtime.files import make_folder, write_asked_for

PARTS = ("tables", "figures", "report")
PICTURES = (".svg", ".png")
REPORT = "report.html"
DEMO = "cifar_residual_vs_plain"
"""The experiment of ``make demo``, at its scale."""
CLAIMS = "claims.md"
GENERATED = ("tables/table*", "figures/figure*", "tables/*/table*", "figures/*/figure*", "claims*.md")
"""Files that are out of date if they come from no record."""
SECTION = re.compile(r"(<!-- repro:begin (\S+) -->\n)(.*?)(<!-- repro:end \2 -->)", re.DOTALL)
DRAWN = re.compile(r'<figure class="drawn.*?</figure>', re.DOTALL)


class Evidence:
    """The records and all that is computed from them, once for all files."""

    def __init__(self, reading: Reading, ensembles: EnsembleReading) -> None:
        self.reading = reading
        self.ensembles = ensembles

    @functools.cached_property
    def check(self) -> Check:
        return check(self.reading)

    @functools.cached_property
    def plots(self) -> list[Plot]:
        return shown_plots(self.reading)

    @functools.cached_property
    def tables(self) -> dict[int, Frame]:
        """All tables by number; Table 1 is counted on the nets."""
        return {
            number: table1.architecture()
            if number == table1.NUMBER
            else table(number, self.reading, ensembles=self.ensembles)
            for number in table_numbers()
        }

    @functools.cached_property
    def later_checks(self) -> list[Check]:
        """The verdicts on the claims of later papers."""
        return check_papers(papers_with_claims(), self.reading)[1:]

    @functools.cached_property
    def later_plots(self) -> list[Plot]:
        return later_plots(self.reading)

    @functools.cached_property
    def later_tables(self) -> dict[str, Frame]:
        """The tables of later papers, by folder and number."""
        return {key: table(key, self.reading) for key in later_tables()}

    @functools.cached_property
    def overview(self) -> Frame:
        """The table of all nets on CIFAR-10."""
        return overview.overview(self.reading)

    def page(self, pictures: bool = True) -> str:
        later = Later(self.overview, self.later_tables, self.later_plots, self.later_checks)
        tables = list(self.tables.values())
        return page(self.reading, self.check, tables, self.plots, pictures, repository(), later)

    def section(self, name: str) -> str:
        """Return the text of a marked section of a page.

        Raises:
            InputError: There is no such section.
        """
        tables = {f"table{number}": number for number in table_numbers()}
        if name in tables:
            return to_markdown(self.tables[tables[name]])
        if name == f"table_{ALL_NETS}":
            return to_markdown(self.overview)
        made: dict[str, Callable[[], str]] = {
            "verdicts": lambda: sentence(self.check.verdicts) + "\n",
            "measured": lambda: measured_table(self.reading),
            "depths": lambda: depths_table(self.reading, "tenth"),
            "tenth": lambda: nets_table(self.reading, "tenth"),
            "demo": lambda: nets_table(self.reading, "demo", DEMO),
            **{f"columns-{name}": functools.partial(columns_table, name) for name in (*sections(), "curve")},
        }
        if name not in made:
            raise InputError(f"unknown section {name!r} between marks: {nearest(name, [*tables, *made])}")
        return made[name]()


def read_evidence(results: Path) -> Evidence:
    """Read the committed records under ``results``; nothing else is rendered."""
    return Evidence(read_records([results / "runs"]), read_ensembles([results]))


def render(
    evidence: Evidence,
    results: Path,
    parts: Sequence[str] = PARTS,
    pages: Sequence[Path] = (),
    papers: Sequence[str] | None = None,
) -> list[Path]:
    """Write ``parts`` under ``results`` and, with the tables, marked sections of ``pages``; return the files.

    Args:
        papers: Folders of the papers whose tables and figures are written; all where none is named.
    """
    written = [write(results / name, text) for name, text in texts(evidence, parts, papers=papers).items()]
    if "figures" in parts:
        for plot in plots_of(evidence, papers):
            written += draw(plot, results / "figures")
    if "tables" in parts:
        for path in pages:
            old = read(path)
            if old is not None and (new := filled(evidence, old)) != old:
                written.append(write(path, new))
    return written


def verify(evidence: Evidence, results: Path, pages: Sequence[Path] = ()) -> list[str]:
    """Return one sentence for each file that differs from the records; pixels are not compared."""
    expected = texts(evidence, PARTS, pictures=False)
    plots = plots_of(evidence)
    expected |= {f"figures/{plot.file_name}.csv": csv_text(plot) for plot in plots}
    wrong = []
    for name, text in expected.items():
        found = read(results / name)
        wrong += difference(f"{results.name}/{name}", without_pictures(found), without_pictures(text))
    pictures = [f"figures/{plot.file_name}{kind}" for plot in plots for kind in PICTURES]
    wrong += [f"{results.name}/{name} is missing" for name in pictures if not (results / name).is_file()]
    there = {path.relative_to(results).as_posix() for pattern in GENERATED for path in results.glob(pattern)}
    wrong += [
        f"{results.name}/{name} comes from no record: delete it" for name in sorted(there - {*expected, *pictures})
    ]
    for path in pages:
        page_text = read(path)
        if page_text is not None:
            wrong += difference(path.name, page_text, filled(evidence, page_text))
    return wrong


def plots_of(evidence: Evidence, papers: Sequence[str] | None = None) -> list[Plot]:
    """Return the figures of the papers; of all where none is named."""
    plots = evidence.plots if papers is None or FIRST in papers else []
    return plots + [plot for plot in evidence.later_plots if papers is None or plot.paper.paper in papers]


def frames_of(evidence: Evidence, papers: Sequence[str] | None = None) -> list[Frame]:
    """Return the tables of the papers; of all where none is named, with the table of all nets."""
    frames = list(evidence.tables.values()) if papers is None or FIRST in papers else []
    later = evidence.later_tables.items()
    frames += [frame for key, frame in later if papers is None or key.partition("/")[0] in papers]
    return [*frames, evidence.overview] if papers is None else frames


def texts(
    evidence: Evidence, parts: Sequence[str], pictures: bool = True, papers: Sequence[str] | None = None
) -> dict[str, str]:
    """Return every text file of ``parts`` by its name under the results folder, except files of figures."""
    made: dict[str, str] = {}
    if "tables" in parts:
        for frame in frames_of(evidence, papers):
            made |= {f"tables/{frame.stem}.{form}": text_of(frame) for form, text_of in FORMATS.items()}
        if papers is None or FIRST in papers:
            made[CLAIMS] = claims_to_markdown(evidence.check)
        for found in evidence.later_checks:
            if papers is None or found.claims.paper in papers:
                made[f"claims-{found.claims.paper}.md"] = claims_to_markdown(found)
    if "report" in parts:
        made[REPORT] = evidence.page(pictures)
    return made


def pages_of(root: Path) -> list[Path]:
    """List the pages of a checkout that may have marked sections."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def filled(evidence: Evidence, text: str) -> str:
    """Return a page with new contents between its marks, ``<!-- repro:begin table6 -->`` and the end."""
    return SECTION.sub(lambda match: f"{match[1]}{evidence.section(match[2])}{match[4]}", text)


def without_pictures(text: str | None) -> str | None:
    """Return a report without its pictures, which another version of a library may draw differently."""
    return DRAWN.sub("", text) if text else text


def difference(name: str, found: str | None, expected: str | None) -> list[str]:
    """Return one sentence that names the first line that differs, or nothing."""
    if found == expected:
        return []
    if found is None:
        return [f"{name} is missing"]
    pairs = itertools.zip_longest(found.splitlines(), (expected or "").splitlines(), fillvalue="the end")
    number, (old, new) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    return [f"{name} differs from the records: line {number} reads {brief(old, new)} instead of {brief(new, old)}"]


def brief(line: str, other: str) -> str:
    """Return the part of a line around its first difference from the other."""
    start = next((i for i, (a, b) in enumerate(zip(line, other, strict=False)) if a != b), min(len(line), len(other)))
    first = max(0, start - 30)
    return repr(("…" if first else "") + line[first : start + 40] + ("…" if len(line) > start + 40 else ""))


def read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def write(path: Path, text: str) -> Path:
    make_folder(path.parent, InputError)
    return write_asked_for(path, text)
