"""Tables 7 to 12 from planted records of detectors."""

from __future__ import annotations

import pytest

from repro.errors import InputError
from repro.papers import load_recipe
from repro.report.tables import table, to_csv, to_latex
from repro.results.read import read_records
from tests.planted import flat_config
from tests.planted_detectors import RESNET, SMALL, VGG, plant_detector
from tests.report.test_tables import comma, markdown, row

SCALES = [200, 400, 600, 800, 1000]


def test_detectors_of_the_papers_recipe_are_measured_with_seeds_and_spread(tmp_path):
    for seed, value in enumerate((76.1, 76.5, 76.9)):
        plant_detector(tmp_path, value, seed)
    plant_detector(tmp_path, 73.0, run=VGG)
    rows, notes = markdown(tmp_path, number=7)
    assert [r["Measured"] for r in rows] == [
        "73.00 (n=1)",
        "not decidable here",
        "76.50 ± 0.40 (n=3)",
        "not decidable here",
    ]
    assert (rows[2]["Difference"], rows[2]["Runs"], rows[0]["Difference"]) == ("+0.10", "3: s0–s2", "−0.20")
    assert not any("Proxy" in name for name in rows[0])
    assert "Not run" not in notes and "the VOC 2012 test set" in notes
    line = comma(tmp_path, number=7)[2]
    assert (line["paper"], line["measured_mean"], line["measured_std"], line["n"]) == ("76.4", "76.5", "0.4", "3")
    assert line["measured_best"] == "76.9"  # a precision, so that the highest is the best
    assert len(line["run_ids"].split()) == 3


def test_two_detectors_of_a_seed_from_other_files_count_once(tmp_path):
    for start in ("weights.pth", "other.pth"):
        plant_detector(tmp_path, 76.0, run={**RESNET, "detection.start": start})
    rows, notes = markdown(tmp_path, number=7)
    assert rows[2]["Measured"] == "76.00 (n=1)" and "as another run of the same seed is" in notes


def test_without_runs_the_cells_say_not_run_and_name_the_experiments(tmp_path):
    rows, notes = markdown(tmp_path, number=7)
    assert [(r["Measured"], r["Runs"]) for r in rows] == [("–", "–"), ("not decidable here", "")] * 2
    assert "Not run: both of the rows that runs here can fill;" in notes
    assert (
        "`repro run exp=voc_detection_vgg detection.start=…`, `repro run exp=voc_detection detection.start=…`" in notes
    )
    assert "docs/detection.md" in notes and "RUN" not in notes
    assert "exp=coco_improvements" in markdown(tmp_path, number=9)[1]
    notes = markdown(tmp_path, number=10)[1]
    assert "`repro run exp=voc_final detection.start=…`" in notes and "that `exp=coco_detection` trained" in notes


def test_rows_are_named_so_that_a_list_of_them_can_be_read(tmp_path):
    improved = {"detection.refine": True, "detection.context": True, "detection.scales": SCALES}
    plant_detector(tmp_path, 30.0, run={**RESNET, **improved}, recipe="coco_recipe", data="coco")
    notes = markdown(tmp_path, number=9)[1]
    (line,) = [line for line in notes.splitlines() if "Not run" in line]
    named = line[line.index("(") + 1 : line.index("); `repro")].split("; ")
    assert named[:3] == ["baseline Faster R-CNN, VGG-16", "baseline Faster R-CNN, ResNet-101", "+ box refinement"]
    assert named[3].startswith("+ context (trained on") and len(named) == 4


def test_proxies_of_another_net_have_a_row_and_a_column_of_their_own(tmp_path):
    plant_detector(tmp_path, 30.0, run=SMALL, scale="demo", data="shapes")
    plant_detector(tmp_path, 5.0, run=SMALL, scale="smoke", data="shapes")
    rows, notes = markdown(tmp_path, number=7)
    column = "Proxy: demo, data=shapes (800 updates, shorter side 96)"
    assert [r["Measured"] for r in rows] == ["–", "not decidable here", "–", "not decidable here", "–"]
    assert (rows[4]["Method"], rows[4]["Paper"], rows[4][column]) == ("ResNet-18 B", "", "30.00 (n=1)")
    assert rows[4]["Proxy: smoke, data=shapes (8 updates, shorter side 96)"] == "5.00 (n=1)"
    assert rows[2][column] == "–" and "not comparable with the paper's values" in notes


