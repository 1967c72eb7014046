"""The state of every run in the work folder."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from repro.config.arguments import choices, scale_names
from repro.config.detection import DetectionConfig
from repro.config.localization import LocalizationConfig
from repro.config.parse import require
from repro.config.run import RunConfig
from repro.config.science import Science, groups
from repro.errors import InputError, first_line, nearest
from repro.launch.failure import FAILURE, REMEDY
from repro.launch.slurm.jobs import Job
from repro.results.agreement import agreement, same_settings
from repro.results.read import Reading, read_record
from repro.results.settings import differing, scale_of_run
from repro.results.stored import DETECTION, LOCALIZATION, RECORD
from repro.runtime.lock import is_held, owner
from repro.runtime.progress import read_progress
from repro.runtime.provenance import read_json

STATES = ("done", "running", "queued", "failed", "interrupted", "broken")


@dataclass(frozen=True)
class RunStatus:
    run_id: str
    state: str
    """One of ``STATES``; a run is ``queued`` in Slurm's queue, and ``broken`` if a file cannot be read."""
    steps: int = 0
    step: int = 0
    error: float | None = None
    """The final error of a finished run, otherwise the running training error, in percent."""
    images_per_second: float | None = None
    seconds_left: float | None = None
    note: str = ""
    """The process or job that trains it, or the reason for its state."""
    exp: str = ""
    differs: str = ""
    """The settings that differ from the scale's own recipe, as on the command line."""
    published: str = ""
    """The agreement of a finished run with published ones: ``identical``, ``within`` or ``outside`` their spread."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The values to filter by: ``exp``, ``scale``, ``seed`` and every science field."""

    def to_json(self) -> dict[str, object]:
        return dataclasses.asdict(self)


def statuses(work: Path, jobs: Sequence[Job] = ()) -> list[RunStatus]:
    """Return the status of all runs in ``work`` and in Slurm's queue, by name."""
    found = {path.parent.name: status(path.parent) for path in work.glob("*/config.json")}
    for job in jobs:
        try:
            configs = job.submission.configs(job.shard)
        except InputError:
            note = f"job {job.job_id}: submitted by another version of the program"
            for run_id in job.run_ids:
                found.setdefault(run_id, RunStatus(run_id, "queued", note=note))
            continue
        for config in configs:
            before = found.get(config.run_id) or queued(config)
            if before.state != "done":
                state = before.state if before.state == "running" else "queued"
                about = " ".join(filter(None, (job.state.lower(), job.nodes, f"({job.reason})" if job.reason else "")))
                found[config.run_id] = replace(before, state=state, note=f"job {job.job_id}: {about}")
    return [found[run_id] for run_id in sorted(found)]


def queued(config: RunConfig) -> RunStatus:
    found = RunStatus(config.run_id, "queued", config.optim.steps)
    return described(found, config.science, config.exp, config.scale)


def described(found: RunStatus, science: Science, exp: str, scale: str) -> RunStatus:
    """Add the experiment and the settings to a status."""
    settings = {"exp": exp, "scale": scale, "seed": science.seed, **science.flat()}
    return replace(found, exp=exp, differs=differing(science, scale, exp), settings=settings)


def chosen(found: Sequence[RunStatus], words: Sequence[str]) -> list[RunStatus]:
    """Return the runs that match every word ``key=value``; ``key=a,b`` matches either value.

    Raises:
        InputError: No run can have a setting of that name, or an experiment, a scale or a state of that value.
    """
    kept = list(found)
    for word in words:
        key, _, text = word.partition("=")
        known = {"state", *setting_names(), *(name for one in found for name in one.settings)}
        require(key in known, f"unknown key {key!r}: {nearest(key, known)}")
        require(text != "", f"{word!r} sets nothing: write {key}=…")
        values = re.split(r",(?![^\[]*\])", text)  # not at the commas of a list
        names = {"state": set(STATES), "exp": set(choices("exp")), "scale": scale_names()}.get(key)
        for value in values if names else ():
            allowed = (names or set()) | {str(one.settings[key]) for one in found if key in one.settings}
            require(value in allowed, f"unknown {key} {value!r}: {nearest(value, allowed)}")
        kept = [one for one in kept if has_any(one, key, values)]
    return kept


