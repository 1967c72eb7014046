"""The nets of a demo as a table for a page in Markdown."""

from __future__ import annotations

from collections import defaultdict

from tabulate import tabulate

from repro.report.html.runs import group_anchor, order
from repro.report.summary import spread
from repro.results.read import Reading, Record


def nets_table(reading: Reading, exp: str) -> str:
    """The nets of experiment ``exp`` at demo scale in Markdown: mean ± standard deviation over their seeds."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in reading.records:
        if record.scale == "demo" and record.exp == exp:
            groups[group_anchor(record)].append(record)
    rows = []
    for group in sorted(groups.values(), key=lambda group: order(group[0])):
        train = [record.result.train.top1_error for record in group if record.result.train is not None]
        test = [record.result.final.top1_error for record in group]
        rows.append([group[0].label, f"{group[0].params:,}", spread(train), spread(test), str(len(group))])
    header = ["net", "parameters", "training error %", "test error %", "seeds"]
    text: str = tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=["left", *["right"] * 4])
    return f"{text}\n"
