"""Tables of planted records: like compared with like, separate proxies and ensembles, three readable formats."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys

import pytest

from repro.cli.main import main
from repro.errors import InputError
from repro.papers import load_table, table_numbers
from repro.report.tables import FORMATS, table, to_csv, to_latex, to_markdown
from repro.results.ensembles import read_ensembles
from repro.results.read import read_records
from tests.planted import DEMO, PRESENT, edit, plant, scale_science
from tests.planted_imagenet import TINY, plant_ensemble, plant_imagenet

OWN = ["ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56", "ResNet-110", "ResNet-1202"]
CITED = ["Maxout", "NIN", "DSN", "FitNet", "Highway", "Highway"]


def build(*roots, number=6, protocol="paper"):
    return table(number, read_records(roots), protocol)


def parsed(text):
    """Parse a Markdown table into a list of {header: cell}, and the text below it."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    header, _, *body = rows
    return [dict(zip(header, row, strict=True)) for row in body], text.split("\n\n")[-1]


def markdown(*roots, number=6, protocol="paper"):
    return parsed(to_markdown(build(*roots, number=number, protocol=protocol)))


def comma(*roots, number=6, protocol="paper"):
    return list(csv.DictReader(io.StringIO(to_csv(build(*roots, number=number, protocol=protocol)))))


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
    assert "Not run: all 6 of the paper's own rows; `repro run exp=cifar_depth_sweep`." in notes
    assert "`repro run exp=cifar_depth_sweep`" in notes


def test_one_seed_alone_is_named(tmp_path):
    plant(tmp_path, 20, "A", 0, 8.5)
    for seed in range(2):
        plant(tmp_path, 56, "A", seed, 7.0)
    notes = markdown(tmp_path)[1]
    assert "seed (ResNet-20)" in notes and "seed (ResNet-56" not in notes


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
    smoke = scale_science("smoke", "synthetic")
    plant(tmp_path, 56, seed=0, error=88.0, scale="smoke", exp="cifar_depth_sweep", science=smoke)
    rows, notes = markdown(tmp_path)
    cells = row(rows, "ResNet-20")
    assert (cells["Measured"], cells["Difference"]) == ("–", "–")
    assert cells["Proxy: demo (400 steps, 16x16)"] == "59.00 ± 1.41 (n=2)"
    assert cells["Proxy: custom, optim.lr=0.2 (64000 steps, 32x32)"] == "9.00 (n=1)"
    assert row(rows, "ResNet-56")["Proxy: smoke, data=synthetic (8 steps, 8x8)"] == "88.00 (n=1)"
    assert row(rows, "ResNet-56")["Proxy: demo (400 steps, 16x16)"] == "–"
    assert [name.split()[1].strip(",") for name in rows[0] if name.startswith("Proxy")] == ["demo", "smoke", "custom"]
    assert "Proxy custom, optim.lr=0.2: not comparable with the paper's values: optim.lr=0.2 (paper 0.1)" in notes
    assert "Measured at" not in notes
    line = row(comma(tmp_path), "ResNet-20")
    assert (line["n"], line["measured_mean"]) == ("", "")
    assert (line["proxy_demo_n"], line["proxy_demo_mean"], line["proxy_custom_optim.lr_0.2_mean"]) == (
        "2",
        "59.0",
        "9.0",
    )


