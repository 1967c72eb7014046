"""PASCAL VOC's average precision on made boxes, with the cases that implementations get wrong."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from repro.config.paths import shared_dir
from repro.data.detection import Detections, DetectionSplit, Objects
from repro.errors import RunError
from repro.evaluation.detection.voc import Metric, Scores, evaluate
from tests.planted_detection import found, made, objects, random_set

BOX = (10.0, 10.0, 20.0, 20.0)
FAR = (100.0, 100.0, 120.0, 120.0)
FARTHER = (200.0, 200.0, 220.0, 220.0)


def cat(every: Sequence[Objects], detections: Sequence[Detections], metric: Metric = "voc12") -> float:
    return float(evaluate(made(every), detections, metric).precisions[0])


def by_loops(split: DetectionSplit, detections: Sequence[Detections], label: int, metric: Metric) -> float:
    """Score a class as VOCevaldet.m is written: one detection after the other, in boxes whose pixels count from 1."""
    ranked = sorted(
        (-score, split.ids[i], place, i)
        for i, one in enumerate(detections)
        for place, score in enumerate(one.scores)
        if one.labels[place] == label
    )
    to_find = sum(int(((own.labels == label) & ~own.difficult).sum()) for own in split.objects)
    taken, right, wrong, curve = set(), 0, 0, []
    for _, _, place, i in ranked:
        box, best, match = detections[i].boxes[place] + (1, 1, 0, 0), -1.0, -1
        for j in np.flatnonzero(split.objects[i].labels == label):
            other = split.objects[i].boxes[j] + (1, 1, 0, 0)
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width > 0 and height > 0:
                sides = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
                overlap = width * height / (sum(sides) - width * height)
                if overlap > best:
                    best, match = overlap, int(j)
        if best < 0.5:
            wrong += 1
        elif not split.objects[i].difficult[match]:
            right += (i, match) not in taken
            wrong += (i, match) in taken
            taken.add((i, match))
        curve.append((right, right / max(right + wrong, 1)))
    if metric == "voc07":
        return sum(max([p for r, p in curve if 10 * r >= k * to_find], default=0.0) for k in range(11)) / 11
    steps = [r - before for (r, _), (before, _) in zip(curve, [(0, 0), *curve], strict=False)]
    return sum(step * max(p for _, p in curve[i:]) for i, step in enumerate(steps)) / to_find


@pytest.mark.parametrize("metric", ["voc07", "voc12"])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_the_devkits_loops(seed, metric):
    split, detections = random_set(seed)
    scores = evaluate(split, detections, metric).precisions
    expected = [by_loops(split, detections, label, metric) for label in range(len(split.classes))]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    assert 0.05 < scores.mean() < 0.95


def test_eleven_points_and_all_points_of_one_curve():
    """Right, wrong, right of four objects: precisions 1 up to the recall 1/4 and 2/3 up to 1/2."""
    every = [objects([BOX, FAR, FARTHER, (300, 300, 320, 320)])]
    detections = [found([BOX, (400, 400, 410, 410), FAR], [0.9, 0.8, 0.7])]
    assert cat(every, detections, "voc07") == pytest.approx((3 + 3 * 2 / 3) / 11)
    assert cat(every, detections, "voc12") == pytest.approx((1 + 2 / 3) / 4)


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_recall_of_exactly_a_tenth_is_reached(tenths):
    boxes = [(50.0 * i, 10.0, 50.0 * i + 20, 30.0) for i in range(10)]
    detections = [found(boxes[:tenths], np.linspace(0.9, 0.5, tenths).tolist())]
    assert cat([objects(boxes)], detections, "voc07") == pytest.approx((tenths + 1) / 11)


@pytest.mark.parametrize(("right", "expected"), [(20, 1.0), (19, 0.0)])
def test_an_overlap_of_exactly_a_half_is_a_match(right, expected):
    """Pixels 11 to 20 of 11 to 30 in VOC's numbers: 100 of 200, only if both ends count."""
    detection = (10.0, 10.0, float(right), 20.0)
    assert cat([objects([(10, 10, 30, 20)])], [found([detection], [0.9])]) == expected


def test_a_second_detection_of_an_object_is_wrong_even_if_it_fits_better():
    near = (11.0, 10.0, 21.0, 20.0)
    every = [objects([BOX, FAR])]
    assert cat(every, [found([near, BOX, FAR], [0.9, 0.8, 0.7])]) == pytest.approx((1 + 2 / 3) / 2)
    # It is not given to another object that it overlaps less, unlike in COCO's rules.
    beside = objects([BOX, (12, 10, 22, 20)])
    assert cat([beside], [found([BOX, BOX], [0.9, 0.8])]) == pytest.approx(0.5)


