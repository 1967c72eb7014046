"""Generated files: rendered from records and compared with them; one record changes only its rows."""

from __future__ import annotations

import csv
import io
import re
import shutil

import pytest

from repro.errors import InputError
from repro.papers import later_tables
from repro.papers.claims import papers_with_claims
from repro.report.render import PARTS, pages_of, read_evidence, render, verify
from tests.planted import edit, plant, scale_science
from tests.rendered import plant_some, short_table_1

README = "# Title\n\nBefore.\n\n<!-- repro:begin table6 -->\nold\n<!-- repro:end table6 -->\n\nAfter.\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Render everything into a checkout; return its folder."""
    root = tmp_path_factory.mktemp("checkout")
    plant_some(root / "results")
    (root / "docs").mkdir()
    (root / "README.md").write_text(README, encoding="utf-8")
    (root / "docs" / "proxies.md").write_text("<!-- repro:begin demo -->\n<!-- repro:end demo -->\n", encoding="utf-8")
    with short_table_1():
        render(read_evidence(root / "results"), root / "results", PARTS, pages_of(root))
    return root


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def faults(root):
    with short_table_1():
        return verify(read_evidence(root / "results"), root / "results", pages_of(root))


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_was_rendered_is_what_the_records_give(made):
    assert faults(made) == []
    forms, folder = ("md", "csv", "tex"), made / "results" / "tables"
    names = [*(f"table{number}" for number in range(1, 15)), "table_cifar10"]
    names += [f"{paper}/table{number}" for paper, _, number in (key.partition("/") for key in later_tables())]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert found == {f"{name}.{form}" for name in names for form in forms}
    assert {path.name for path in (made / "results").glob("claims*.md")} == {
        "claims.md",
        *(f"claims-{paper}.md" for paper in papers_with_claims()[1:]),
    }
    for name in ("figure6.svg", "figure6.png", "figure6.csv", "figure1-demo.csv", "figure_warmup.svg"):
        assert (made / "results" / "figures" / name).stat().st_size > 0


def test_marked_sections_are_replaced_in_place(made):
    text = (made / "README.md").read_text(encoding="utf-8")
    table = (made / "results" / "tables" / "table6.md").read_text(encoding="utf-8")
    assert text == README.replace("old\n", table)
    proxies = (made / "docs" / "proxies.md").read_text(encoding="utf-8")
    assert "| plain-56 |" in proxies and "80.50 ± 0.71" in proxies


def test_the_runs_of_the_papers_budget_stand_with_their_device_and_time(tmp_path):
    runs = plant_some(tmp_path / "results")
    plant(runs, 20, "A", 0, 8.5, science={"optim.nesterov": True}, device="AMD EPYC", cuda=None)
    plant(runs, 110, "A", 0, 6.0, dirty=True)
    edit(next(runs.glob("cifar10-resnet56-*")), "execution", "world_size", value=4)
    edit(plant(runs, 44, "A", 0, 7.5), "execution", "runs_per_gpu", value="auto")
    lines = read_evidence(tmp_path / "results").section("measured").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert ["ResNet-20", "8.75", "8.70 ± 0.08", "−0.05", "5", "NVIDIA H200", "tf32", "1 min 40 s"] in cells
    assert ["plain-20", "–", "9.10 ± 0.08", "–", "5", "NVIDIA H200", "tf32", "1 min 40 s"] in cells
    other = ["ResNet-20, optim.nesterov=true", "–", "8.50", "–", "1", "AMD EPYC, 2 threads", "tf32", "1 min 40 s"]
    assert other in cells, "what is set apart says by what"
    assert any(row[:2] == ["ResNet-56", "6.97"] and row[5] == "4 x NVIDIA H200" for row in cells)
    shared = next(row for row in cells if row[0] == "ResNet-44")
    assert shared[5] == "NVIDIA H200, which several runs may share"
    assert len(cells) == 2 + 5, "neither the proxies nor a tree with changes"
    # 10 x 100 s, 4 devices for 100 s, and 2 x 100 s.
    assert lines[-1].startswith("13 runs, 0.4 device-hours of training and evaluation in all (")