def test_of_several_budgets_a_row_shows_the_largest_and_the_others_are_named(tmp_path):
    plant(tmp_path, 20, "A", 0, 47.0, scale="demo", science=scale_science("demo"))
    plant(tmp_path, 56, "A", 0, 59.0, scale="demo", science=scale_science("demo"))
    plant(tmp_path, 20, "A", 0, 12.0, scale="tenth", science=scale_science("tenth"))
    rows, notes = markdown(tmp_path)
    tenth, demo = "Proxy: tenth (6400 steps, 32x32)", "Proxy: demo (400 steps, 16x16)"
    assert [(row(rows, net)[tenth], row(rows, net)[demo]) for net in ("ResNet-20", "ResNet-56")] == [
        ("12.00 (n=1)", "–"),
        ("–", "59.00 (n=1)"),
    ]
    assert "Also run at scale=demo: `repro table 6 --scale demo`." in notes
    plant(tmp_path, 56, "A", 0, 14.0, scale="tenth", science=scale_science("tenth"))
    assert demo not in markdown(tmp_path)[0][0]
    filled = table(6, read_records([tmp_path]), scale="demo")
    assert [name for name in filled.header if name.startswith("Proxy")] == [demo]


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
    old = plant(tmp_path, 20, seed=0, error=80.0, numerics_version=PRESENT - 1)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-20")["Measured"] == "8.00 (n=1)"
    assert f"{bad.name}: result.final counts 20000 errors" in notes
    assert f"{moved.name}: its run_id" in notes
    assert f"numerics version {PRESENT - 1} instead of {PRESENT}: {old.name}" in notes


def test_a_dirty_tree_is_named_and_not_averaged_in(tmp_path):
    plant(tmp_path, 20, seed=0, error=8.0)
    dirty = plant(tmp_path, 20, seed=1, error=80.0, dirty=True)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-20")["Measured"] == "8.00 (n=1)"
    assert f"uncommitted changes: {dirty.name}." in notes


def test_unknown_commits_and_mixed_numerics_are_flagged(tmp_path):
    plant(tmp_path, 20, seed=0)
    unknown = plant(tmp_path, 32, seed=0, commit=None, numerics_version=PRESENT + 1)
    _, notes = markdown(tmp_path)
    assert f"unknown commit: {unknown.name}." in notes
    assert f"different numerics versions: {PRESENT}, {PRESENT + 1}" in notes


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
    assert cells["Proxy: demo (400 steps, 16x16, best epoch)"] == "59.00 (n=1)"
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


