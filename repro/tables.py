"""A published table with what was measured beside it: paper and records in, Markdown, CSV or LaTeX out."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from repro.errors import nearest
from repro.paper import PaperRow, PaperTable, Published, load_recipe, load_table
from repro.results import PROTOCOLS, Reading, Record, Selection, Summary, proxy_scales, run_ids, select, summarize
from repro.strict import require

NOT_RUN = "–"
MINUS = "−"


@dataclass(frozen=True)
class Proxy:
    """A column of runs below the paper's budget: ``scale`` is its label, ``size`` says what these runs were."""

    scale: str
    size: str


@dataclass(frozen=True)
class Comparison:
    """One metric of one row. Differences are measured minus paper, like with like, in percentage points.

    ``difference`` is our mean minus the paper's mean, or minus its single value. ``difference_best`` is best minus
    best, where the paper prints one and the number of runs is the same. ``proxies`` runs along ``Table.proxies``.
    """

    paper: Published
    measured: Summary | None
    proxies: tuple[Summary | None, ...]

    @property
    def difference(self) -> float | None:
        reference = self.paper.single if self.paper.mean is None else self.paper.mean
        return None if self.measured is None or reference is None else self.measured.mean - reference

    @property
    def difference_best(self) -> float | None:
        if self.measured is None or self.paper.best is None or self.measured.n != self.paper.runs:
            return None
        return self.measured.best - self.paper.best


@dataclass(frozen=True)
class Line:
    """A row of the table; ``params`` is counted on the model that was run."""

    row: PaperRow
    params: int | None
    metrics: dict[str, Comparison]


@dataclass(frozen=True)
class Table:
    """A table ready to be written; ``notes`` stand below it."""

    paper: PaperTable
    protocol: str
    lines: tuple[Line, ...]
    proxies: tuple[Proxy, ...]
    notes: tuple[str, ...]


def table(number: int, reading: Reading, protocol: str = "paper") -> Table:
    """Table ``number`` of the paper, filled from the records of ``reading``.

    Args:
        protocol: ``paper`` reads the final error of a run, ``common`` the error of its best epoch.

    Raises:
        InputError: There is no such table or protocol.
    """
    require(protocol in PROTOCOLS, f"protocol={protocol} is unknown: {nearest(protocol, PROTOCOLS)}")
    paper = load_table(number)
    recipe = load_recipe(paper.recipe).fields
    runs = [row.run for row in paper.rows]
    measured = select(reading.records, recipe, runs)
    below = [select(reading.records, recipe, runs, scale) for scale in proxy_scales(reading.records, recipe, runs)]
    lines = []
    for position, row in enumerate(paper.rows):
        groups = [selection.groups[position] for selection in (measured, *below)]
        comparisons = {}
        for metric, published in row.paper.items():
            first, *rest = (summarize(group, metric, protocol) for group in groups)
            comparisons[metric] = Comparison(published, first, tuple(rest))
        lines.append(Line(row, next((group[0].params for group in groups if group), None), comparisons))
    notes = [*_measured_notes(paper, measured, protocol), *_best_notes(lines)]
    for selection in below:
        notes += _proxy_notes(selection, recipe)
    notes += [f"Left out: {left.name}: {left.reason}." for left in reading.left_out]
    proxies = tuple(Proxy(selection.scale, size_of(selection)) for selection in below)
    return Table(paper, protocol, tuple(lines), proxies, tuple(notes))


def size_of(selection: Selection) -> str:
    """What the runs of a proxy were, in short: ``200 steps, 16x16``, and the data where it is not the paper's."""
    science = selection.records[0].science
    size = f"{science.optim.steps} steps, {science.data.image_size}x{science.data.image_size}"
    return f"{size}, {science.data.name}" if "data.name" in selection.departures else size