def test_plain_and_residual_nets_stand_beside_each_other_by_depth(tmp_path):
    runs, science = tmp_path / "results" / "runs", scale_science("tenth")
    for depth, shortcut, error in ((32, "none", 20.0), (20, "none", 16.0), (20, "none", 17.0), (20, "A", 14.0)):
        seed = int(error == 17)
        plant(runs, depth, shortcut, seed, error, scale="tenth", science=science, train_error=error - 10)
    plant(runs, 20, "B", 0, 1.0, scale="tenth", science=science)
    rows = read_evidence(tmp_path / "results").section("depths").splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row]
    assert cells == [
        ["20", "6.50 ± 0.71", "4.00", "16.50 ± 0.71", "14.00", "2, 1"],
        ["32", "10.00", "–", "20.00", "–", "1, 0"],
    ]


def test_without_runs_of_the_papers_budget_the_page_says_so(tmp_path):
    assert "No run of the paper's budget" in read_evidence(tmp_path / "results").section("measured")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("results/tables/table6.md", "8.70 ± 0.08", "8.10 ± 0.08"),
        ("results/tables/table6.csv", "8.7,", "8.1,"),
        ("results/report.html", "8.70 ± 0.08", "8.10 ± 0.08"),
        ("results/claims.md", "claims:", "claims, perhaps:"),
        ("results/figures/figure1-demo.csv", "85", "15"),
        ("README.md", "8.70 ± 0.08", "8.10 ± 0.08"),
    ],
)
def test_an_edited_number_is_found_and_named(copy, file, old, new):
    change(copy / file, old, new)
    (fault,) = faults(copy)
    assert fault.startswith(f"{file} ") and re.search(r"line \d+", fault)
    assert new[:4] in fault


def test_a_missing_file_and_one_of_no_record_are_named(copy):
    (copy / "results" / "tables" / "table3.tex").unlink()
    (copy / "results" / "figures" / "figure7.png").unlink()
    (copy / "results" / "figures" / "figure6-smoke.csv").write_text("", encoding="utf-8")
    assert sorted(faults(copy)) == [
        "results/figures/figure6-smoke.csv comes from no record: delete it",
        "results/figures/figure7.png is missing",
        "results/tables/table3.tex is missing",
    ]


def test_pixels_and_drawing_are_not_compared(copy):
    (copy / "results" / "figures" / "figure6.png").write_bytes(b"other pixels")
    change(copy / "results" / "figures" / "figure6.svg", "<g", "<g data-other=''")
    change(copy / "results" / "report.html", "<g ", "<g data-other='' ")
    assert faults(copy) == []


def test_a_record_that_changed_is_found_where_it_is_used(copy):
    run = next((copy / "results" / "runs").glob("cifar10-resnet56-s0-*"))
    shutil.rmtree(run)
    named = {fault.split(" ")[0] for fault in faults(copy)}
    assert {"results/tables/table6.md", "results/figures/figure6.csv", "results/report.html", "README.md"} <= named
    assert not named & {"results/tables/table2.md", "results/figures/figure1.csv", "docs/proxies.md"}


@pytest.mark.parametrize(("run", "changed"), [("resnet20-s3", {"ResNet-20"}), ("plain56-demo-s0", set())])
def test_deleting_one_record_changes_exactly_the_rows_that_rest_on_it(made, copy, run, changed):
    shutil.rmtree(next((copy / "results" / "runs").glob(f"cifar10-{run}-*")))
    with short_table_1():
        render(read_evidence(copy / "results"), copy / "results", ["tables"])
    moved = set()
    for number in range(1, 15):
        before, after = (
            list(csv.DictReader(io.StringIO((root / f"results/tables/table{number}.csv").read_text(encoding="utf-8"))))
            for root in (made, copy)
        )
        moved |= {(number, old["method"]) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {(6, name) for name in changed}


def test_a_part_writes_only_itself(made, tmp_path):
    with short_table_1():
        written = render(read_evidence(made / "results"), tmp_path, ["report"], [])
    assert written == [tmp_path / "report.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_an_unknown_section_is_one_sentence(copy):
    change(copy / "README.md", "table6", "tabel6")
    with pytest.raises(InputError, match="unknown section 'tabel6'"):
        faults(copy)
