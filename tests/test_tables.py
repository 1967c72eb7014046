"""Table 6 with planted records: like beside like, proxies apart, three formats that read back."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys

import pytest

from repro.config import NUMERICS_VERSION
from repro.errors import InputError
from repro.results import read_records
from repro.tables import FORMATS, table, to_csv, to_latex, to_markdown
from tests.planted import DEMO, edit, plant

OWN = ["ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "ResNet-110", "ResNet-1202"]
CITED = ["Maxout", "NIN", "DSN", "FitNet", "Highway", "Highway"]


def build(*roots, protocol="paper"):
    return table(6, read_records(roots), protocol)


def markdown(*roots, protocol="paper"):
    """The Markdown table as a list of {header: cell}, and the text below it."""
    text = to_markdown(build(*roots, protocol=protocol))
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header, _, *body = rows
    return [dict(zip(header, row, strict=True)) for row in body], text.split("\n\n")[-1]


def comma(*roots, protocol="paper"):
    return list(csv.DictReader(io.StringIO(to_csv(build(*roots, protocol=protocol)))))


def row(rows, label):
    return next(r for r in rows if label in (r.get("Method"), r.get("method")))


def test_an_empty_results_folder_gives_the_published_table_and_the_command(tmp_path):
    rows, notes = markdown(tmp_path)
    assert [r["Method"] for r in rows] == [*(f"{name} (cited)" for name in CITED), *OWN]
    assert [r["Paper"] for r in rows][:5] == ["9.38", "8.81", "8.22", "8.39", "7.54 (7.72±0.16)"]
    assert row(rows, "ResNet-110")["Paper"] == "6.43 (6.61±0.16)"
    assert row(rows, "ResNet-1202")["Params"] == "19.4M"
    assert {r["Measured"] for r in rows[6:]} == {r["Runs"] for r in rows[6:]} == {"–"}
    assert {r["Measured"] for r in rows[:6]} == {""}
    assert not any("Proxy" in name for name in rows[0])
    assert "Not run: 6 of the paper's 6 own rows" in notes
    assert "`repro run exp=cifar_depth_sweep`" in notes


def test_five_seeds_are_a_mean_and_a_sample_deviation(tmp_path):
    for seed, error in enumerate([8.5, 8.6, 8.7, 8.8, 8.9]):
        plant(tmp_path, 20, seed=seed, error=error)
    rows, notes = markdown(tmp_path)
    cells = row(rows, "ResNet-20")
    assert cells["Measured"] == "8.70 ± 0.16 (n=5)"
    assert cells["Difference"] == "−0.05"
    assert cells["Runs"] == "5: s0–s4"
    assert cells["Params"] == "0.27M (269,722)"
    assert "NVIDIA H200, tf32 (5 runs)" in notes
    assert notes.count("cifar10-resnet20-s") == 5
    line = row(comma(tmp_path), "ResNet-20")
    assert (line["n"], line["measured_mean"], line["measured_std"]) == ("5", "8.7", "0.158114")
    assert (line["measured_best"], line["difference"], line["difference_best"]) == ("8.5", "-0.05", "")
    assert len(line["run_ids"].split()) == 5


def test_best_stands_beside_best_only_for_the_same_number_of_runs(tmp_path):
    for seed, error in enumerate([6.5, 6.6, 6.7, 6.8]):
        plant(tmp_path, 110, seed=seed, error=error)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-110")["Measured"] == "6.65 ± 0.13 (n=4), best 6.50"
    assert row(rows, "ResNet-110")["Difference"] == "+0.04"
    assert "best of 4 here, best of 5 in the paper" in notes

    plant(tmp_path, 110, seed=4, error=6.4)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-110")["Measured"] == "6.60 ± 0.16 (n=5), best 6.40"
    assert row(rows, "ResNet-110")["Difference"] == "mean −0.01, best −0.03"
    assert "best of 5" not in notes
    assert row(comma(tmp_path), "ResNet-110")["difference_best"] == "-0.03"


def test_a_single_run_has_no_spread(tmp_path):
    plant(tmp_path, 110, error=6.5)
    cells = row(markdown(tmp_path)[0], "ResNet-110")
    assert cells["Measured"] == "6.50 (n=1)"
    assert cells["Difference"] == "−0.11"


def test_a_proxy_never_stands_under_measured(tmp_path):
    plant(tmp_path, 20, seed=0, error=58.0, scale="demo", science=DEMO)
    plant(tmp_path, 20, seed=1, error=60.0, scale="demo", science=DEMO)
    plant(tmp_path, 20, seed=0, error=9.0, scale="paper", science={"optim.lr": 0.2})
    smoke = {**DEMO, "data.name": "synthetic", "optim.steps": 20}
    plant(tmp_path, 56, seed=0, error=88.0, scale="smoke", exp="cifar_depth_sweep", science=smoke)
    rows, notes = markdown(tmp_path)
    cells = row(rows, "ResNet-20")
    assert (cells["Measured"], cells["Difference"]) == ("–", "–")
    assert cells["Proxy: demo (200 steps, 16x16)"] == "59.00 ± 1.41 (n=2)"
    assert cells["Proxy: custom (64000 steps, 32x32)"] == "9.00 (n=1)"
    assert row(rows, "ResNet-56")["Proxy: smoke (20 steps, 16x16, synthetic)"] == "88.00 (n=1)"
    assert row(rows, "ResNet-56")["Proxy: demo (200 steps, 16x16)"] == "–"
    assert [name.split()[1] for name in rows[0] if name.startswith("Proxy")] == ["demo", "smoke", "custom"]
    assert "Proxy custom, not comparable with the paper's values: optim.lr=0.2 (paper 0.1)" in notes
    assert "Measured at" not in notes
    line = row(comma(tmp_path), "ResNet-20")
    assert (line["n"], line["measured_mean"]) == ("", "")
    assert (line["proxy_demo_n"], line["proxy_demo_mean"], line["proxy_custom_mean"]) == ("2", "59.0", "9.0")


def test_other_shortcuts_and_plain_nets_fill_no_row(tmp_path):
    plant(tmp_path, 20, "B", error=8.0)
    plant(tmp_path, 20, "none", error=9.0)
    rows, _ = markdown(tmp_path)
    assert row(rows, "ResNet-20")["Measured"] == "–"
    assert not any("Proxy" in name for name in rows[0])


def test_what_is_left_out_is_named_and_not_averaged(tmp_path):
    plant(tmp_path, 20, seed=0, error=8.0)
    bad = plant(tmp_path, 20, seed=1, error=80.0)
    edit(bad, "result", "final", "errors", value=20000)
    moved = plant(tmp_path, 20, seed=2, error=80.0).rename(tmp_path / "moved")
    old = plant(tmp_path, 20, seed=0, error=80.0, numerics_version=NUMERICS_VERSION - 1)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-20")["Measured"] == "8.00 (n=1)"
    assert f"{bad.name}: result.final counts 20000 errors" in notes
    assert f"{moved.name}: its run_id" in notes
    assert f"numerics version {NUMERICS_VERSION - 1} instead of {NUMERICS_VERSION}: {old.name}" in notes


def test_dirty_and_unknown_commits_and_mixed_numerics_are_flagged(tmp_path):
    dirty = plant(tmp_path, 20, seed=0, dirty=True)
    unknown = plant(tmp_path, 32, seed=0, commit=None, numerics_version=NUMERICS_VERSION + 1)
    _, notes = markdown(tmp_path)
    assert f"uncommitted changes: {dirty.name}." in notes
    assert f"unknown commit: {unknown.name}." in notes
    assert f"different numerics versions: {NUMERICS_VERSION}, {NUMERICS_VERSION + 1}" in notes


def test_deleting_one_record_changes_exactly_its_row(tmp_path):
    for depth in (20, 32, 56):
        for seed in range(3):
            folder = plant(tmp_path, depth, seed=seed, error=8.0 + seed + depth / 100)
    before = comma(tmp_path)
    shutil.rmtree(folder)
    after = comma(tmp_path)
    changed = [a["method"] for a, b in zip(after, before, strict=True) if a != b]
    assert changed == ["ResNet-56"]
    assert row(after, "ResNet-56")["n"] == "2"


def test_the_common_protocol_reads_the_best_epoch_and_says_so(tmp_path):
    plant(tmp_path, 20, error=8.75, best=8.5)
    plant(tmp_path, 20, seed=1, error=60.0, best=59.0, scale="demo", science=DEMO)
    rows, notes = markdown(tmp_path, protocol="common")
    cells = row(rows, "ResNet-20")
    assert "Measured" not in cells
    assert cells["Measured, best epoch on the test set"] == "8.50 (n=1)"
    assert cells["Proxy: demo (200 steps, 16x16, best epoch)"] == "59.00 (n=1)"
    assert "Protocol `common`" in notes
    assert row(comma(tmp_path, protocol="common"), "ResNet-20")["protocol"] == "common"
    assert "best epoch on the test set" in to_latex(build(tmp_path, protocol="common"))
    with pytest.raises(InputError, match="protocol=peper is unknown"):
        build(tmp_path, protocol="peper")


def test_the_three_formats_tell_the_same(tmp_path):
    for seed in range(2):
        plant(tmp_path, 20, seed=seed, error=8.5 + seed)
        plant(tmp_path, 56, seed=seed, error=60.0, scale="demo", science=DEMO)
    rows, _ = markdown(tmp_path)
    latex = to_latex(build(tmp_path))
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    tex = [line.removesuffix(r" \\").split(" & ") for line in body.strip().splitlines()]
    assert [[c.replace("$\\pm$", "±").replace("$-$", "−").replace("--", "–") for c in r] for r in tex] == [
        list(r.values()) for r in rows
    ]
    lines = comma(tmp_path)
    assert [line["method"] for line in lines] == [*CITED, *OWN]
    assert [f"{float(line['paper']):.2f}" for line in lines] == [r["Paper"].split()[0] for r in rows]
    assert f"{float(row(lines, 'ResNet-20')['measured_mean']):.2f}" == row(rows, "ResNet-20")["Measured"].split()[0]
    assert set(FORMATS) == {"md", "csv", "tex"}


def test_latex_escapes_what_latex_reads(tmp_path):
    latex = to_latex(build(tmp_path))
    assert r"\texttt{repro run exp=cifar\_depth\_sweep}" in latex
    assert r"(\%)" in latex
    assert latex.count("{") == latex.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    for seed in range(5):
        plant(tmp_path / "runs", 110, seed=seed, error=6.5 + seed / 10)
    plant(tmp_path / "runs", 20, scale="demo", science=DEMO)
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + "\n"
    (tmp_path / "t.tex").write_text(document + to_latex(build(tmp_path / "runs")) + r"\end{document}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_table_needs_neither_torch_nor_pandas_nor_matplotlib():
    code = (
        "import sys; from repro.results import Reading; from repro.tables import FORMATS, table\n"
        "[write(table(6, Reading())) for write in FORMATS.values()]\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
