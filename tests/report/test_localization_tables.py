"""Table 13 from planted records of localizers."""

from __future__ import annotations

from pathlib import Path

from repro.results.read import read_records
from tests.planted_localizers import RESNET, plant_localizer
from tests.report.test_tables import markdown

GIVEN, PREDICTED = "error, class given (%)", "top-5 error, class predicted (%)"
TESTED: dict[str, tuple[int, int | None]] = {"1crop": (6500, 8000), "dense": (6000, 7500)}
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


def test_an_ensemble_of_localizers_has_a_row_of_its_own(tmp_path: Path) -> None:
    members = [plant_localizer(tmp_path, TESTED, seed).name for seed in (1, 2)]
    ensemble = {**RESNET, "localization.members": members}
    plant_localizer(tmp_path, {**TESTED, "dense": (5000, 7000)}, run=ensemble)
    rows, notes = markdown(tmp_path, number=13)
    assert [r[f"Measured {GIVEN}"] for r in rows[1:3]] == ["13.00 ± 0.00 (n=2)", "12.00 ± 0.00 (n=2)"]
    assert {r["Method"] for r in rows[6:]} == {"ResNet-101, ensemble of 3"}
    assert [r[f"Measured {GIVEN}"] for r in rows[6:]] == ["13.00 (n=1)", "10.00 (n=1)"]
    assert not any("Proxy" in name for name in rows[0]) and "Left out" not in notes


def test_r_cnn_fills_the_rows_of_its_own_and_an_ensemble_of_three_that_of_table_14(tmp_path: Path) -> None:
    plant_localizer(tmp_path, TESTED)
    regions = {**RESNET, "localization.method": "rcnn"}
    other = plant_localizer(tmp_path, {"dense": (5000, 6000)}, run=regions).name
    shallow = plant_localizer(tmp_path, {"dense": (5500, 6500)}, run={**regions, "model.depth": 50}).name
    deep = {**regions, "model.depth": 152, "localization.members": [shallow, other]}
    plant_localizer(tmp_path, {"dense": (4000, 5000)}, run=deep)
    plant_localizer(tmp_path, {"dense": (4100, 5100)}, run={**regions, "localization.members": [shallow]})
    rows, _ = markdown(tmp_path, number=13)
    assert [r[f"Measured {PREDICTED}"] for r in rows[3:6]] == ["15.00 (n=1)", "12.00 (n=1)", "10.00 (n=1)"]
    assert [r["Method"] for r in rows[6:]] == ["ResNet-50 + R-CNN", "ResNet-101 + R-CNN, ensemble of 2"]
    rows, _ = markdown(tmp_path, number=14)
    ours = next(row for row in rows if row["Method"].startswith("ResNet"))
    assert (ours["Measured validation (%)"], ours["Measured test (%)"]) == ("10.00 (n=1)", "not decidable here")


def test_without_runs_the_commands_say_what_to_fill_in(tmp_path: Path) -> None:
    _, notes = markdown(tmp_path, number=13)
    command = 'repro run exp=imagenet_localization "localization.classes_of=[RUN]" localization.start=…'
    assert f"`{command}`" in notes and "docs/localization.md" in notes
    assert '"localization.members=[RUN,RUN]" localization.start=…`' in notes
    assert "Not run: the only one of the paper's own rows;" in markdown(tmp_path, number=14)[1]


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
