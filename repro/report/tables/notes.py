"""Notes below a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from repro.config.numerics import numerics_version
from repro.papers import PaperTable, load_recipe
from repro.report.tables.cells import Row
from repro.results.read import AnyRecord, Record
from repro.results.scales import is_of_detector
from repro.results.select import Selection, run_ids, view_of

VIEWS = {
    "": "the error of the final weights; no epoch is chosen",
    "10crop": "the error of the final weights, with softmax averaged over ten crops; no epoch is chosen",
    "large_crop": "the error of the final weights on one crop larger than those of training; no epoch is chosen",
    "multiscale": "the error of the final weights, with softmax averaged over positions and scales; no epoch is chosen",
}
DETECTORS = "the precision of the detector after its last update; no update is chosen"
COMMON = (
    "the error of the best epoch, chosen on the test set, as most public repositories report it; the paper does not, "
    "so the difference flatters the measured values"
)


def paper_notes(paper: PaperTable) -> list[str]:
    """Return notes on the paper's test, unless a column shows it, and on rows that no run here fills."""
    alike = all(row.setting == paper.setting for row in paper.rows)
    shown = not alike and any(row.setting == paper.setting for row in paper.rows)
    notes = [] if shown else [f"Setting: {paper.setting}."]
    reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in paper.rows:
        if row.unfilled:
            reasons[row.unfilled, row.undecidable][row.label] = None
    own = {row.label for row in paper.rows if not row.cited and not row.own}
    for (word, reason), labels in reasons.items():
        named = "" if set(labels) == own else f" ({', '.join(labels)})"
        notes.append(f"{word.capitalize()}{named}: {reason}.")
    notes += [f"{row.label}: {row.note}." for row in paper.rows if row.note]
    if any(row.own for row in paper.rows):
        notes.append("Nets that the paper does not have are below its rows, without a published value.")
    if any(row.net is not None for row in paper.rows):
        notes.append(f"Nothing is trained for this table: `repro table {paper.number}` counts its nets.")
    return notes


def measured_notes(paper: PaperTable, measured: Selection[AnyRecord], protocol: str) -> list[str]:
    """Return notes on the measured column, with commands for the rows that it lacks."""
    if not paper.runnable:
        return []
    rows = [(row, group) for row, group in zip(paper.rows, measured.groups, strict=True) if not row.own]
    missing = [row for row, group in rows if row.run is not None and not group]
    own = sum(not row.cited for row, _ in rows)
    notes = []
    if missing:
        commands = ", ".join(dict.fromkeys(f"`repro run exp={row.experiment}`" for row in missing))
        labels = ", ".join(row.label for row in missing)
        notes.append(f"Not run: {len(missing)} of the paper's {own} own rows ({labels}); {commands}.")
    shown = paper.views[0] if len(paper.views) == 1 else ""  # rows of several views name theirs in their settings
    final = DETECTORS if is_of_detector(load_recipe(paper.recipe).fields) else VIEWS.get(shown, VIEWS[""])
    notes.append(f"Protocol `{protocol}`: {final if protocol == 'paper' else COMMON}.")
    if measured.records:
        notes.append("Measured at the paper's full budget on " + _devices(measured.records) + ".")
    if single := [row.label for row, group in zip(paper.rows, measured.groups, strict=True) if len(group) == 1]:
        notes.append(f"Only one seed ({', '.join(single)}): there is no spread, and a difference can be chance.")
    notes += [f"{note[0].upper()}{note[1:]}." for note in measured.notes]
    versions = sorted({record.numerics_version for record in measured.records})
    if any(numerics_version(r.science.flat(), versions[-1]) != r.numerics_version for r in measured.records):
        notes.append(f"The rows were measured with different numerics versions: {', '.join(map(str, versions))}.")
    if unknown := [r for r in measured.records if not r.provenance.known]:
        notes.append(f"Made from an unknown commit: {run_ids(unknown)}.")
    return notes


def _devices(records: Iterable[AnyRecord]) -> str:
    counts = Counter(f"{record.provenance.device}, {record.provenance.precision}" for record in records)
    return "; ".join(f"{name} ({count} {'run' if count == 1 else 'runs'})" for name, count in sorted(counts.items()))


def best_notes(rows: Sequence[Row]) -> list[str]:
    """Return a note for each best without a difference, since the paper's is of another number of runs."""
    return [
        f"{row.paper.label}: best of {c.measured.n} here, best of {c.paper.runs} in the paper; these are not "
        "comparable, so there is no difference."
        for row in rows
        for c in row.metrics.values()
        if c.measured is not None and c.measured.n > 1 and c.paper.best is not None and c.measured.n != c.paper.runs
    ]


def proxy_notes(selection: Selection[AnyRecord], recipe: Mapping[str, object], views: Sequence[str]) -> list[str]:
    """Return notes on a proxy: its departures from the paper, and those of the tests ``views`` that it lacks."""
    changed = ", ".join(
        f"{key}={_short(value)} (paper {_short(recipe.get(key))})" for key, value in selection.departures.items()
    )
    notes = [f"Proxy {selection.scale}: not comparable with the paper's values: {changed}."]
    nets = [record for record in selection.records if isinstance(record, Record)]
    for view in views:
        if any(view_of(record, view) is None for record in nets):
            notes.append(f"Proxy {selection.scale}: it has no test {view}; its final evaluation of one view is shown.")
    return notes + [f"Proxy {selection.scale}: {note}." for note in selection.notes]


def ensemble_notes(paper: PaperTable, measured: bool) -> list[str]:
    """Return notes on our ensembles, with the command that trains the members if there is none."""
    if not paper.ensembles:
        return []
    notes = [
        "Our ensembles are tested on the validation set, the published ones on the test set: they have rows and a "
        "column of their own, and no difference."
    ]
    if not measured:
        notes.append(f"No ensemble at the paper's budget: `repro run exp={paper.experiment}` trains its members.")
    return notes


def _short(value: object) -> str:
    return "default" if value is None else str(value).replace(" ", "")