def to_markdown(table: Table) -> str:
    """The table with its title above, its notes and the run ids below."""
    header, rows = _cells(table)
    align = ["left"] + ["right"] * (len(header) - 2) + ["left"]
    body = tabulate(rows, header, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [f"- {note}" for note in (*table.notes, *_id_notes(table))]
    return "\n".join([f"**Table {table.paper.number}.** {table.paper.title}.", "", body, "", *notes, ""])


def to_csv(table: Table) -> str:
    """One line a row of the paper; an empty cell where there is no number, run ids separated by spaces."""
    lines = [_csv_line(table, line) for line in table.lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A ``table`` environment that needs ``\\usepackage{booktabs}``; run ids stand in comments."""
    header, rows = _cells(table)
    tex = [[_tex(cell) for cell in row] for row in (header, *rows)]
    tex[0] = [_tex_header(cell) for cell in tex[0]]
    body = [" & ".join(row) + r" \\" for row in tex]
    notes = [_tex(note) + r"\par" for note in table.notes]
    parts = [
        "% Needs \\usepackage{booktabs}.",
        *(f"% {note}" for note in _id_notes(table)),
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{Table {table.paper.number} of the paper. {_tex(table.paper.title)}.}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 2)}l}}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        *notes,
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, for people."""
    several = len(table.paper.metrics) > 1
    best_epoch = ", best epoch on the test set" if table.protocol == "common" else ""
    header = ["Method", "Layers", "Params"]
    for metric in table.paper.metrics:
        name = f" {metric}" if several else ""
        header += [f"Paper{name}", f"Measured{name}{best_epoch}", f"Difference{name}"]
        short = ", best epoch" if best_epoch else ""
        header += [f"Proxy{name}: {proxy.scale} ({proxy.size}{short})" for proxy in table.proxies]
    rows = []
    for line in table.lines:
        row = line.row
        params = "" if row.params_millions is None else f"{row.params_millions:g}M"
        params += "" if line.params is None else f" ({line.params:,})"
        cells = [row.label + " (cited)" * row.cited, "" if row.layers is None else str(row.layers), params]
        for metric in table.paper.metrics:
            cells += _comparison_cells(row, line.metrics[metric])
        rows.append([*cells, "" if row.cited else _seeds(line.metrics[table.paper.metrics[0]].measured)])
    return [*header, "Runs"], rows


def _comparison_cells(row: PaperRow, comparison: Comparison) -> list[str]:
    paper, measured = comparison.paper, comparison.measured
    published = f"{paper.headline:.2f}"
    if paper.best is not None and paper.mean is not None:
        published += f" ({paper.mean:.2f}" + ("" if paper.std is None else f"±{paper.std:.2f}") + ")"
    if row.cited:
        return [published, "", "", *("" for _ in comparison.proxies)]
    value = _summary(measured)
    if measured is not None and measured.n > 1 and paper.best is not None:
        value += f", best {measured.best:.2f}"
    difference = _signed(comparison.difference)
    if comparison.difference_best is not None:
        mean = "" if comparison.difference is None else f"mean {difference}, "
        difference = f"{mean}best {_signed(comparison.difference_best)}"
    return [published, value, difference, *map(_summary, comparison.proxies)]


def _summary(summary: Summary | None) -> str:
    if summary is None:
        return NOT_RUN
    spread = "" if summary.std is None else f" ± {summary.std:.2f}"
    return f"{summary.mean:.2f}{spread} (n={summary.n})"


def _signed(value: float | None) -> str:
    return NOT_RUN if value is None else f"{value:+.2f}".replace("-", MINUS)


def _seeds(summary: Summary | None) -> str:
    """The runs of a cell in short, ``5: s0–s4``; the full ids stand below the table."""
    if summary is None:
        return NOT_RUN
    seeds = sorted(int(run_id.split("-")[-2].removeprefix("s")) for run_id in summary.run_ids)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{summary.n}: s{seeds[0]}–s{seeds[-1]}"
    return f"{summary.n}: " + ", ".join(f"s{seed}" for seed in seeds)


def _csv_line(table: Table, line: Line) -> dict[str, object]:
    row = line.row
    cells: dict[str, object] = {
        "method": row.label,
        "layers": row.layers,
        "params_millions": row.params_millions,
        "params": line.params,
        "cited": str(row.cited).lower(),
        "protocol": table.protocol,
    }
    for metric in table.paper.metrics:
        comparison = line.metrics[metric]
        paper, measured = comparison.paper, comparison.measured
        several = f"{metric}_" if len(table.paper.metrics) > 1 else ""
        values: dict[str, object] = {
            "paper": paper.headline,
            "paper_aggregate": paper.aggregate,
            "paper_best": paper.best,
            "paper_mean": paper.mean,
            "paper_std": paper.std,
            "paper_runs": paper.runs,
            "n": None if measured is None else measured.n,
            **_csv_summary("measured_", measured),
            "difference": _rounded(comparison.difference),
            "difference_best": _rounded(comparison.difference_best),
            "run_ids": None if measured is None else " ".join(measured.run_ids),
        }
        for proxy, summary in zip(table.proxies, comparison.proxies, strict=True):
            prefix = f"proxy_{proxy.scale}_"
            values[f"{prefix}n"] = None if summary is None else summary.n
            values |= _csv_summary(prefix, summary)
            values[f"{prefix}run_ids"] = None if summary is None else " ".join(summary.run_ids)
        cells |= {several + name: value for name, value in values.items()}
    return cells


def _csv_summary(prefix: str, summary: Summary | None) -> dict[str, object]:
    return {
        f"{prefix}mean": None if summary is None else _rounded(summary.mean),
        f"{prefix}std": None if summary is None else _rounded(summary.std),
        f"{prefix}best": None if summary is None else _rounded(summary.best),
    }


def _rounded(value: float | None) -> float | None:
    """Without the last binary digits: an error count of 10,000 images has two decimals, a mean a few more."""
    return None if value is None else round(value, 6)


def _measured_notes(paper: PaperTable, measured: Selection, protocol: str) -> list[str]:
    command = f"`repro run exp={paper.experiment}`"
    own = [(row, group) for row, group in zip(paper.rows, measured.groups, strict=True) if not row.cited]
    missing = [row.label for row, group in own if not group]
    notes = []
    if missing:
        notes.append(f"Not run: {len(missing)} of the paper's {len(own)} own rows ({', '.join(missing)}); {command}.")
    if protocol == "paper":
        notes.append("Protocol `paper`: the error of the final iterate, chosen by nothing.")
    else:
        notes.append(
            "Protocol `common`: the error of the best epoch, chosen on the test set itself, as most public "
            "repositories report it; the paper does not, so the difference flatters the measured values."
        )
    if measured.records:
        notes.append("Measured at the paper's full budget on " + _devices(measured.records) + ".")
    notes += [f"{note[0].upper()}{note[1:]}." for note in measured.notes]
    versions = sorted({record.numerics_version for record in measured.records})
    if len(versions) > 1:
        notes.append(f"The rows were measured with different numerics versions: {', '.join(map(str, versions))}.")
    if dirty := [r for r in measured.records if r.provenance.dirty]:
        notes.append(f"Made from a tree with uncommitted changes: {run_ids(dirty)}.")
    if unknown := [r for r in measured.records if r.provenance.commit in (None, "", "unknown")]:
        notes.append(f"Made from an unknown commit: {run_ids(unknown)}.")
    return notes


def _devices(records: Iterable[Record]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for record in records:
        counts[f"{record.provenance.device}, {record.provenance.precision}"] += 1
    return "; ".join(f"{name} ({count} run{'s' * (count > 1)})" for name, count in sorted(counts.items()))


def _best_notes(lines: Sequence[Line]) -> list[str]:
    """Says where a best stands beside one of another number of runs, and so has no difference."""
    notes = []
    for line in lines:
        for comparison in line.metrics.values():
            paper, measured = comparison.paper, comparison.measured
            if measured is not None and measured.n > 1 and paper.best is not None and measured.n != paper.runs:
                notes.append(
                    f"{line.row.label}: best of {measured.n} here, best of {paper.runs} in the paper; the bests are "
                    "not alike and have no difference."
                )
    return notes


def _proxy_notes(selection: Selection, recipe: dict[str, object]) -> list[str]:
    changed = ", ".join(
        f"{key}={_short(value)} (paper {_short(recipe.get(key))})" for key, value in selection.departures.items()
    )
    notes = [f"Proxy {selection.scale}, not comparable with the paper's values: {changed}."]
    return notes + [f"Proxy {selection.scale}: {note}." for note in selection.notes]


def _short(value: object) -> str:
    return "default" if value is None else str(value).replace(" ", "")


def _id_notes(table: Table) -> list[str]:
    """The full ids of the runs behind every cell, the measured ones first."""
    notes: list[str] = []
    metric = table.paper.metrics[0]
    for position, kind in enumerate(["", *(f", proxy {proxy.scale}" for proxy in table.proxies)]):
        for line in table.lines:
            comparison = line.metrics[metric]
            summary = (comparison.measured, *comparison.proxies)[position]
            if summary is not None:
                notes.append(f"Runs of {line.row.label}{kind}: {', '.join(summary.run_ids)}.")
    return notes


TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
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
