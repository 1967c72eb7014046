"""The output of `repro show RUN` and `repro compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from repro.cli.status import status
from repro.config.arguments import published_results
from repro.config.science import Science
from repro.errors import InputError
from repro.report.detection import METRICS, localizer_line
from repro.report.html.charts import thinned
from repro.report.tables.frame import NOT_RUN
from repro.results.agreement import Agreement, agreement, same_settings
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_any, find_record
from repro.results.localization_record import LocalizationRecord
from repro.results.read import AnyRecord, read_curve, read_records
from repro.results.record import Evaluation, Record, RunningError
from repro.results.settings import from_paper
from repro.runtime.progress import duration
from repro.runtime.provenance import read_json

CURVE_ROWS = 8
EXIT_CODES = {"identical": 0, "within": 0, "outside": 1, "unknown": 3}


def roots_of(paths: dict[str, Path]) -> list[Path]:
    """Return the folders of runs, the user's own before the published ones."""
    return [paths["work"], published_results(paths) / "runs"]


def show_run(name: str, paths: dict[str, Path]) -> str:
    """Describe one run: its errors, settings, curve, command and provenance, or the state of an unfinished one.

    Raises:
        InputError: The run does not exist.
    """
    folder = paths["work"] / name
    if (folder / "config.json").is_file() and not (folder / "record.json").is_file():
        return unfinished(folder)
    record = find_any(name, roots_of(paths))
    made = record.provenance
    tree = {None: "unknown tree", False: "clean tree", True: "uncommitted changes"}[made.dirty]
    lines = {
        "run": f"{record.label} on {record.science.data.name}, seed {record.seed}, scale {record.scale}",
        "experiment": record.exp or "none",
        **results(record, paths),
        "settings": settings(record.science),
        "size": f"{record.params:,} parameters, {record.macs:,} multiply-adds an image, {record.steps:,} steps",
        "time": f"{duration(record.wall_seconds)}, {record.images_per_second:,.0f} images/s",
        "device": f"{record.machine}, {made.precision}, torch {made.torch}",
        "code": f"commit {made.commit}, {tree}, Python {made.python}, {made.platform}",
        "finished": made.finished,
        "command": made.command or "unknown",
        "folder": str(record.folder),
    }
    return "\n".join([record.run_id, *laid_out(lines), "", details(record)]).rstrip()


def results(record: AnyRecord, paths: dict[str, Path]) -> dict[str, str]:
    """Describe what was measured in a run of any task."""
    if isinstance(record, LocalizationRecord):
        return {"errors": localizer_line(record).strip()}
    return tested(record, paths) if isinstance(record, Record) else precision(record, paths)


def details(record: AnyRecord) -> str:
    """Tabulate the curve of a classification run, or the classes of a detector."""
    if isinstance(record, LocalizationRecord):
        return ""
    return curve(record) if isinstance(record, Record) else by_class(record)


def tested(record: Record, paths: dict[str, Path]) -> dict[str, str]:
    """Describe the errors of a classification run, and those of its other seeds."""
    seeds = same_settings(record, read_records(roots_of(paths)).records)
    return {"errors": errors(record), "other seeds": agreement(record, seeds).text if seeds else "none"}


def precision(record: DetectionRecord, paths: dict[str, Path]) -> dict[str, str]:
    """Describe the average precision of a detector, and that of its other seeds."""
    result, every = record.detection, read_records(roots_of(paths)).detectors
    others = [other.detection.map for other in same_settings(record, every)]
    values = [NOT_RUN if value is None else f"{value:.2f} %" for value in (result.map, *others)]
    tested_on = f"{result.split}, {result.images:,} images, {result.detections:,} detections"
    return {METRICS[result.metric]: f"{values[0]} ({tested_on})", "other seeds": ", ".join(values[1:]) or "none"}


