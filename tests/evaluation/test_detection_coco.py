"""COCO's twelve numbers on made boxes, also against pycocotools, and files of the servers."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from repro.data.detection import Detections, DetectionSplit, Objects
from repro.errors import InputError
from repro.evaluation.detection.coco import NAMES, evaluate
from repro.evaluation.detection.files import write_coco, write_voc
from tests.planted_detection import annotation, found, made, objects, random_set

BOX = (10.0, 10.0, 20.0, 20.0)
FAR = (100.0, 100.0, 120.0, 120.0)

needs_library = pytest.mark.skipif(find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed")


def scores(every: Sequence[Objects], detections: Sequence[Detections]) -> dict[str, float]:
    return evaluate(made(every), detections).values


def by_pycocotools(split: DetectionSplit, detections: Sequence[Detections]) -> list[float]:
    pytest.importorskip("pycocotools", reason="pycocotools, which checks COCO's scores, is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # Built here anew, with gaps between the numbers, so that no fault of ours is in both sides of the comparison.
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, name in enumerate(split.ids):
        own, one = split.objects[i], detections[i]
        for j, (x0, y0, x1, y1) in enumerate(own.boxes.tolist()):
            entry = annotation(len(truth) + 1, 10 * int(name), 7 * int(own.labels[j]) + 3, (x0, y0, x1 - x0, y1 - y0))
            truth.append({**entry, "iscrowd": int(own.crowd[j])})
        for j, (x0, y0, x1, y1) in enumerate(one.boxes.tolist()):
            entry = annotation(0, 10 * int(name), 7 * int(one.labels[j]) + 3, (x0, y0, x1 - x0, y1 - y0))
            results.append({**entry, "score": float(one.scores[j])})
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO()
        official.dataset = {
            "images": [{"id": 10 * int(name)} for name in split.ids],
            "categories": [{"id": 7 * label + 3, "name": name} for label, name in enumerate(split.classes)],
            "annotations": truth,
        }
        official.createIndex()
        run = COCOeval(official, official.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float("nan") if value < 0 else float(value) for value in run.stats]


@needs_library
@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_numbers_are_those_of_pycocotools(seed):
    split, detections = random_set(seed, images=40)
    values = evaluate(split, detections).values
    assert tuple(values) == NAMES and 0.05 < values["AP50"] < 0.95
    np.testing.assert_allclose(list(values.values()), by_pycocotools(split, detections), rtol=0, atol=1e-6)


@needs_library
def test_perfect_detections_and_sizes_without_objects(told):
    values = scores([objects([BOX, FAR])], [found([BOX, FAR], [0.9, 0.8])])
    assert values["AP"] == values["APs"] == values["AR100"] == pytest.approx(1)
    assert values["AR1"] == pytest.approx(0.5)
    assert np.isnan([values["APm"], values["APl"], values["ARm"]]).all()
    note = evaluate(made([objects([BOX])]), [found([BOX], [0.9])]).note()
    assert note is not None and "APm" in note


@needs_library
def test_sizes_are_those_of_the_outlines_not_of_the_boxes():
    values = scores([objects([(0, 0, 50, 50)], areas=[900])], [found([(0, 0, 50, 50)], [0.9])])
    assert values["APs"] == pytest.approx(1) and np.isnan(values["APm"])


@needs_library
def test_detections_of_a_crowd_are_ignored_and_crowds_need_not_be_found():
    every = [objects([BOX, (0, 0, 300, 300)], crowd=[False, True])]
    inside = [(50.0 + 30 * i, 50.0, 70.0 + 30 * i, 70.0) for i in range(3)]
    values = scores(every, [found([*inside, BOX], [0.9, 0.8, 0.7, 0.6])])
    assert values["AP"] == pytest.approx(1) and values["AR100"] == pytest.approx(1)
    counted = scores([objects([BOX, (0, 0, 300, 300)])], [found([*inside, BOX], [0.9, 0.8, 0.7, 0.6])])
    assert counted["AP"] < 0.3


@needs_library
def test_only_the_best_100_detections_of_a_class_in_an_image_count():
    boxes = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(150)]
    detections = [found(boxes, np.linspace(0.9, 0.1, 150).tolist())]
    values = scores([objects(boxes)], detections)
    assert values["AR100"] == pytest.approx(100 / 150)
    np.testing.assert_allclose(values["AP"], by_pycocotools(made([objects(boxes)]), detections)[0], atol=1e-9)


@needs_library
def test_without_detections_and_with_empty_images():
    assert scores([objects([BOX]), objects([])], [found([], []), found([], [])])["AP"] == 0
    both = scores([objects([]), objects([BOX])], [found([BOX], [0.9]), found([BOX], [0.8])])
    assert both["AP"] == pytest.approx(0.5, abs=0.01)
    assert np.isnan(scores([objects([])], [found([BOX], [0.9])])["AP"])


@needs_library
def test_the_first_object_of_the_first_class_counts():
    """COCO's code takes a match with the annotation 0 for none."""
    assert scores([objects([BOX], labels=[0])], [found([BOX], [0.9])])["AP"] == pytest.approx(1)


@needs_library
def test_the_order_of_the_images_changes_nothing():
    split, detections = random_set(5)
    order = np.random.default_rng(0).permutation(len(split)).tolist()
    moved = made([split.objects[i] for i in order], classes=split.classes, ids=[split.ids[i] for i in order])
    assert evaluate(split, detections).values == evaluate(moved, [detections[i] for i in order]).values


def test_another_number_of_detections_is_refused():
    with pytest.raises(InputError, match=r"eval\.max_detections=300"):
        evaluate(made([objects([BOX])]), [found([BOX], [0.9])], 300)


def test_a_missing_library_is_named_with_its_installation(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"pip install .*\[detection\]"):
        evaluate(made([objects([BOX])]), [found([BOX], [0.9])])


# --- files of the servers -----------------------------------------------------------------------------------------


def test_vocs_files_count_from_1(tmp_path):
    split, detections = random_set(3)
    paths = write_voc(tmp_path, split, detections, "trainval")
    assert [path.name for path in paths] == [f"comp4_det_trainval_class{i}.txt" for i in range(3)]
    assert sum(len(path.read_text().splitlines()) for path in paths) == sum(map(len, detections))
    one = found([(0, 0, 30.5, 40)], [1 / 3])
    (first, second) = write_voc(tmp_path, made([objects([BOX])], ids=["000005"]), [one])
    assert first.read_text() == f"000005 {1 / 3!r} 1.0 1.0 30.5 40.0\n" and second.read_text() == ""


def test_cocos_results_have_its_own_numbers_of_categories(tmp_path):
    split = made([objects([BOX])] * 2, classes=("a", "b", "c"), ids=["42", "7"], categories=(0, 13, 90))
    detections = [found([BOX, (1, 2, 4, 8)], [0.25, 1 / 3], labels=[0, 2]), found([FAR], [0.5], labels=[1])]
    path = write_coco(tmp_path / "results.json", split, detections)
    assert json.loads(path.read_text()) == [
        {"image_id": 7, "category_id": 13, "bbox": [100, 100, 20, 20], "score": 0.5},
        {"image_id": 42, "category_id": 0, "bbox": [10, 10, 10, 10], "score": 0.25},
        {"image_id": 42, "category_id": 90, "bbox": [1, 2, 3, 6], "score": 1 / 3},
    ]


def test_cocos_results_need_numbers_as_ids(tmp_path):
    with pytest.raises(InputError, match="2008_000002"):
        write_coco(tmp_path / "results.json", made([objects([BOX])], ids=["2008_000002"]), [found([BOX], [0.5])])