def test_difficult_objects_ignored_counted_and_deleted_give_three_scores():
    every = [objects([BOX, FAR, FARTHER], difficult=[False, True, False])]
    detections = [found([FAR, BOX], [0.9, 0.8])]
    assert cat(every, detections) == pytest.approx(1 / 2)
    counted = [replace(every[0], difficult=np.zeros(3, bool))]
    assert cat(counted, detections) == pytest.approx(2 / 3)
    assert cat([objects([BOX, FARTHER])], detections) == pytest.approx(1 / 4)


def test_many_detections_of_a_difficult_object_are_ignored():
    every = [objects([FAR, BOX], difficult=[True, False])]
    assert cat(every, [found([FAR, FAR, FAR, BOX], [0.9, 0.8, 0.7, 0.6])]) == 1


def test_classes_without_objects_to_find_are_left_out_of_the_mean_and_named():
    every = [objects([BOX, FAR], labels=[0, 1], difficult=[False, True]), objects([])]
    detections = [found([BOX, FAR, BOX], [0.9, 0.8, 0.7], labels=[0, 1, 2]), found([BOX], [0.6])]
    scores = evaluate(made(every, classes=("cat", "dog", "cow")), detections, "voc07")
    assert scores.precisions[0] == 1 and np.isnan(scores.precisions[1:]).all()
    assert scores.mean == 1 and scores.absent == ("dog", "cow")
    note = scores.note()
    assert note is not None and "1 of 3" in note and "dog, cow" in note


def test_a_class_without_detections_counts_as_0():
    every = [objects([BOX, FAR], labels=[0, 1])]
    scores = evaluate(made(every), [found([BOX], [0.9])], "voc12")
    assert scores.precisions.tolist() == [1, 0] and scores.mean == 0.5 and scores.note() is None


def test_without_any_detection_or_object():
    assert evaluate(made([objects([BOX], labels=[1])]), [found([], [])], "voc07").mean == 0
    nothing = evaluate(made([objects([])]), [found([BOX], [0.5])], "voc07")
    assert np.isnan(nothing.mean) and nothing.note() is not None


def test_detections_in_images_without_objects_are_wrong():
    assert cat([objects([]), objects([BOX])], [found([BOX], [0.9]), found([BOX], [0.8])]) == pytest.approx(0.5)


def test_more_than_100_detections_of_an_image_all_count():
    boxes = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(150)]
    assert cat([objects(boxes)], [found(boxes, np.linspace(0.9, 0.1, 150).tolist())]) == 1


def test_ties_are_in_the_order_of_the_image_ids_then_of_the_image():
    ids = ("000002", "000010", "000001")
    every = [objects([BOX]), objects([FAR]), objects([])]
    detections = [found([BOX], [0.5]), found([FAR], [0.5]), found([BOX], [0.5])]
    split = made(every, ids=ids)
    expected = (1 / 2 * 2 / 3) * 2
    assert evaluate(split, detections, "voc12").precisions[0] == pytest.approx(expected)
    # Ranks may gather the images in another order.
    order = [2, 0, 1]
    moved = made([every[i] for i in order], ids=[ids[i] for i in order])
    assert evaluate(moved, [detections[i] for i in order], "voc12").precisions[0] == pytest.approx(expected)
    wrong_first = [found([FAR, BOX], [0.5, 0.5])]
    assert cat([objects([BOX])], wrong_first) == pytest.approx(0.5)
    assert cat([objects([BOX])], [found([BOX, FAR], [0.5, 0.5])]) == 1


def test_numbers_that_are_none_are_refused():
    with pytest.raises(RunError, match="000001"):
        cat([objects([BOX])], [found([BOX], [float("nan")])])
    with pytest.raises(ValueError, match="labels"):
        cat([objects([BOX])], [found([BOX], [0.5], labels=[2])])
    with pytest.raises(ValueError, match="1 images"):
        cat([objects([BOX])] * 2, [found([BOX], [0.5])])


@pytest.mark.parametrize("number", [10, 11])
def test_the_means_of_the_papers_classes_are_its_own(number):
    path = shared_dir("experiments") / "resnet" / f"table{number}.toml"
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["rows"]:
        classes = {name: value for name, value in row["paper"].items() if name != "mAP"}
        assert len(classes) == 20
        mean = Scores(tuple(classes), np.array(list(classes.values()))).mean
        assert mean == pytest.approx(row["paper"]["mAP"], abs=0.0501), row["label"]


def test_scoring_loads_no_torch():
    code = "import sys, repro.evaluation.detection.voc, repro.evaluation.detection.coco; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
