"""Table 1 counted on the models: layers and costs of the paper, in three formats."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from repro.report.tables import to_csv, to_latex, to_markdown
from repro.report.tables.table1 import Line, count, frame


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return count()


def sizes(lines: list[Line], label: str) -> dict[str, tuple[float, int]]:
    (line,) = [line for line in lines if line.row.label == label]
    return {net.option: (round(net.gflops, 3), net.size.params) for net in line.nets}


def test_the_layers_are_those_of_the_paper(lines: list[Line]) -> None:
    for line in lines:
        for net in line.nets if line.row.stages else ():
            assert net.stages == line.row.stages
    assert "All layers are as printed." in to_markdown(frame(lines))


def test_the_counts_come_to_the_printed_flops(lines: list[Line]) -> None:
    """Within 0.05 of the printed value, except for 50 layers: the paper truncates 3.858."""
    off = {
        line.row.label: line.nets[0].gflops
        for line in lines
        if line.nets and abs(line.nets[0].gflops - line.published) >= 0.05
    }
    assert {label: round(value, 3) for label, value in off.items()} == {"50-layer": 3.858}
    assert "50-layer: 3.858 counted, 3.8 printed" in to_markdown(frame(lines))


def test_the_plain_net_has_the_parameters_of_option_a_and_projections_cost_more(lines: list[Line]) -> None:
    found = sizes(lines, "34-layer")
    assert found["plain"] == found["A"] == (3.644, 21623848)
    assert (found["B"], found["C"]) == ((3.664, 21797672), (3.831, 22716840))
    assert "34-layer 21,623,848" in to_markdown(frame(lines))


def test_the_stride_in_the_3x3_layer_is_not_the_papers_count(lines: list[Line]) -> None:
    """Deviation D16."""
    found = sizes(lines, "50-layer")
    assert found["B"] == (3.858, 25557032)
    assert found["B, stride in the 3x3"] == (4.089, 25557032)
    (line,) = [line for line in lines if line.row.label == "50-layer"]
    compared = {net.option for net in line.nets if line.difference(net) is not None}
    assert compared == {"B", "B, stride in the 3x3"}


def test_a_net_that_is_not_the_papers_is_named(lines: list[Line]) -> None:
    first, *rest = lines
    row = dataclasses.replace(first.row, stages={**first.row.stages, "conv5_x": "7x7: 3x3 512, 3x3 512; 3 blocks"})
    changed = to_markdown(frame([dataclasses.replace(first, row=row), *rest]))
    assert ": 18-layer." in changed and ": 18-layer." not in to_markdown(frame(lines))


def test_the_formats_tell_the_same(lines: list[Line]) -> None:
    rows = [line for line in to_markdown(frame(lines)).splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    values = list(csv.DictReader(io.StringIO(to_csv(frame(lines)))))
    assert len(values) == len(cells) == sum(max(1, len(line.nets)) for line in lines)
    for line, row in zip(values, cells, strict=True):
        assert line["shortcut"] == row[1]
        assert not line["params"] or f"{int(line['params']):,}" in row
        assert not row[7] or float(row[7]) == float(line["paper_gflops"])
    assert [row[0] for row in cells[-3:]] == ["VGG-16 (cited)", "VGG-19 (cited)", "34-layer, beside VGG-19"]
    assert cells[-1][-2:] == ["18", "18.6"]
    latex = to_latex(frame(lines))
    assert latex.count("{") == latex.count("}")
    assert latex.count(r" \\") == len(rows) + 1
