"""The table of all papers' nets on CIFAR-10, and the later papers among the rendered files and on the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from repro.cli.main import main
from repro.config.compose import plan
from repro.models.count import Size
from repro.papers import later_papers, load_table
from repro.report.render import read_evidence, render, verify
from repro.report.tables import FORMATS, overview, to_csv
from repro.results.read import Reading, read_records
from tests.planted import plant, plant_planned
from tests.rendered import short_table_1


@pytest.fixture
def uncounted() -> Iterator[None]:
    """Replace the count of each net, which takes seconds for the deepest ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("repro.models.count.measure", lambda model, size, classes: Size(1000 * model.depth, 10**6))
        yield


@pytest.mark.usefixtures("uncounted")
def test_every_net_stands_once_by_its_error_with_its_protocol(tmp_path: Path) -> None:
    for seed in range(2):
        plant(tmp_path, 110, seed=seed, error=6.5 + seed / 10)
    for config in plan(["exp=wide_resnet_width", "scale=tenth", "model.depth=16", "model.width=8", "seed=0"]).runs:
        plant_planned(tmp_path, config, 5.5)
    frame = overview.overview(read_records([tmp_path]))
    rows = [{name: cell.text for name, cell in row.items()} for row in frame.rows]
    failed = [row["Printed as"] == "failed" for row in rows]
    errors = [float(row["Printed"].lstrip(">").split()[0]) for row in rows]
    assert failed == sorted(failed) and failed.count(True) == 5
    assert errors[: failed.count(False)] == sorted(errors[: failed.count(False)])
    of_110 = [row for row in rows if row["Net"] == "ResNet-110"]
    assert [(row["Printed"], row["Printed as"], row["Printed in"]) for row in of_110] == [
        ("6.41", "single", "Stochastic Depth, Table 1"),
        ("6.43 (6.61±0.16)", "best of 5", "Deep Residual Learning, Table 6"),
        ("6.61", "median of 5", "Identity Mappings, Tables 1, 2, 3, 4"),
    ]
    assert [row["Measured"] for row in of_110] == ["–", "6.55 ± 0.07 (n=2)", "6.55 ± 0.07 (n=2)"]
    assert [row["Epochs"] for row in of_110] == ["500", "164", "164"]
    assert [row["Images"] for row in of_110] == ["channel mean, deviation", "pixel mean", "pixel mean"]
    assert "held-out" in of_110[0]["Unlike here"] and not of_110[1]["Unlike here"]
    wide = [row for row in rows if row["Net"] == "WRN-16-8"]
    assert [(row["Printed"], "ZCA" in row["Unlike here"]) for row in wide] == [("4.27", False), ("4.81", True)]
    assert {row["Proxy (largest budget)"] for row in wide} == {"tenth: 5.50 (n=1)"}
    assert not [row for row in rows if "CIFAR-100" in row["Net"]]
    bare = [row["Printed"] for row in rows if "not augmented" in row["Images"] and "Stochastic" in row["Printed in"]]
    assert bare == ["11.66", "13.63"]


@pytest.mark.usefixtures("uncounted")
def test_programs_and_papers_can_read_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frame = overview.overview(Reading())
    found = list(csv.DictReader(io.StringIO(to_csv(frame))))
    (deep,) = [row for row in found if row["net"] == "PreResNet-1001"]
    said = [deep[name] for name in ("published", "published_as", "tables", "steps", "params", "measured_n")]
    assert said == ["4.92", "median of 5", "3 4", "64000", "1001000", ""]
    assert "of the paper" not in FORMATS["tex"](frame)
    assert FORMATS["md"](frame).startswith(f"**{overview.TITLE}.**")
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]
    assert main(["table", "cifar10", "--format", "md", *folders, "--unpublished"]) == 0
    assert capsys.readouterr().out == FORMATS["md"](frame)
    assert main(["table", "cifar10", "--scale", "demo", *folders]) == 2


def test_parameters_and_multiply_adds_are_counted_on_the_nets() -> None:
    small = [net for net in overview.nets(Reading(), "paper") if net.paper.label == "ResNet-20"]
    assert [overview._size(net) for net in small] == [(269_722, 40_551_040)]


def test_later_papers_are_rendered_apart_and_verified(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for config in plan(["exp=wide_resnet_width", "scale=demo"]).runs:
        plant_planned(results / "runs", config, 60.0)
    with short_table_1():
        evidence = read_evidence(results)
        written = {path.relative_to(results).as_posix() for path in render(evidence, results, papers=["wide_resnet"])}
        assert {"tables/wide_resnet/table4.md", "figures/wide_resnet/figure_width-demo.svg"} <= written
        assert "claims-wide_resnet.md" in written and not written & {"tables/table6.md", "claims.md"}
        render(evidence, results)
        assert verify(read_evidence(results), results) == []
        stray = results / "figures" / "wide_resnet" / "figure_width.csv"
        stray.write_text("", encoding="utf-8")
        assert verify(read_evidence(results), results) == [
            "results/figures/wide_resnet/figure_width.csv comes from no record: delete it"
        ]
    page = (results / "report.html").read_text(encoding="utf-8")
    places = [*(f"paper-{name}" for name in later_papers()), "table-wide_resnet-4", "claim-width_beats_depth"]
    for place in (*places, "figure-wide_resnet-width-demo", "table-cifar10"):
        assert page.count(f'id="{place}"') == 1
    assert 'href="#table-wide_resnet-4"' in page, "from its claims"
    assert load_table("wide_resnet/4").title in page


def test_an_unknown_paper_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]
    assert main(["render", "tables", "--paper", "alexnet", *folders]) == 2
    assert "'alexnet'" in capsys.readouterr().err
    assert main(["render", "--verify", "--paper", "wide_resnet", *folders]) == 2


@pytest.mark.usefixtures("uncounted")
def test_python_takes_the_table_of_all_nets_and_those_of_later_papers() -> None:
    import repro

    assert "Printed as" in repro.table("cifar10", only="published").columns
    assert "WRN-28-10" in set(repro.table("wide_resnet/4", only="published")["Method"])