def test_bodies_of_one_label_have_a_row_each(tmp_path):
    plant_detector(tmp_path, 30.0, run=SMALL, scale="demo")
    plant_detector(tmp_path, 20.0, run={**SMALL, "model.gate_bias": -3.0}, scale="demo")
    found = [(r["Method"], r["Proxy: demo (800 updates, shorter side 96)"]) for r in markdown(tmp_path, number=7)[0]]
    assert found[4:] == [
        ("ResNet-18 B (model.gate_bias=-3.0)", "20.00 (n=1)"),
        ("ResNet-18 B (model.gate_bias=0.0)", "30.00 (n=1)"),
    ]


def test_a_detector_of_coco_fills_no_row_of_voc_and_none_of_classification(tmp_path):
    plant_detector(tmp_path, 48.0, recipe="coco_recipe")
    plant_detector(tmp_path, 20.0, run=SMALL, recipe="coco_recipe", scale="smoke", data="shapes")
    assert [r["Measured"] for r in markdown(tmp_path, number=7)[0]] == ["–", "not decidable here"] * 2
    for number in (2, 4):
        assert not any("Proxy" in name for name in markdown(tmp_path, number=number)[0][0])
    cells = row(markdown(tmp_path, number=8)[0], "ResNet-101")
    assert cells["Measured mAP at IoU 0.5 (%)"] == "48.00 (n=1)"
    assert cells["Difference mAP at IoU 0.5 to 0.95 (%)"] == "−3.20"


def test_what_departs_from_the_recipe_or_has_too_few_images_is_not_measured(tmp_path):
    few = plant_detector(tmp_path, 76.0, images=4951)
    plant_detector(tmp_path, 60.0, 1, run={**RESNET, "detection.start": "imagenet-resnet101-demo-s0-0123abcd"})
    plant_detector(tmp_path, 70.0, 2, run={**RESNET, "detection.pooling": "align"})
    plant_detector(tmp_path, 70.0, 3, dirty=True)
    rows, notes = markdown(tmp_path, number=7)
    assert rows[2]["Measured"] == "–"
    assert f"{few.name}: it was tested on 4,951 images instead of all 4,952" in notes
    proxies = [name.split(" (")[0] for name in rows[0] if name.startswith("Proxy")]
    assert proxies == [
        "Proxy: custom, detection.pooling=align",
        "Proxy: custom, detection.start=imagenet-resnet101-demo",
    ]


def trained_on_imagenet(**changes):
    """Return the id of a run of ResNet-101 by the paper's recipe, with ``changes``."""
    fields = {**load_recipe("imagenet_recipe").fields, **RESNET, **changes}
    return flat_config(fields, 4, "paper", "imagenet_depth").run_id


@pytest.mark.parametrize("start", [trained_on_imagenet(), "resnet101-cd907fc2.pth"])
def test_weights_of_any_file_and_of_any_seed_on_imagenet_are_the_papers_start(tmp_path, start):
    plant_detector(tmp_path, 76.0, run={**RESNET, "detection.start": start})
    assert markdown(tmp_path, number=7)[0][2]["Measured"] == "76.00 (n=1)"


def test_weights_of_a_changed_run_on_imagenet_are_not_the_papers_start(tmp_path):
    start = trained_on_imagenet(**{"optim.steps": 10})
    assert start.startswith("imagenet-resnet101-s4-"), "its name does not tell the budget"
    plant_detector(tmp_path, 40.0, run={**RESNET, "detection.start": start})
    cells = markdown(tmp_path, number=7)[0][2]
    assert cells["Measured"] == "–"
    assert [cells[name] for name in cells if name.startswith("Proxy: custom, detection.start=")] == ["40.00 (n=1)"]