def setting_names() -> set[str]:
    """Return the names of all settings that a run may have."""
    kinds = {**groups(), "detection": DetectionConfig, "localization": LocalizationConfig}
    fields = {f"{group}.{part.name}" for group, kind in kinds.items() for part in dataclasses.fields(kind)}
    return {"exp", "scale", "seed"} | fields


def has_any(one: RunStatus, key: str, values: Sequence[str]) -> bool:
    """Return whether a run has one of ``values``, as written on the command line; a broken run has no setting."""
    held = {**one.settings, "state": one.state}
    return key in held and any(is_value(value, held[key]) for value in values)


def is_value(text: str, value: object) -> bool:
    """Return whether ``text``, as written on the command line, stands for a setting's ``value``."""
    if isinstance(value, str):
        return text == value
    try:
        given = float(text)  # also 1e-4, which is a word in YAML
    except ValueError:
        with contextlib.suppress(yaml.YAMLError):
            given = yaml.safe_load(text)
            return type(given) is type(value) and given == value
        return False
    return not isinstance(value, bool) and given == value


def beside(found: Sequence[RunStatus], work: Path, published: Reading) -> list[RunStatus]:
    """Add to every finished run its agreement with published seeds of the same settings."""
    return [replace(one, published=_beside(work / one.run_id, published)) for one in found]


def _beside(folder: Path, published: Reading) -> str:
    try:
        record = read_record(folder / RECORD)
    except InputError:
        return ""
    others = same_settings(record, published.records)
    state = agreement(record, others).state if others else "unknown"
    return "" if state == "unknown" else state


def status(folder: Path) -> RunStatus:
    """Describe the run in one folder; it is ``broken`` if a file cannot be read."""
    steps, file = 0, "config.json"
    try:
        stored = read_json(folder / file)
        steps = int(stored["science"]["optim"]["steps"])
        science = Science.from_dict(stored["science"])
        is_finished = (folder / RECORD).exists()
        file = RECORD if is_finished else file
        found = _done(folder, steps) if is_finished else _unfinished(folder, steps)
        labels = read_json(folder / RECORD) if is_finished else stored
        exp, scale = str(labels.get("exp", "")), str(labels.get("scale", scale_of_run(folder.name)))
        return described(found, science, exp, scale)
    except (InputError, KeyError, TypeError, ValueError, OverflowError, OSError) as problem:
        return RunStatus(folder.name, "broken", steps, note=f"{fault(problem, file)}; {REMEDY}")


def fault(problem: Exception, file: str) -> str:
    """Describe in a sentence why a file of a run cannot be used."""
    if isinstance(problem, InputError):
        return first_line(problem)
    if isinstance(problem, KeyError):
        return f"its {file} has no {problem.args[0]}"
    return f"its {file} is invalid: {first_line(problem) or type(problem).__name__}"


def _done(folder: Path, steps: int) -> RunStatus:
    record = read_json(folder / "record.json")
    # A detector and a localizer have no classification error.
    final = None if {DETECTION, LOCALIZATION} & set(record) else float(record["result"]["final"]["top1_error"])
    speed = float(record["images_per_second"])
    return RunStatus(folder.name, "done", steps, int(record["steps"]), final, speed, 0.0)


def _unfinished(folder: Path, steps: int) -> RunStatus:
    """Describe a run without a record; its state does not depend on ``progress.json``, which is only a report."""
    odd, told = "", None
    try:
        told = read_progress(folder)
    except InputError as problem:
        odd = first_line(problem)
    state, note = "interrupted", ""
    if is_held(folder):
        state, note = "running", owner(folder)
    elif (folder / FAILURE).exists():
        lines = (folder / FAILURE).read_text(encoding="utf-8", errors="replace").splitlines()
        state, note = "failed", lines[-1] if lines else ""
    found = RunStatus(folder.name, state, steps, note="; ".join(filter(None, (note, odd))))
    if told is not None:
        found = replace(found, step=told.step, error=told.train_error)
    if told is not None and state == "running":
        found = replace(found, images_per_second=told.images_per_second, seconds_left=told.seconds_left)
    return found
