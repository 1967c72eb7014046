"""A table of the data, time and outcome of each result of the paper."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.config.compose import Plan, plan
from repro.config.paths import shared_dir
from repro.config.run import RunConfig, Science
from repro.launch.cost import REFERENCE_SPEED, Speed, work
from repro.launch.image_counts import image_counts
from repro.launch.lacking import starts
from repro.launch.published import cases, speed_by
from repro.papers import PaperTable, figure_numbers, load_figure, load_recipe, load_table, table_numbers
from repro.report.figures import Plot
from repro.report.tables import table1
from repro.report.tables.frame import NOT_RUN, Frame, text_table
from repro.results.select import departures

HEADER = ["result", "runs", "data", "weights", "GPU-hours", "disk", "what came out"]
BENCHMARKED = "h100"
"""The kind of GPU whose published speeds give the hours."""
DATA = {
    "cifar10": "CIFAR-10",
    "imagenet": "ImageNet",
    "voc": "VOC 2007, 2012",
    "coco": "COCO 2014",
    "imagenet_det": "ImageNet DET",
}
GIGABYTES = {"cifar10": 0.2, "imagenet": 145, "voc": 3, "coco": 20, "imagenet_det": 50}
"""Unpacked sizes of the data sets."""
REFERENCE = Speed(REFERENCE_SPEED, block_seconds=0.0)
COPIES = 16
"""Bytes of a parameter in the work folder: weight and momentum, in the last checkpoint and in the final net."""


@dataclass(frozen=True)
class Cost:
    """GPU-hours and bytes of a run, and whether its speed was measured on a net of about its size."""

    hours: float
    disk: float
    measured: bool


def paper_plan(tables: Mapping[int, Frame], plots: Sequence[Plot]) -> str:
    """Return a table in Markdown with a line for each table and numbered figure of the paper, and the whole plan."""
    needed = needs(shared_dir("conf"), shared_dir("experiments"))
    rows = [[f"Table {n}", *needed[f"Table {n}"], outcome(load_table(n), frame)] for n, frame in tables.items()]
    rows += [[f"Figure {n}", *needed[f"Figure {n}"], drawn(str(n), plots)] for n in figure_numbers()]
    rows.append(["`make paper`", *needed["all"], ""])
    left = tuple(name for name in HEADER if name != "runs")
    return text_table(rows, HEADER, "pipe", words=left) + "\n"


@functools.cache
def needs(conf: Path, experiments: Path) -> dict[str, list[str]]:
    """Return the cells of each table, of each figure and of the whole plan; the folders are the cache's key."""
    planned = plan(["exp=paper"])
    costs = costs_of(planned.runs)
    runs = {f"Table {number}": runs_of_table(load_table(number), planned) for number in table_numbers()}
    for number in figure_numbers():
        figure = load_figure(number)
        nets = (curve.run for panel in figure.panels for curve in panel.curves)
        runs[f"Figure {number}"] = matching(planned, figure.recipe, nets)
    return {name: cells(own, planned, costs) for name, own in (runs | {"all": planned.runs}).items()}


def costs_of(runs: Sequence[RunConfig]) -> dict[str, Cost]:
    """Return the cost of each run by its id: at the published speed of the nearest net, else at the reference speed."""
    found = [case for _, case in cases(shared_dir("results") / "bench", BENCHMARKED)]
    costs: dict[Science, Cost] = {}
    for run in runs:
        net = dataclasses.replace(run.science, seed=0)  # seeds cost the same
        if net not in costs:
            published = speed_by(run, found) if run.science.is_classification else None
            size, _, seconds = work(run, published.speed if published else REFERENCE, *image_counts(run))
            costs[net] = Cost(seconds / 3600, COPIES * size.params, published is not None and published.measured)
    return {run.run_id: costs[dataclasses.replace(run.science, seed=0)] for run in runs}


def runs_of_table(paper: PaperTable, planned: Plan) -> list[RunConfig]:
    """Return the runs of the plan that fill a table's rows, or that its ensembles average."""
    if paper.ensembles:
        return [run for run in planned.runs if run.run_id in planned.experiments[paper.experiment]]
    return matching(planned, paper.recipe, (row.run for row in paper.rows)) if paper.recipe else []


def matching(planned: Plan, recipe: str, nets: Iterable[Mapping[str, Any] | None]) -> list[RunConfig]:
    """Return the runs of a recipe with the fields of one of the ``nets`` on top."""
    fields = load_recipe(recipe).fields
    wanted = [net for net in nets if net is not None]
    return [run for run in planned.runs if any(not departures(run, fields, net) for net in wanted)]


def cells(runs: Sequence[RunConfig], planned: Plan, costs: Mapping[str, Cost]) -> list[str]:
    """Return the cells of runs: their number, data, weights, GPU-hours, and disk of the data and of the work folder."""
    if not runs:
        return ["0", *[NOT_RUN] * 4]
    names = [*dict.fromkeys(run.data.name for run in runs)]
    own = [costs[run.run_id] for run in runs]
    hours, disk = sum(cost.hours for cost in own), sum(cost.disk for cost in own) / 1e9
    shown = f"{hours:.1f}" if all(cost.measured for cost in own) else f"~{hours:.0f}"
    gigabytes = f"{sum(GIGABYTES[name] for name in names):g} + {disk:.1f} GB"
    return [str(len(runs)), ", ".join(DATA[name] for name in names), weights(runs, planned), shown, gigabytes]


def weights(runs: Sequence[RunConfig], planned: Plan) -> str:
    """Name the weights from which runs start: files, and nets of the plan that are not among ``runs``."""
    tables = {"classification": 4, "detection": 8, "localization": 13}
    labels = {run.run_id: f"{run.label} of Table {tables[run.science.kind]}" for run in planned.runs}
    named: list[str] = []
    own = {run.run_id for run in runs}
    for run in runs:
        if run.starts_from and run.starts_from.start_is_file:
            named.append(f"`{run.starts_from.start}`")
        named += [labels[name] for name in starts(run) if name not in own]
    return ", ".join(dict.fromkeys(named)) or NOT_RUN


def outcome(paper: PaperTable, frame: Frame) -> str:
    """Describe how much of a table was measured at the paper's budget, with a link."""
    link = f"[table](../results/tables/{frame.stem}.md)"
    if paper.number == table1.NUMBER:
        return f"counted on the nets: {link}"
    rows = [values for row, values in zip(paper.rows, frame.values, strict=False) if row.run is not None]
    if not rows:
        reasons = [f"{row.unfilled}, {row.undecidable}" for row in paper.rows if row.unfilled]
        return f"{'; '.join(dict.fromkeys(reasons))}: {link}"
    counts = ["n", *(f"{metric}_n" for metric in paper.metrics)]
    measured = sum(any(values.get(name) for name in counts) for values in rows)
    return f"{measured} of {len(rows)} rows measured: {link}"


def drawn(name: str, plots: Sequence[Plot]) -> str:
    """Describe how many curves of a figure were measured at the paper's budget, with links to what is drawn."""
    own = [plot for plot in plots if plot.paper.name == name]
    curves = [panel.n(curve) for plot in own if not plot.is_proxy for panel in plot.panels for curve in panel.curves]
    links = [
        f"[{plot.scale if plot.is_proxy else 'at the budget'}](../results/figures/{plot.file_name}.png)"
        for plot in own
        if plot.series
    ]
    text = f"{sum(map(bool, curves))} of {len(curves)} curves measured"
    return f"{text}; drawn: {', '.join(links)}" if links else text
