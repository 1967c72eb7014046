"""Table 13 from planted records of localizers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from repro.papers import load_recipe
from repro.report.detection import localizer_line
from repro.results.localization_record import read_localization_record
from repro.results.read import read_records
from repro.results.scales import compared, label
from tests.planted_localizers import RESNET, classifier, plant_localizer
from tests.report.test_tables import markdown
from tests.runs import config

GIVEN, PREDICTED = "error, class given (%)", "top-5 error, class predicted (%)"
TESTED: dict[str, tuple[int, int | None]] = {"1crop": (6500, 8000), "dense": (6000, 7500)}
ENSEMBLE = [classifier(depth) for depth in (50, 101, 152)]
RCNN = {"localization.method": "rcnn"}
SMALL = {"model.depth": 18, "model.shortcut": "B", "model.width": 0.25}


def test_each_view_of_a_run_fills_its_own_row(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    plant_localizer(tmp_path, {**TESTED, "dense": (6100, 7500)}, 1)
    rows, _ = markdown(tmp_path, number=13)
    given = [r[f"Measured {GIVEN}"] for r in rows]
    assert given == ["", "13.00 ± 0.00 (n=2)", "12.10 ± 0.14 (n=2)", "", "", ""]
    predicted = [r[f"Measured {PREDICTED}"] for r in rows]
    assert predicted == ["", "", "", "15.00 ± 0.00 (n=2)", "–", "–"]
    assert rows[1][f"Difference {GIVEN}"] == "−0.30" and rows[3][f"Difference {PREDICTED}"] == "+0.60"


def test_a_run_without_predicted_classes_fills_the_rows_of_given_ones_alone(tmp_path: Path) -> None:
    plant_localizer(tmp_path, {view: (wrong, None) for view, (wrong, _) in TESTED.items()})
    rows, _ = markdown(tmp_path, number=13)
    assert rows[1][f"Measured {GIVEN}"] == "13.00 (n=1)" and rows[3][f"Measured {PREDICTED}"] == "–"


def test_only_classes_of_the_net_that_a_row_names_are_averaged_and_a_seed_counts_once(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    other = plant_localizer(tmp_path, {**TESTED, "dense": (6000, 11_000)}, classes=[classifier(18)]).name
    plant_localizer(tmp_path, {view: (wrong, None) for view, (wrong, _) in TESTED.items()})
    rows, notes = markdown(tmp_path, number=13)
    assert [r[f"Measured {GIVEN}"] for r in rows[1:3]] == ["13.00 (n=1)", "12.00 (n=1)"]
    assert rows[3][f"Measured {PREDICTED}"] == "15.00 (n=1)"
    assert f"which are not those of imagenet-resnet101: {other}" in notes and "as another run of the same seed" in notes
    assert len(rows) == 6


def test_seeds_without_predicted_classes_leave_the_mean_of_the_others(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    plant_localizer(tmp_path, {"1crop": (6600, None), "dense": (6100, None)}, 1)
    shallow = {**RESNET, "model.depth": 50}
    plant_localizer(tmp_path, TESTED, run=shallow)
    plant_localizer(tmp_path, {"1crop": (6600, None), "dense": (6100, None)}, 1, run=shallow)
    rows, _ = markdown(tmp_path, number=13)
    assert (rows[1][f"Measured {GIVEN}"], rows[3][f"Measured {PREDICTED}"]) == ("13.10 ± 0.14 (n=2)", "15.00 (n=1)")
    own = rows[7]
    assert (own[f"Measured {GIVEN}"], own[f"Measured {PREDICTED}"]) == ("12.10 ± 0.14 (n=2)", "15.00 (n=1)")


def test_a_net_of_ones_own_has_rows_for_each_net_that_predicts_its_classes(tmp_path: Path) -> None:
    shallow = {**RESNET, "model.depth": 50}
    plant_localizer(tmp_path, TESTED, run=shallow)
    plant_localizer(tmp_path, {**TESTED, "dense": (6100, 11_000)}, 1, run=shallow, classes=[classifier(18)])
    rows, _ = markdown(tmp_path, number=13)
    dense = {r["Setting"]: r[f"Measured {PREDICTED}"] for r in rows[6:] if r["Setting"].startswith("dense")}
    by = "dense, several scales, class predicted by imagenet-"
    assert dense == {f"{by}resnet101": "15.00 (n=1)", f"{by}resnet18-b": "22.00 (n=1)"}
    plant_localizer(tmp_path, TESTED, 2, run=shallow, scale="demo", classes=["tiny_imagenet-resnet18-demo-s0-01234567"])
    assert any("classes_of=[tiny_imagenet-resnet18-demo]" in name for name in markdown(tmp_path, number=13)[0][0])


def test_an_ensemble_of_localizers_has_a_row_of_its_own(tmp_path: Path) -> None:
    members = [plant_localizer(tmp_path, TESTED, seed).name for seed in (1, 2)]
    ensemble = {**RESNET, "localization.members": members}
    joined = plant_localizer(tmp_path, {**TESTED, "dense": (5000, 7000)}, run=ensemble)
    rows, notes = markdown(tmp_path, number=13)
    assert [r[f"Measured {GIVEN}"] for r in rows[1:3]] == ["13.00 ± 0.00 (n=2)", "12.00 ± 0.00 (n=2)"]
    assert {r["Method"] for r in rows[6:]} == {"ResNet-101, ensemble of 3"}
    assert [r[f"Measured {GIVEN}"] for r in rows[6:]] == ["13.00 (n=1)", "10.00 (n=1)"]
    assert not any("Proxy" in name for name in rows[0]) and "Left out" not in notes
    records = [read_localization_record(tmp_path / name / "record.json") for name in (members[0], joined.name)]
    alone, together = map(localizer_line, records)
    assert "RPN ResNet-101 seed 1:" in alone and "RPN ResNet-101, ensemble of 3, seed 0:" in together
    assert "10.00 %, 14.00 % in five predicted classes (dense), 50,000 images" in together


def test_r_cnn_fills_the_rows_of_its_own_and_an_ensemble_of_three_that_of_table_14(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    regions, nets = {**RESNET, **RCNN}, {depth: {**RESNET, "model.depth": depth} for depth in (50, 152)}
    other = plant_localizer(tmp_path, {"dense": (5000, 6000)}, run=regions).name
    plant_localizer(tmp_path, TESTED, run=nets[50])
    shallow = plant_localizer(tmp_path, {"dense": (5500, 6500)}, run={**nets[50], **RCNN}).name
    deep = {**nets[152], **RCNN, "localization.members": [shallow, other]}
    plant_localizer(tmp_path, TESTED, run=nets[152], classes=ENSEMBLE)
    plant_localizer(tmp_path, {"dense": (4000, 5000)}, run=deep, classes=ENSEMBLE)
    plant_localizer(tmp_path, {"dense": (4100, 5100)}, run={**regions, "localization.members": [shallow]})
    rows, _ = markdown(tmp_path, number=13)
    assert [r[f"Measured {PREDICTED}"] for r in rows[3:6]] == ["15.00 (n=1)", "12.00 (n=1)", "10.00 (n=1)"]
    small, large = "ResNet-50", "ResNet-152"
    own = [f"{small} + R-CNN", small, small, "ResNet-101 + R-CNN, ensemble of 2", large, large]
    assert [r["Method"] for r in rows[6:]] == own
    rows, _ = markdown(tmp_path, number=14)
    ours = next(row for row in rows if row["Method"].startswith("ResNet"))
    assert (ours["Measured validation (%)"], ours["Measured test (%)"]) == ("10.00 (n=1)", "not decidable here")


def test_without_runs_the_commands_say_what_to_fill_in(tmp_path: Path) -> None:
    _, notes = markdown(tmp_path, number=13)
    command = 'repro run exp=imagenet_localization "localization.classes_of=[RUN]" localization.start=…'
    assert f"`{command}`" in notes and "docs/localization.md" in notes
    assert '"localization.members=[RUN,RUN]" localization.start=…`' in notes
    assert "Not run: the only one of the paper's own rows;" in markdown(tmp_path, number=14)[1]


def test_r_cnn_needs_the_record_of_the_localizer_that_proposes_by_the_recipe_from_a_clean_tree(tmp_path: Path) -> None:
    of_regions = plant_localizer(tmp_path, {"dense": (5000, 6000)}, run={**RESNET, **RCNN})
    rows, notes = markdown(tmp_path, number=13)
    assert rows[4][f"Measured {PREDICTED}"] == "–"
    assert f"whose proposals {of_regions.name} takes, is not among the records" in notes
    plant_localizer(tmp_path, TESTED, dirty=True)
    rows, notes = markdown(tmp_path, number=13)
    assert rows[4][f"Measured {PREDICTED}"] == "–"
    assert f"whose proposals {of_regions.name} takes, was made from a tree with uncommitted changes" in notes
    plant_localizer(tmp_path, TESTED)
    assert markdown(tmp_path, number=13)[0][4][f"Measured {PREDICTED}"] == "12.00 (n=1)"
    departing = plant_localizer(tmp_path, TESTED, run={**RESNET, "optim.lr": 0.02}).name
    name_proposers(of_regions, [departing])
    rows, notes = markdown(tmp_path, number=13)
    assert rows[4][f"Measured {PREDICTED}"] == "–"
    assert f"{departing}, whose proposals {of_regions.name} takes, departs from the recipe in optim.lr" in notes
    name_proposers(of_regions, [])
    assert "does not name the localizer whose proposals it takes" in markdown(tmp_path, number=13)[1]


def test_the_members_of_an_ensemble_with_r_cnn_need_the_localizers_that_propose_to_them(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    plant_localizer(tmp_path, TESTED, run={**RESNET, "model.depth": 152}, classes=ENSEMBLE)
    nets = [{**RESNET, **RCNN, "model.depth": depth} for depth in (50, 101)]
    members = [plant_localizer(tmp_path, {"dense": (5000, 6000)}, run=net).name for net in nets]
    deep = {**RESNET, **RCNN, "model.depth": 152, "localization.members": members}
    plant_localizer(tmp_path, {"dense": (4000, 5000)}, run=deep, classes=ENSEMBLE)
    rows, notes = markdown(tmp_path, number=13)
    assert rows[5][f"Measured {PREDICTED}"] == "–" and f"whose proposals {members[0]} takes, is not among" in notes
    plant_localizer(tmp_path, TESTED, run={**RESNET, "model.depth": 50})
    assert markdown(tmp_path, number=13)[0][5][f"Measured {PREDICTED}"] == "10.00 (n=1)"


def name_proposers(folder: Path, names: list[str]) -> None:
    """Change a record as if these localizers had proposed."""
    file = folder / "record.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["provenance"]["data_digests"] = {f"proposals of {name}": name[-8:] for name in names}
    file.write_text(json.dumps(values), encoding="utf-8")


def test_an_ensemble_with_a_net_that_is_not_there_or_departs_is_left_out(tmp_path: Path) -> None:
    regions = {**RESNET, "localization.method": "rcnn"}
    other = plant_localizer(tmp_path, {"dense": (5000, 6000)}, run={**regions, "optim.lr": 0.02}).name
    deep = {**regions, "model.depth": 152, "localization.members": ["imagenet-rcnn-resnet50-s0-01234567", other]}
    plant_localizer(tmp_path, {"dense": (4000, 5000)}, run=deep)
    _, notes = markdown(tmp_path, number=14)
    assert "imagenet-rcnn-resnet50-s0-01234567, a net of its ensemble, is not among the records" in notes
    plant_localizer(tmp_path, {"dense": (4000, 5000)}, run={**deep, "localization.members": [other, other[:-1] + "0"]})
    rows, notes = markdown(tmp_path, number=13)
    assert rows[5][f"Measured {PREDICTED}"] == "–"


def test_r_cnn_on_the_proposals_of_another_run_is_not_measured(tmp_path: Path) -> None:
    changed = {"localization.method": "rcnn", "localization.proposals_of": "imagenet-rpn-resnet101-b-demo-s0-01234567"}
    plant_localizer(tmp_path, {"dense": (5000, 6000)}, run={**RESNET, **changed})
    rows, _ = markdown(tmp_path, number=13)
    assert rows[4][f"Measured {PREDICTED}"] == "–"


@pytest.mark.parametrize("method", ["rpn", "rcnn"])
def test_the_budget_of_a_scale_is_no_departure_though_it_sets_fields_of_r_cnn_for_both(
    tmp_path: Path, method: str
) -> None:
    words = ("exp=imagenet_localization", "data=tiny_imagenet_boxes", "scale=demo", f"localization.method={method}")
    run = {**SMALL, "localization.method": method}
    science = config(tmp_path, *words).science
    assert label(science, "demo", load_recipe("localization_recipe").fields, run) == "demo, data=tiny_imagenet_boxes"
    assert science.localization is not None
    older = dataclasses.replace(science, localization=dataclasses.replace(science.localization, context=4))
    assert compared(older) == compared(science)


def test_runs_on_part_of_the_images_and_proxies_are_not_measured(tmp_path: Path) -> None:
    plant_localizer(tmp_path, {"1crop": (10, None)}, images=100)
    plant_localizer(tmp_path, {"1crop": (40, None)}, run=SMALL, scale="demo", data="tiny_imagenet_boxes", images=100)
    rows, notes = markdown(tmp_path, number=13)
    assert [r[f"Measured {GIVEN}"] for r in rows[1:3]] == ["–", "–"] and "100 images" in notes
    (column,) = [name for name in rows[0] if name.startswith(f"Proxy {GIVEN}")]
    assert "demo, data=tiny_imagenet_boxes" in column and rows[6][column] == "40.00 (n=1)"
    assert rows[6]["Method"] == "WRN-18-0.25 B" and len(read_records([tmp_path]).localizers) == 2
    for number in (2, 4, 7):
        assert not any("Proxy" in name for name in markdown(tmp_path, number=number)[0][0])