@pytest.mark.parametrize(("number", "width", "pieces"), [(6, 80, 2), (6, 240, 1), (9, 80, 4), (9, 240, 1)])
def test_a_terminal_shows_every_value_within_its_width(tmp_path, monkeypatch, capsys, number, width, pieces):
    plant(tmp_path / "work", 20, "A", 0, 8.75)
    plant(tmp_path / "work", 56, "A", 0, 60.0, scale="demo", science=DEMO)
    monkeypatch.setenv("COLUMNS", str(width))
    (tmp_path / "results").mkdir()
    folders = [f"paths.work={tmp_path}/work", f"paths.results={tmp_path}/results"]
    assert main(["table", str(number), *folders]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    frame = table(number, read_records([tmp_path / "work"]))
    words = text.split()
    for cell in [cell for row in frame.rows for name, cell in row.items() if name != "Runs"]:
        assert set(cell.text.split()) <= set(words), cell.text
    assert len([line for line in text.splitlines() if line.startswith("Method")]) == pieces


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
    written = [to_latex(build(tmp_path / "runs", number=number)) for number in table_numbers()]
    document = [r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}", *written, r"\end{document}"]
    (tmp_path / "t.tex").write_text("\n\\clearpage\n".join(document), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_table_needs_neither_torch_nor_pandas_nor_matplotlib():
    code = (
        "import sys; from repro.results.read import Reading; from repro.report.tables import FORMATS, table\n"
        "[write(table(n, Reading())) for write in FORMATS.values() for n in range(1, 15)]\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Tables of ImageNet: several metrics, and tests of the final net on several views.


def records(root, **kinds):
    """Plant ResNet-34 B, ResNet-50 and other given nets, with both views, in a folder."""
    for depth, error in ((34, 24.6), (50, 22.9)):
        views = {"10crop": (error, error / 3), "multiscale": (error - 2.5, error / 4)}
        plant_imagenet(root, depth, "B", error=error + 2, views=views, **kinds)


@pytest.mark.parametrize(
    ("number", "top1", "top5", "differences"),
    [(3, "24.60", "8.20", ("+0.08", "+0.74")), (4, "22.10", "6.15", ("+0.26", "+0.44"))],
)
def test_tables_3_and_4_read_their_own_view(tmp_path, number, top1, top5, differences):
    records(tmp_path)
    rows, notes = markdown(tmp_path, number=number)
    cells = row(rows, "ResNet-34 B")
    assert cells["Measured top-1 error (%)"] == f"{top1} (n=1)"
    assert cells["Measured top-5 error (%)"] == f"{top5} (n=1)"
    assert (cells["Difference top-1 error (%)"], cells["Difference top-5 error (%)"]) == differences
    assert row(rows, "ResNet-50")["Measured top-1 error (%)"].endswith("(n=1)")
    assert row(rows, "ResNet-34 C")["Measured top-1 error (%)"] == "–"
    assert "Left out" not in notes
    line = row(comma(tmp_path, number=number), "ResNet-34 B")
    assert f"{float(line['top1_error_measured_mean']):.2f}" == top1
    assert f"{float(line['top5_error_measured_mean']):.2f}" == top5
    assert line["top5_error_n"] == "1"


def test_table_2_averages_the_ten_crop_errors_of_its_seeds(tmp_path):
    for seed, error in enumerate([24.9, 25.1, 25.3]):
        plant_imagenet(tmp_path, 34, "A", seed, views={"10crop": (error, 8.0), "multiscale": (22.0, 6.0)})
    plant_imagenet(tmp_path, 34, "none", views={"10crop": (28.5, 10.0), "multiscale": (26.0, 8.0)})
    rows, notes = markdown(tmp_path, number=2)
    assert row(rows, "ResNet-34 A")["Measured"] == "25.10 ± 0.20 (n=3)"
    assert row(rows, "ResNet-34 A")["Difference"] == "+0.07"
    assert row(rows, "plain-34")["Measured"] == "28.50 (n=1)"
    assert row(rows, "ResNet-18 A")["Measured"] == "–"
    assert "Not run: 2 of the paper's 4 own rows (plain-18, ResNet-18 A)" in notes
    assert "`repro run exp=imagenet_plain_vs_residual`" in notes


@pytest.mark.parametrize("number", [2, 3, 4])
def test_what_was_not_tested_on_all_images_is_never_measured(tmp_path, number):
    both = {"10crop": (20.0, 5.0), "multiscale": (20.0, 5.0)}
    part = plant_imagenet(tmp_path, 34, "A", seed=0, views=both, images=49999)
    part_b = plant_imagenet(tmp_path, 34, "B", seed=0, views=both, images=49999)
    untested = plant_imagenet(tmp_path, 34, "A", seed=1)
    rows, notes = markdown(tmp_path, number=number)
    assert {r[name] for r in rows for name in r if name.startswith("Measured")} <= {"–", ""}
    assert not any("Proxy" in name for name in rows[0])
    left_out = part_b if number == 4 else part
    assert f"Left out: {left_out.name}: it was tested on 49,999 images instead of all 50,000." in notes
    assert number == 4 or f"{untested.name}: it has no test 10crop" in notes
    assert "49999" not in to_csv(build(tmp_path, number=number))


def test_a_record_of_too_few_test_images_of_cifar_is_not_measured(tmp_path):
    folder = plant(tmp_path, 20, error=8.0)
    for name in ("final", "best"):
        edit(folder, "result", name, "images", value=9000)
        edit(folder, "result", name, "top1_error", value=100 * 800 / 9000)
        edit(folder, "result", name, "errors", value=800)
    rows, notes = markdown(tmp_path)
    assert row(rows, "ResNet-20")["Measured"] == "–"
    assert f"{folder.name}: it was tested on 9,000 images instead of all 10,000" in notes


def test_a_proxy_on_other_images_stands_in_its_own_column(tmp_path):
    records(tmp_path, scale="demo", science=TINY, images=10000)
    plant_imagenet(tmp_path, 34, "B", views={"10crop": (25.0, 8.0)}, images=200, science={"data.partial": True})
    rows, notes = markdown(tmp_path, number=3)
    cells = row(rows, "ResNet-34 B")
    assert cells["Measured top-1 error (%)"] == "–"
    assert cells["Proxy top-1 error (%): demo, data=tiny_imagenet (4000 steps, 56x56)"] == "24.60 (n=1)"
    assert cells["Proxy top-5 error (%): demo, data=tiny_imagenet (4000 steps, 56x56)"] == "8.20 (n=1)"
    assert cells["Proxy top-1 error (%): custom, data.partial=true (500000 steps, 224x224)"] == "25.00 (n=1)"
    assert (
        row(rows, "GoogLeNet (cited)")["Proxy top-1 error (%): custom, data.partial=true (500000 steps, 224x224)"] == ""
    )
    assert row(rows, "ResNet-101")["Proxy top-1 error (%): custom, data.partial=true (500000 steps, 224x224)"] == "–"
    assert (
        "Proxy custom, data.partial=true: not comparable with the paper's values: data.partial=True (paper default)"
        in notes
    )
    assert "no test" not in notes


def test_a_proxy_without_the_view_shows_its_final_evaluation_and_says_so(tmp_path):
    plant_imagenet(tmp_path, 34, "B", error=30.0, scale="demo", science={**TINY, "eval.views": []}, images=10000)
    rows, notes = markdown(tmp_path, number=4)
    proxy = "demo, data=tiny_imagenet, eval.views=[]"
    assert row(rows, "ResNet-34 B")[f"Proxy top-1 error (%): {proxy} (4000 steps, 56x56)"] == "30.00 (n=1)"
    assert f"Proxy {proxy}: it has no test multiscale" in notes


def test_cifar_nets_of_an_imagenet_depth_fill_no_row_of_imagenet(tmp_path):
    plant(tmp_path, 50, "B", error=6.0)
    plant(tmp_path, 152, "B", error=6.0)
    assert not any("Proxy" in name for name in markdown(tmp_path, number=3)[0][0])


def test_a_net_that_the_authors_only_tested_is_cited_with_a_note(tmp_path):
    rows, notes = markdown(tmp_path, number=3)
    assert row(rows, "VGG-16 (cited)")["Measured top-1 error (%)"] == ""
    assert row(rows, "GoogLeNet (cited)")["Paper top-1 error (%)"] == ""
    assert "- VGG-16: another group's net, which the authors tested themselves.\n" in notes
    assert "Not run: all 7 of the paper's own rows" in notes


def test_the_classes_of_table_11_stand_beside_their_mean(tmp_path):
    rows, _ = markdown(tmp_path, number=11)
    assert list(rows[0])[:4] == ["Method", "Setting", "mAP (%)", "aero"]
    assert (rows[2]["mAP (%)"], rows[2]["tv"], rows[0]["plant"]) == ("83.8", "80.0", "40.1")
    assert "graphicx" in to_latex(build(tmp_path, number=11))


def test_the_best_epoch_has_no_several_views(tmp_path):
    with pytest.raises(InputError, match=r"Table 3 .* 10crop.* protocol=paper.* protocol=common"):
        build(tmp_path, number=3, protocol="common")


@pytest.mark.parametrize("number", table_numbers())
def test_every_table_is_the_same_in_all_formats(tmp_path, number):
    records(tmp_path / "runs")
    labels = [r.label for r in load_table(number).rows]
    assert [line["method"] for line in comma(tmp_path / "runs", number=number)] == labels
    rows, _ = markdown(tmp_path / "runs", number=number)
    labels = [label for label in labels for _ in range(2 if number == 10 else 1)]  # with lines for what was measured
    assert [r["Method"].removesuffix(" (cited)") for r in rows] == labels
    latex = to_latex(build(tmp_path / "runs", number=number))
    assert latex.count("{") == latex.count("}")
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert [line.count(" & ") for line in body.strip().splitlines()] == [len(rows[0]) - 1] * len(labels)


# Our ensembles, beside Table 5.


def ensemble_table(root):
    return table(5, read_records([root]), ensembles=read_ensembles([root]))


def test_an_ensemble_stands_in_a_row_and_a_column_of_its_own(tmp_path):
    runs = [plant_imagenet(tmp_path, 50, "B"), *(plant_imagenet(tmp_path, 152, "B", seed) for seed in (0, 1))]
    plant_ensemble(tmp_path, runs, 4.2)
    rows, notes = parsed(to_markdown(ensemble_table(tmp_path)))
    assert rows[-1] == {
        "Method": "ensemble of 3: ResNet-50, ResNet-152 (2)",
        "Setting": "multiscale, 50,000 images of imagenet val",
        "Paper": "",
        "Ensemble, validation set": "4.20",
        "Here": "",
    }
    assert row(rows, "ResNet (ILSVRC'15)")["Ensemble, validation set"] == ""
    assert row(rows, "ResNet (ILSVRC'15)")["Here"] == "not decidable here"
    assert "Our ensembles are tested on the validation set, the published ones on the test set" in notes
    assert "No ensemble at the paper's budget" not in notes
    assert all(run.name in notes for run in runs)
    line = list(csv.DictReader(io.StringIO(to_csv(ensemble_table(tmp_path)))))[-1]
    assert (line["paper"], line["ensemble_validation_top5_error"], line["ensemble_images"]) == ("", "4.2", "50000")
    assert len(line["ensemble_run_ids"].split()) == 3


@pytest.mark.parametrize(
    "kind", ["fewer images", "a proxy among its members", "a member without a record", "other data", "a dirty tree"]
)
def test_an_ensemble_below_the_papers_budget_is_a_proxy(tmp_path, kind):
    science = TINY if kind == "a proxy among its members" else {}
    runs = [plant_imagenet(tmp_path, 50, "B"), plant_imagenet(tmp_path, 101, "B", science=science)]
    images = 49999 if kind == "fewer images" else 50000
    plant_ensemble(tmp_path, runs, 4.2, images=images, data="tiny_imagenet" if kind == "other data" else "imagenet")
    if kind == "a dirty tree":
        edit(runs[1], "provenance", "dirty", value=True)
    if kind == "a member without a record":
        shutil.rmtree(runs[1])
    rows, notes = parsed(to_markdown(ensemble_table(tmp_path)))
    assert rows[-1]["Ensemble, validation set"] == ""
    assert rows[-1]["Proxy: ensemble, validation set"] == "4.20"
    assert "No ensemble at the paper's budget: `repro run exp=imagenet_ensemble`" in notes
    line = list(csv.DictReader(io.StringIO(to_csv(ensemble_table(tmp_path)))))[-1]
    assert "ensemble_validation_top5_error" not in line
    assert float(line["proxy_ensemble_validation_top5_error"]) == pytest.approx(4.2, abs=0.001)


def test_an_ensemble_stands_in_no_other_table(tmp_path):
    runs = [plant_imagenet(tmp_path, depth, "B") for depth in (50, 101)]
    plant_ensemble(tmp_path, runs, 4.2)
    text = to_markdown(table(4, read_records([tmp_path]), ensembles=read_ensembles([tmp_path])))
    assert "nsemble" not in text


def test_a_damaged_ensemble_is_named_below_table_5(tmp_path):
    runs = [plant_imagenet(tmp_path, depth, "B") for depth in (50, 101)]
    ensemble = plant_ensemble(tmp_path, runs, 4.2)
    (tmp_path / "ensembles" / ensemble.ensemble_id / "ensemble.json").write_text("{}", encoding="utf-8")
    text = to_markdown(ensemble_table(tmp_path))
    assert f"ensembles/{ensemble.ensemble_id}: schema=None" in text
    assert "| ensemble of" not in text