def test_each_improvement_fills_its_own_row_of_table_9(tmp_path):
    tests: list[dict[str, object]] = [
        {},
        {"refine": True},
        {"refine": True, "context": True},
        {"refine": True, "context": True, "scales": SCALES},
    ]
    for value, improved in zip((48.0, 50.0, 51.0, 54.0), tests, strict=True):
        run = {**RESNET, **{f"detection.{name}": setting for name, setting in improved.items()}}
        plant_detector(tmp_path, value, run=run, recipe="coco_recipe")
    rows, _ = markdown(tmp_path, number=9)
    measured = [r["Measured mAP at IoU 0.5 (%)"] for r in rows]
    assert measured == ["–", *(f"{value:.2f} (n=1)" for value in (48, 50, 51, 54)), *["not decidable here"] * 3]
    assert row(markdown(tmp_path, number=8)[0], "ResNet-101")["Measured mAP at IoU 0.5 (%)"] == "48.00 (n=1)"


def test_classes_have_a_line_for_the_paper_and_a_line_for_what_was_measured(tmp_path):
    plant_detector(tmp_path, 70.0)
    plant_detector(tmp_path, 30.0, run=SMALL, scale="demo")
    rows, _ = markdown(tmp_path, number=10)
    lines = [(r["Method"], r["Value"].split(" (")[0], r["mAP (%)"], r["tv"]) for r in rows]
    assert lines == [
        ("baseline, VGG-16", "paper", "73.2", "72.6"),
        ("baseline, VGG-16", "measured", "–", "–"),
        ("baseline, ResNet-101", "paper", "76.4", "72.0"),
        ("baseline, ResNet-101", "measured", "70.00", "70.00"),
        ("baseline+++, ResNet-101", "paper", "85.6", "86.8"),
        ("baseline+++, ResNet-101", "measured", "–", "–"),
        ("ResNet-18 B", "measured", "–", "–"),
        ("ResNet-18 B", "proxy: demo", "30.00", "30.00"),
    ]
    assert "graphicx" in to_latex(table(10, read_records([tmp_path])))
    assert "70.0" in to_csv(table(10, read_records([tmp_path])))


def test_table_12_has_the_images_that_are_scored_here(tmp_path):
    improved = {"detection.refine": True, "detection.context": True, "detection.scales": SCALES}
    plant_detector(tmp_path, 60.0, run={**RESNET, **improved}, recipe="imagenet_det_recipe")
    plant_detector(tmp_path, 50.0, run=RESNET, recipe="imagenet_det_recipe")
    rows, notes = markdown(tmp_path, number=12)
    cells = row(rows, "ResNet-101, single model (ILSVRC'15)")
    assert (cells["Measured val2 (%)"], cells["Measured test (%)"]) == ("60.00 (n=1)", "not decidable here")
    assert cells["Difference test (%)"] == "" and "Not decidable here (test (%)): the objects" in notes
    assert row(rows, "GoogLeNet (ILSVRC'14) (cited)")["Measured test (%)"] == ""
    assert [r["Measured val2 (%)"] for r in rows] == ["", "60.00 (n=1)", "–"]
    assert '`repro run exp=imagenet_detection "detection.members=[RUN,RUN]" detection.start=…`' in notes
    assert "in place of RUN: docs/detection.md" in notes
    assert all(r["Measured"] in ("–", "not decidable here") for r in markdown(tmp_path, number=7)[0])


IMPROVED = {**RESNET, "detection.refine": True, "detection.context": True, "detection.scales": SCALES}


def plant_ensemble(root, value, *, members=(1, 2), seed=0, **changes):
    """Plant detectors of Table 12 of the seeds ``members`` with ``changes``, and an ensemble of them and one more."""
    own = {"run": IMPROVED, "recipe": "imagenet_det_recipe", **changes}
    ids = [plant_detector(root, 60.0 + seed, seed, **own).name for seed in members]
    return plant_detector(root, value, seed, run={**IMPROVED, "detection.members": ids}, recipe="imagenet_det_recipe")


