"""Claims on detection, from planted records of detectors."""

from __future__ import annotations

import pytest

from repro.report.claims.evidence import usable
from repro.results.read import read_records
from tests.planted_claims import finding, groups, plant_group, verdicts
from tests.planted_claims import plant_seeds as plant
from tests.planted_detectors import plant_detector

GAINS = {
    "voc_gain": ("voc_vgg16", "voc_resnet101"),
    "coco_gain": ("coco_vgg16", "coco_resnet101"),
    "box_refinement": ("coco_resnet101", "coco_refined"),
    "context": ("coco_refined", "coco_context"),
    "multiscale": ("coco_context", "coco_multiscale"),
}


def test_each_claim_holds_fails_or_has_no_runs(tmp_path):
    none = verdicts(tmp_path)
    assert {none[claim].status for claim in GAINS} == {"not run"}
    plant(tmp_path / "paper", *{name for pair in GAINS.values() for name in pair}, seeds=3)
    found = verdicts(tmp_path / "paper")
    assert {claim: found[claim].status for claim in GAINS} == dict.fromkeys(GAINS, "holds")
    part = finding(found["box_refinement"], "mAP@[.5, .95] with refined boxes")
    assert part.outcome.difference == pytest.approx(2.7) and "paired" in part.outcome.test
    assert found["coco_gain"].judgement.findings[0].outcome.difference == pytest.approx(6.0)


def test_gains_that_turn_into_losses_refute_their_claims(tmp_path):
    for lost, name in enumerate(dict.fromkeys(name for pair in GAINS.values() for name in pair)):
        plant(tmp_path, name, seeds=3, shift=-3.0 * lost)
    found = verdicts(tmp_path)
    status = {claim: found[claim].status for claim in GAINS}
    assert status == {**dict.fromkeys(GAINS, "fails"), "coco_gain": "holds"}  # 6.9 points before, 3.9 now


def test_two_seeds_of_three_decide_nothing_and_the_command_names_the_third(tmp_path):
    plant(tmp_path, "voc_vgg16", seeds=3)
    plant_group(tmp_path, "voc_resnet101", 0)
    plant_group(tmp_path, "voc_resnet101", 2)
    part = finding(verdicts(tmp_path)["voc_gain"], "mAP on VOC 07 above VGG-16's")
    assert (part.status, part.groups[1].missing) == ("inconclusive", (1,))
    assert part.groups[1].command == "repro run exp=voc_detection model.depth=101 model.shortcut=B seed=1"


def test_two_detectors_of_a_seed_from_other_files_are_one_seed(tmp_path):
    plant(tmp_path, "voc_vgg16", "voc_resnet101", seeds=3)
    before = finding(verdicts(tmp_path)["voc_gain"], "mAP on VOC 07 above VGG-16's")
    group = groups()["voc_resnet101"]
    plant_detector(tmp_path, 90.0, run={**group.run, "detection.start": "other.pth"}, recipe=group.recipe)
    part = finding(verdicts(tmp_path)["voc_gain"], "mAP on VOC 07 above VGG-16's")
    assert (part.groups[1].seeds, len(before.groups[1].seeds)) == ((0, 1, 2), 3)
    assert [note for note in part.notes if note.startswith("left out, as another run of seed 0 counts")]


def test_a_detector_from_a_tree_with_changes_is_a_problem_and_no_evidence(tmp_path):
    folder = plant(tmp_path, "voc_resnet101", seeds=1, dirty=True)
    records, problems = usable(read_records([tmp_path]))
    assert (records, [problem.name for problem in problems]) == ([], [f"{tmp_path.name}/{folder.name}"])


def test_detectors_at_a_reduced_budget_are_a_proxy(tmp_path):
    small = {"scale": "demo", "data": "shapes"}
    plant(tmp_path, "voc_vgg16", "voc_resnet101", seeds=3, **small)
    found = verdicts(tmp_path)["voc_gain"]
    assert (found.status, found.shown_proxy.status) == ("not run", "holds")
