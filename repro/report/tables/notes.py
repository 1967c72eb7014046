"""Notes below a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from repro.config.numerics import numerics_version
from repro.papers import PaperRow, PaperTable, load_recipe
from repro.papers.tables import OPEN
from repro.report.tables.cells import Row
from repro.results.read import AnyRecord, Record
from repro.results.scales import COCO, is_of_detector, kind_of
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
    reasons: dict[str, list[PaperRow]] = defaultdict(list)
    for row in paper.rows:
        if row.undecidable:
            reasons[row.undecidable].append(row)
    own = {row.label for row in own_rows(paper)}
    for reason, rows in reasons.items():
        named = "" if {row.label for row in rows} == own else f" ({names_of(rows, paper)})"
        notes.append(f"{OPEN.capitalize()}{named}: {reason}.")
    for metric, reason in paper.undecidable_metrics.items():
        notes.append(f"{OPEN.capitalize()} ({paper.label(metric)}): {reason}.")
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
    rows = [*zip(paper.rows, measured.groups, strict=True)]
    missing = [row for row, group in rows if row.run is not None and not row.own and not group]
    notes = missing_notes(paper, missing) if missing else []
    shown = paper.views[0] if len(paper.views) == 1 else ""  # rows of several views name theirs in their settings
    final = DETECTORS if is_of_detector(load_recipe(paper.recipe).fields) else VIEWS.get(shown, VIEWS[""])
    notes.append(f"Protocol `{protocol}`: {final if protocol == 'paper' else COMMON}.")
    if measured.records:
        notes.append("Measured at the paper's full budget on " + _devices(measured.records) + ".")
    if single := [row for row, group in rows if len(group) == 1]:
        notes.append(f"Only one seed ({names_of(single, paper)}): there is no spread, and a difference can be chance.")
    notes += [f"{note[0].upper()}{note[1:]}." for note in measured.notes]
    versions = sorted({record.numerics_version for record in measured.records})
    if any(numerics_version(r.science.flat(), versions[-1]) != r.numerics_version for r in measured.records):
        notes.append(f"The rows were measured with different numerics versions: {', '.join(map(str, versions))}.")
    if unknown := [r for r in measured.records if not r.provenance.known]:
        notes.append(f"Made from an unknown commit: {run_ids(unknown)}.")
    return notes


def own_rows(paper: PaperTable) -> list[PaperRow]:
    """Return the rows of the paper's own nets."""
    return [row for row in paper.rows if not row.cited and not row.own]


def names_of(rows: Sequence[PaperRow], paper: PaperTable) -> str:
    """List the labels of rows, with their settings where other rows have the same label."""
    times = Counter(row.label for row in paper.rows if not row.cited)
    names = [row.label if times[row.label] == 1 else f"{row.label} ({row.setting})" for row in rows]
    return ("; " if any("," in name for name in names) else ", ").join(dict.fromkeys(names))


def missing_notes(paper: PaperTable, missing: Sequence[PaperRow]) -> list[str]:
    """Return notes on the rows that were not run: the commands that train them, and what to fill in there."""
    own, runs = own_rows(paper), [row for row in own_rows(paper) if row.run is not None]
    every = {1: "the only one", 2: "both"}.get(len(runs), f"all {len(runs)}")
    if len(missing) < len(runs):
        which = f"{len(missing)} of the paper's {len(own)} own rows ({names_of(missing, paper)})"
    else:
        which = f"{every} of the paper's own rows" if runs == own else f"{every} of the rows that runs here can fill"
    kind = kind_of(load_recipe(paper.recipe).fields)
    commands = ", ".join(dict.fromkeys(command_of(row, kind) for row in missing))
    notes = [f"Not run: {which}; {commands}."]
    if kind == "classification":
        return notes
    fill_in = "the weights to start from in place of …"
    fill_in += ", and ids of your finished runs in place of RUN" if "RUN" in commands else ""
    notes.append(f"Put {fill_in}: docs/{kind}.md says which.")
    fine_tuned = [row for row in missing if (row.run or {}).get("detection.pretrained") == COCO]
    return notes + [
        f"`exp={r.experiment}` starts from a detector that `exp=coco_detection` trained." for r in fine_tuned
    ]


def command_of(row: PaperRow, kind: str) -> str:
    """Return the command that trains a row, for a shell, with ``…`` for weights that it needs besides."""
    words = [f'"{word}"' if "[" in word else word for word in row.experiment.split()]
    words += [] if kind == "classification" else [f"{kind}.start=…"]
    return f"`repro run exp={' '.join(words)}`"


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