def by_class(record: DetectionRecord) -> str:
    """Tabulate the average precision of each class, or the numbers of COCO."""
    result = record.detection
    named = {one.name: one.ap for one in result.classes} if result.coco is None else result.coco
    cells = [[name, NOT_RUN if value is None else f"{value:.2f}"] for name, value in named.items()]
    header = ["class" if result.coco is None else "COCO", "average precision %"]
    return str(tabulate(cells, header, tablefmt="simple", colalign=["left", "right"], disable_numparse=True))


def laid_out(lines: dict[str, str]) -> list[str]:
    width = max(map(len, lines)) + 2
    return [f"  {name:<{width}}{text.replace(chr(10), chr(10) + ' ' * (width + 2))}" for name, text in lines.items()]


def errors(record: Record) -> str:
    result = record.result
    parts = [_error(result.final.split, result.final), _error("training", result.train)]
    parts.append(_error("training, augmented batches of the last steps", result.train_running))
    views = [f"{view.view} {view.top1_error:.2f} % (top five {view.top5_error:.2f} %)" for view in result.views]
    return "\n".join([*filter(None, parts), *views])


def _error(name: str, counts: Evaluation | RunningError | None) -> str:
    return "" if counts is None else f"{name} {counts.top1_error:.2f} % ({counts.errors:,} of {counts.images:,} images)"


def settings(science: Science) -> str:
    differing = from_paper(science)
    if not differing:
        return "the paper's recipe"
    return "\n".join(f"{key}={value} (the paper's recipe: {wanted})" for key, (value, wanted) in differing.items())


def curve(record: Record) -> str:
    """Tabulate evenly spaced evaluations, including the last."""
    try:
        frame = read_curve(record)
    except InputError as error:
        return f"no curve: {error}"
    rows = frame.iloc[thinned(len(frame), CURVE_ROWS)].itertuples()
    cells = [[f"{r.step:,.0f}", f"{r.lr:g}", f"{r.train_error:.2f}", f"{r.eval_error:.2f}"] for r in rows]
    header = ["step", "learning rate", "training error % (running)", f"{record.result.final.split} error %"]
    return str(tabulate(cells, header, tablefmt="simple", colalign=["right"] * 4, disable_numparse=True))


def unfinished(folder: Path) -> str:
    found, science = status(folder), Science.from_dict(read_json(folder / "config.json")["science"])
    lines = {
        "state": f"{found.state}, step {found.step:,} of {found.steps:,}" + (f": {found.note}" if found.note else ""),
        "settings": settings(science),
        "folder": str(folder),
    }
    return "\n".join([folder.name, *laid_out(lines)])


def compare(names: Sequence[str], paths: dict[str, Path]) -> tuple[str, int]:
    """Compare a run with published runs of its settings, or with a second run and its seeds.

    Returns:
        The text and the exit code: 0 for identical or within the spread of seeds, 1 for outside, 3 for too few seeds.

    Raises:
        InputError: A run does not exist, or the names are not one or two.
    """
    if len(names) not in (1, 2):
        raise InputError(f"name one run, to compare it with published ones, or two runs; {len(names)} are named")
    own, published = roots_of(paths)
    record = find_record(names[0], [own, published])
    if len(names) == 1:
        others = same_settings(record, read_records([published]).records)
        return _said(agreement(record, others))
    other = find_record(names[1], [published, own] if names[0] == names[1] else [own, published])
    seeds = [other, *same_settings(other, read_records([own, published]).records)]
    found = agreement(record, [seed for seed in seeds if seed.folder.resolve() != record.folder.resolve()])
    text, code = _said(found)
    ours, theirs = record.science.flat(), other.science.flat()
    differing = [f"{key}={ours[key]} against {theirs[key]}" for key in ours if ours[key] != theirs.get(key)]
    difference = record.result.reported.top1_error - other.result.reported.top1_error
    text += f"\n{record.run_id} − {other.run_id}: {difference:+.2f} points; "
    return text + (f"settings that differ: {', '.join(differing)}" if differing else "the same settings"), code


def _said(found: Agreement) -> tuple[str, int]:
    return found.text, EXIT_CODES[found.state]
