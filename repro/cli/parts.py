"""Plans of several experiments: one estimate, the parts that lack data, and the ensembles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence

from repro.config.compose import Plan
from repro.config.run import RunConfig
from repro.launch.cost import REFERENCE_SPEED, Speed, work
from repro.launch.image_counts import image_counts
from repro.launch.lacking import Parted, divided, part, text_of
from repro.launch.outcome import done_among, faults, faulty_text
from repro.launch.plan import Result
from repro.launch.published import published_speeds
from repro.launch.schedules import schedules_text
from repro.launch.speeds import source, speeds_of
from repro.models.count import Size
from repro.papers import load_table, table_numbers
from repro.report.tables.frame import text_table
from repro.results.read import Record
from repro.runtime.device import device_name, pick_device
from repro.runtime.progress import duration

log = logging.getLogger(__name__)
REFERENCE = Speed(REFERENCE_SPEED, block_seconds=0.0)


def show_experiments(planned: Plan) -> str:
    """Describe the experiments of a plan and their cost, and those for which data or weights are missing."""
    runs = planned.runs
    speeds, told = speeds_for(runs)
    costs = {
        run.run_id: work(run, speed or REFERENCE, *image_counts(run)) for run, speed in zip(runs, speeds, strict=True)
    }
    parted = divided(runs)
    faulty = faults(runs)
    done = done_among(runs, faulty)
    rows, seen = [], set[str]()
    for exp, ids in planned.experiments.items():
        new = [run_id for run_id in ids if run_id not in seen]
        seen |= {*ids}
        macs, seconds = sum(costs[run_id][1] for run_id in new), sum(costs[run_id][2] for run_id in new)
        data = ", ".join(dict.fromkeys(run.data.name for run in runs if run.run_id in ids))
        state = state_of(new, done, faulty, parted.lacking)
        rows.append([exp, str(len(ids)), str(len(new)), data, f"{macs:.2g}", duration(seconds), state])
    header = ["experiment", "runs", "new", "data", "multiply-adds", "time", ""]
    table = text_table(rows, header, words=("experiment", "data", ""))
    texts = [
        table,
        totals(parted, costs, done, told),
        *lacking_text(parted, runs),
        faulty_text(faulty),
        schedules_text(runs),
    ]
    return "\n\n".join(filter(None, texts))


def speeds_for(runs: Sequence[RunConfig]) -> tuple[list[Speed | None], str]:
    """Return the speed of each run and the source of it; a run without a benchmark has None."""
    execution = runs[0].execution
    if execution.slurm is None:
        measured = speeds_of(runs)
        return [*measured], f"on this device ({device_name(pick_device(execution.device))}; speed {source(measured)})"
    speeds, told = published_speeds(runs)
    return (
        speeds,
        f"{told}; {REFERENCE_SPEED:.0e} multiply-adds a second where none is known" if None in speeds else told,
    )


def state_of(ids: Sequence[str], done: Container[str], faulty: Container[str], lacking: Container[str]) -> str:
    """Describe the state of an experiment's runs: done, with an invalid record, lacking data or weights, or none."""
    states = ((done, "done"), (faulty, "invalid"), (lacking, "left out"))
    counts = ((sum(i in runs for i in ids), word) for runs, word in states)
    return ", ".join(f"{number} {word}" for number, word in counts if number)


def totals(parted: Parted, costs: Mapping[str, tuple[Size, float, float]], done: set[str], told: str) -> str:
    """Describe the time of all runs in sequence, and of those that remain and can be trained."""
    seconds = {run_id: cost[2] for run_id, cost in costs.items()}
    left = [run.run_id for run in parted.there if run.run_id not in done]
    text = f"{len(costs)} runs, about {duration(sum(seconds.values()))} {told}, one after the other"
    if len(left) < len(costs):
        now = duration(sum(seconds[run_id] for run_id in left))
        text += f"; {len(left)} of them are left to train here, about {now}"
    macs = sum(cost[1] for cost in costs.values())
    at_reference = duration(macs / REFERENCE_SPEED)
    return f"{text}\nin all {macs:.2g} multiply-adds: {at_reference} at {REFERENCE_SPEED:.0e} a second"


def lacking_text(parted: Parted, runs: Sequence[RunConfig]) -> list[str]:
    return [text_of(parted, runs)] if parted.lacking else []


def what_is_there(planned: Plan) -> list[RunConfig]:
    """Return the runs that can be trained, of a plan of one experiment all; log what the others lack.

    Raises:
        InputError: Nothing can be trained.
    """
    if len(planned.experiments) == 1:
        return planned.runs
    parted = part(planned.runs)
    for text in lacking_text(parted, planned.runs):
        log.info(text)
    return parted.there


def tables_of(planned: Plan, records: Sequence[Record], table: Callable[[Sequence[Record]], str]) -> str:
    """Return a table of the results; of a plan of several experiments one for each, since their recipes differ."""
    if len(planned.experiments) == 1:
        return table(records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.exp, []).append(record)
    return "\n\n".join(f"{exp}\n{table(own)}" for exp, own in groups.items())


def score_ensembles(planned: Plan, result: Result) -> None:
    """Test the ensembles of a plan of several experiments, of those with a table, once all their runs are finished."""
    if len(planned.experiments) == 1 or result.exit_code not in (0, 1):  # another code: it was stopped
        return
    there = {config.run_id: config for config in result.finished}
    shown = [paper for paper in map(load_table, table_numbers()) if paper.ensembles]
    for exp in dict.fromkeys(paper.experiment for paper in shown):
        ids = planned.experiments.get(exp, [])
        if ids and there.keys() >= {*ids}:
            from repro.evaluation.command import evaluate

            config = there[ids[0]]
            words = [f"paths.{name}={path}" for name, path in vars(config.paths).items()]
            evaluate([*ids, *words, f"device={config.execution.device}"], ensemble=True)