def test_an_ensemble_fills_its_row_of_table_12_and_not_that_of_one_net(tmp_path):
    plant_ensemble(tmp_path, 64.0)
    plant_ensemble(tmp_path, 65.0, members=(2, 1), seed=3)
    rows, _ = markdown(tmp_path, number=12)
    assert [r["Measured val2 (%)"] for r in rows] == ["", "61.50 ± 0.71 (n=2)", "64.50 ± 0.71 (n=2)"]
    assert rows[2]["Difference val2 (%)"] == "+0.90" and rows[2]["Measured test (%)"] == "not decidable here"
    assert not any("Proxy" in name for name in rows[0])


def test_an_ensemble_of_another_size_has_a_row_of_its_own(tmp_path):
    plant_ensemble(tmp_path, 62.0, members=(1,))
    rows, _ = markdown(tmp_path, number=12)
    assert [r["Measured val2 (%)"] for r in rows] == ["", "61.00 (n=1)", "–", "62.00 (n=1)"]
    assert rows[3]["Method"].endswith("multi-scale testing, ensemble of 2")
    baseline = plant_detector(tmp_path, 76.0)
    plant_detector(tmp_path, 78.0, 1, run={**RESNET, "detection.members": [baseline.name]})
    rows, _ = markdown(tmp_path, number=7)
    assert [(r["Method"], r["Measured"]) for r in rows[2::2]] == [
        ("ResNet-101", "76.00 (n=1)"),
        ("ResNet-101, ensemble of 2", "78.00 (n=1)"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {**IMPROVED, "optim.lr": 0.1}}, "departs from the recipe in optim.lr"),
        ({"run": {**IMPROVED, "detection.context": False}}, "departs from the recipe in detection.context"),
        ({"dirty": True}, "uncommitted changes"),
        ({"members": ()}, ""),
    ],
)
def test_an_ensemble_counts_only_with_nets_of_the_rows_recipe(tmp_path, changes, said):
    ensemble = plant_ensemble(tmp_path, 64.0, **changes)
    if not said:  # their records are elsewhere
        ids = [f"imagenet_det-fasterrcnn-resnet101-s{seed}-0123abcd" for seed in (1, 2)]
        run = {**IMPROVED, "detection.members": ids}
        ensemble, said = plant_detector(tmp_path, 64.0, run=run, recipe="imagenet_det_recipe"), "not among the records"
    rows, notes = markdown(tmp_path, number=12)
    assert row(rows, "ResNet-101, ensemble of 3 (ILSVRC'15)")["Measured val2 (%)"] == "–"
    (line,) = [line for line in notes.splitlines() if f"Left out: {ensemble.name}" in line]
    assert said in line


def test_nets_of_an_ensemble_may_have_been_tested_alone_without_improvements(tmp_path):
    plant_ensemble(tmp_path, 64.0, run={**IMPROVED, "detection.refine": False, "detection.scales": []})
    assert markdown(tmp_path, number=12)[0][2]["Measured val2 (%)"] == "64.00 (n=1)"


def test_a_detector_that_was_fine_tuned_from_coco_fills_its_row(tmp_path):
    improved = {"detection.refine": True, "detection.context": True, "detection.scales": SCALES}
    run = {
        **RESNET,
        **improved,
        "detection.pretrained": "coco",
        "detection.start": "coco-fasterrcnn-resnet101-s0-0123abcd",
    }
    plant_detector(tmp_path, 85.0, run=run)
    plant_detector(tmp_path, 80.0, 1, run={**run, "detection.start": "a-resnet101-of-coco-0.pth"})
    plant_detector(tmp_path, 80.0, 2, run={**run, "detection.pretrained": "detector"})
    rows, _ = markdown(tmp_path, number=10)
    (measured,) = [r for r in rows if r["Method"].startswith("baseline+++") and r["Value"] == "measured"]
    assert (measured["mAP (%)"], measured["Runs"]) == ("85.00", "1: s0")
    assert all(r["mAP (%)"] in ("–", "73.2", "76.4") for r in rows if r["Method"].startswith("baseline,"))


def test_detectors_have_no_best_epoch(tmp_path):
    with pytest.raises(InputError, match=r"Table 7 .*protocol=paper.*protocol=common"):
        table(7, read_records([tmp_path]), "common")
