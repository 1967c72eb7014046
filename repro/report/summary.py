"""Finished runs as lines and as a table."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from repro.config.execution import PROTOCOLS
from repro.config.model import NET_FIELDS
from repro.papers import later_tables, load_recipe, load_table, table_numbers
from repro.report.tables.frame import NOT_RUN, signed, text_table
from repro.results.record import Evaluation, Record
from repro.results.select import departures


class Published:
    """Published errors, found by the recipe of a run."""

    def __init__(self) -> None:
        # A run ends with an error of one view, which is not comparable with tables of several views.
        numbers: list[int | str] = [*table_numbers(), *later_tables()]
        tables = [table for table in map(load_table, numbers) if not table.view]
        self._rows = [
            (row, load_recipe(table.recipe))
            for table in tables
            for row in table.rows
            if row.run is not None and not row.view
        ]

    def error(self, record: Record) -> float | None:
        """Return the published test error in percent, the mean if one is printed, since one run is no best.

        None if the run departs from the paper's recipe.
        """
        for row, recipe in self._rows:
            if row.run is not None and not departures(record, recipe.fields, row.run):
                published = row.paper["top1_error"]
                if published.above is not None:
                    return None
                return published.headline if published.mean is None else published.mean
        return None


class Summary:
    """Errors of records by ``protocol``, beside the paper's if a run follows its recipe."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self._published = Published()

    def line(self, record: Record) -> str:
        """Return ``ResNet-20 seed 0: test error 8.61 % (paper 8.75, difference −0.14), training error …``"""
        result = self._read(record)
        best = f" at its best epoch (step {result.step:,})" if self.protocol == "common" else ""
        text = f"{record.label} seed {record.seed}: {result.split} error {result.top1_error:.2f} %{best}"
        paper = self._published.error(record)
        if paper is not None:
            text += f" (paper {paper:.2f}, difference {signed(result.top1_error - paper)})"
        elif record.scale != "paper":
            text += f" (a proxy, scale={record.scale}: not comparable with the paper)"
        running = record.result.train_running
        if running is not None:
            first, last = running.first_step, running.last_step
            text += f", running training error {running.top1_error:.2f} % over steps {first:,} to {last:,}"
        return f"  {text}"

    def table(self, records: Sequence[Record]) -> str:
        """Return a table with one line per net: running training error and test error over its seeds, in percent."""
        groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
        for record in records:
            groups[record.key, record.label, str(record.science.flat())].append(record)
        split = " or ".join(dict.fromkeys(record.science.data.eval_split for record in records))
        names = told_apart([group[0] for group in groups.values()])
        best = "\nbest epoch" if self.protocol == "common" else ""
        # Several lines: the table of usual nets is at most 80 columns wide.
        errors = ["running\ntraining\nerror %", f"{split}\nerror %{best}"]
        header = ["net", "seeds", "params", *errors, "paper", "difference"]
        rows = []
        for name, group in zip(names, groups.values(), strict=True):
            tested = [self._read(record).top1_error for record in group]
            running = [r.result.train_running.top1_error for r in group if r.result.train_running is not None]
            paper = self._published.error(group[0])
            beside = [NOT_RUN] * 2 if paper is None else [f"{paper:.2f}", signed(statistics.fmean(tested) - paper)]
            rows.append([name, len(group), f"{group[0].params:,}", spread(running), spread(tested), *beside])
        return text_table(rows, header)

    def _read(self, record: Record) -> Evaluation:
        evaluation: Evaluation = getattr(record.result, PROTOCOLS[self.protocol])
        return evaluation


IN_LABEL = {"model.name", "model.depth", "model.shortcut", "model.constructed_from"} | {
    f"model.{n}" for n in NET_FIELDS
}
"""Fields that the label of a net contains."""


def told_apart(records: Sequence[Record]) -> list[str]:
    """Return the name of each net with the science fields that distinguish it: ``ResNet-20 optim.nesterov=True``.

    Values that more than half of the nets share are left out.
    """
    told = [_told_fields(record) for record in records]
    names = [[record.label] for record in records]
    for field in told[0]:
        value, count = Counter(fields[field] for fields in told).most_common(1)[0]
        for name, fields in zip(names, told, strict=True):
            if fields[field] != value or 2 * count <= len(records):
                name.append(f"{field}={fields[field]}")
    return [" ".join(name) for name in names]


def _told_fields(record: Record) -> dict[str, str]:
    """Return the science fields that the label does not contain."""
    fields = {name: str(value) for name, value in record.science.flat().items() if name not in IN_LABEL}
    if fields["model.bn_group_size"] == fields["optim.batch_size"]:
        fields["model.bn_group_size"] = "batch"  # follows from another field
    return fields


def spread(values: Iterable[float]) -> str:
    """Return ``8.61 ± 0.12``, mean and standard deviation (n-1)."""
    numbers = list(values)
    if not numbers:
        return NOT_RUN
    deviation = f" ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.2f}{deviation}"
