"""Average precision of ImageNet's detection task, against its rules as loops."""

from __future__ import annotations

import numpy as np
import pytest

from repro.evaluation.detection.ilsvrc import evaluate, least_overlaps
from tests.planted_detection import found, made, objects, random_set


def test_it_equals_the_rules_of_the_devkit_as_loops() -> None:
    split, detections = random_set(3, images=40)
    scores = evaluate(split, detections)
    for label in range(3):
        curve, to_find, rows = [], 0, []
        for i, own in enumerate(split.objects):
            boxes = own.boxes[own.labels == label]
            to_find += len(boxes)
            taken = [False] * len(boxes)
            one = detections[i]
            mine = [j for j in np.argsort(-one.scores, kind="stable") if one.labels[j] == label]
            for rank, j in enumerate(mine):
                best, match, (x0, y0, x1, y1) = 0.0, -1, one.boxes[j]
                for k, (a0, b0, a1, b1) in enumerate(boxes):
                    width, height = min(x1, a1) - max(x0, a0), min(y1, b1) - max(y0, b0)
                    if taken[k] or width <= 0 or height <= 0:
                        continue
                    area = (a1 - a0) * (b1 - b0)
                    overlap = width * height / ((x1 - x0) * (y1 - y0) + area - width * height)
                    if overlap >= min(0.5, area / ((a1 - a0 + 10) * (b1 - b0 + 10))) and overlap > best:
                        best, match = overlap, k
                if match >= 0:
                    taken[match] = True
                rows.append((-one.scores[j], i, rank, match >= 0))
        right = 0
        for count, (_, _, _, is_right) in enumerate(sorted(rows), start=1):
            right += is_right
            curve.append((right / to_find, right / count))
        recalls = [0.0, *(r for r, _ in curve)]
        steps = np.diff(recalls)
        wanted = sum(step * max(p for _, p in curve[i:]) for i, step in enumerate(steps))
        assert scores.precisions[label] == pytest.approx(wanted, abs=1e-12) and 0 < wanted < 1


def test_small_objects_need_less_overlap_and_a_second_object_may_be_found_instead() -> None:
    assert least_overlaps(np.array([[0.0, 0, 10, 10], [0, 0, 100, 100]])).tolist() == [0.25, 0.5]
    small = made([objects([(0, 0, 10, 10)])])
    assert evaluate(small, [found([(0, 0, 20, 20)], [0.9])]).precisions[0] == 1.0
    assert evaluate(small, [found([(0, 0, 20, 21)], [0.9])]).precisions[0] == 0.0
    # VOC calls the second detection wrong, since the object nearest to it is found already.
    two = made([objects([(0, 0, 100, 100), (0, 0, 100, 60)])])
    same = [found([(0, 0, 100, 100), (0, 0, 100, 99)], [0.9, 0.8])]
    assert evaluate(two, same).precisions[0] == 1.0
    assert np.isnan(evaluate(two, same).precisions[1])
