"""Measured runs and proxies as tables in Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from repro.papers.recipes import all_recipes, load_recipe
from repro.report.html.runs import NETS, by_net, departing, net_rows, show
from repro.report.summary import Published, spread
from repro.report.tables.frame import NOT_RUN, signed, text_table
from repro.results.read import Reading, Record
from repro.results.select import select, summarize
from repro.runtime.progress import duration

HEADER = ["net", "paper", "test error %", "difference", "seeds", "device", "arithmetic", "time of a run"]
ERRORS = [f"{net}, {part} %" for part in ("training", "test") for net in ("plain", "ResNet")]
DEPTHS = ["layers", *ERRORS, "seeds"]
NONE_YET = "No run of the paper's budget has been published yet.\n"


def measured_table(reading: Reading) -> str:
    """Return a table of the nets trained at the paper's budget, and their total time.

    A net that departs from the paper's recipe has no published value beside it.
    """
    records = [record for record in reading.records if record.scale == "paper" and not record.provenance.dirty]
    if not records:
        return NONE_YET
    published = Published()
    rows = [_row(group, published) for group in by_net(records)]
    text = text_table(rows, HEADER, "pipe", words=("net", "device", "arithmetic", "time of a run"))
    return f"{text}\n\n{_total(records)}\n"


def nets_table(reading: Reading, scale: str, exp: str | None = None) -> str:
    """Return a table of the nets of a scale or of one experiment at it, with mean ± standard deviation over seeds."""
    records = [r for r in reading.records if r.scale == scale and exp in (None, r.exp) and not r.provenance.dirty]
    return text_table(net_rows(records), NETS, "pipe") + "\n"


def depths_table(reading: Reading, scale: str) -> str:
    """Return a table of the paper's plain and residual nets of a scale by depth, as in Figure 6."""
    records = [record for record in reading.records if record.scale == scale and not record.provenance.dirty]
    depths = sorted({r.science.model.depth for r in records if r.science.model.shortcut == "none"})
    runs = [{"model.depth": depth, "model.shortcut": shortcut} for depth in depths for shortcut in ("none", "A")]
    chosen = iter(select(records, load_recipe("cifar10_recipe").fields, runs, scale).groups)
    rows = [[str(depth), *_side_by_side(next(chosen), next(chosen))] for depth in depths]
    return text_table(rows, DEPTHS, "pipe") + "\n"


def _side_by_side(plain: Sequence[Record], residual: Sequence[Record]) -> list[str]:
    """Return the training errors of both kinds of net, their test errors, and their numbers of seeds."""
    pair = (plain, residual)
    train = [spread(r.result.train.top1_error for r in group if r.result.train is not None) for group in pair]
    test = [spread(r.result.reported.top1_error for r in group) for group in pair]
    return [*train, *test, _listed(str(len(group)) for group in pair)]


def _row(group: Sequence[Record], published: Published) -> list[str]:
    summary = summarize(group)
    assert summary is not None
    paper = published.error(group[0])
    return [
        _name(group[0]),
        NOT_RUN if paper is None else f"{paper:.2f}",
        summary.text,
        NOT_RUN if paper is None else signed(summary.mean - paper),
        str(summary.n),
        _listed(_machine(record, record.carried.world_size) for record in group),
        _listed(record.provenance.precision for record in group),
        duration(sum(record.wall_seconds for record in group) / summary.n),
    ]


def _name(record: Record) -> str:
    """Return the label of a net and its departures from the nearest recipe."""
    away = min((departing(record, recipe) for recipe in all_recipes()), key=len)
    return ", ".join([record.label, *(f"{key}={show(value)}" for key, value in away.items())])


def _total(records: Sequence[Record]) -> str:
    """Return ``3 runs, 7.2 device-hours of training and evaluation in all (AMD EPYC, 2 threads: 7.2).``"""
    hours: dict[str, float] = defaultdict(float)
    for record in records:
        hours[_machine(record)] += record.wall_seconds * record.carried.world_size / 3600
    parts = "; ".join(f"{name}: {spent:.1f}" for name, spent in hours.items())
    runs = f"{len(records)} run{'' if len(records) == 1 else 's'}"
    return f"{runs}, {sum(hours.values()):.1f} device-hours of training and evaluation in all ({parts})."


def _machine(record: Record, count: int = 1) -> str:
    """Return ``8 x NVIDIA H200``, or one of them."""
    name = record.machine
    if record.provenance.cuda is not None and record.carried.runs_per_gpu != 1:
        name += ", which several runs may share"  # each run counts its whole time
    return f"{count} x {name}" if count > 1 else name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
