"""Detections, box refinement, several scales and ensembles."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repro.models.detection.detector import Detector
from repro.models.detection.head import Regions
from repro.models.detection.images import ScaledImage
from repro.models.detection.refinement import (
    DetectionSettings,
    Found,
    detections,
    limited_over_set,
    refined_boxes,
    voted,
)
from repro.models.detection.rpn import Limits
from repro.models.detection.testing import adjacent_scales, averaged, detect, merged_features
from tests.detectors import SMALL, detector, shapes_batch

ALL = DetectionSettings()
FEW = Limits(200, 20)


def regions(scores: list[list[float]], boxes: list[list[float]]) -> Regions:
    """Return regions with the same box for all classes, and the rest of the probability for background."""
    own = torch.tensor(scores, dtype=torch.float64)
    each = torch.tensor(boxes, dtype=torch.float64)[:, None].expand(-1, own.shape[1] + 1, -1)
    return Regions(torch.cat([1 - own.sum(1, keepdim=True), own], 1), each)


NEAR: list[list[float]] = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 2.5], [50, 50, 60, 60]]


def test_boxes_are_suppressed_within_their_class():
    found = detections([regions([[0.5, 0.1], [0.6, 0.05], [0.3, 0.2], [0.1, 0.3]], NEAR)], ALL)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.6, 0.3, 0.1, 0.3, 0.2, 0.1])
    assert found.boxes.tolist() == [NEAR[n] for n in (1, 2, 3, 3, 2, 0)]


def test_the_best_boxes_of_a_class_are_taken_before_suppression():
    few = dataclasses.replace(ALL, per_class=2)
    found = detections([regions([[0.5, 0.1], [0.6, 0.05], [0.3, 0.2], [0.1, 0.3]], NEAR)], few)
    assert found.scores.tolist() == pytest.approx([0.6, 0.3, 0.2])


def test_boxes_without_area_are_dropped():
    found = detections([regions([[0.5], [0.4]], [[5.0, 0, 5, 10], [0, 0, 4, 4]])], ALL)
    assert found.scores.tolist() == [0.4]


def test_boxes_are_refined_at_the_place_of_their_most_probable_class():
    scores = torch.tensor([[0.8, 0.05, 0.15], [0.1, 0.7, 0.2]])
    boxes = torch.arange(24.0).view(2, 3, 4)
    assert refined_boxes(Regions(scores, boxes)).tolist() == [boxes[0, 2].tolist(), boxes[1, 1].tolist()]


def test_a_box_becomes_the_weighted_mean_of_those_that_overlap_it():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [90, 90, 99, 99]], dtype=torch.float64)
    scores = torch.tensor([0.6, 0.3, 0.9, 0.9], dtype=torch.float64)
    # The second overlaps by exactly one half and votes, the third by less.
    assert voted(boxes[:1], boxes, scores, 0.5)[0].tolist() == pytest.approx([0, 0, 10, (6 + 6) / 0.9])


def test_voting_keeps_the_scores_and_takes_the_votes_of_both_passes():
    refined = dataclasses.replace(ALL, refine=True)
    first, second = regions([[0.6]], [[0.0, 0, 10, 10]]), regions([[0.3]], [[0.0, 0, 10, 16]])
    found = detections([first, second], refined)
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 10, 12])
    assert detections([first, second], ALL).boxes[0].tolist() == [0, 0, 10, 10]


def image(size: int = 96, scale: float = 1.0) -> ScaledImage:
    pixels = shapes_batch(1)[0][0].pixels
    resized = F.interpolate(pixels[None], (size, size), mode="bilinear", antialias=True)[0]
    return ScaledImage(pixels if size == 96 else resized, scale)


def spread(model: Detector) -> Detector:
    """Give the layers of scores and codes weights that distinguish regions."""
    for number, layer in enumerate((model.head.scores, model.head.codes)):
        torch.nn.init.normal_(layer.weight, std=0.3, generator=torch.Generator().manual_seed(number))
    return model


def plainly(model: Detector, view: ScaledImage) -> tuple[Found, Tensor, Regions]:
    """Detect without several scales and members."""
    with torch.no_grad():
        maps = model.maps([view])
        boxes = model.propose(maps, [view], FEW)[0].boxes
        found = model.head.regions(model.head.features(maps, [view.size], [boxes]), boxes, view.size)
        return detections([found], ALL), boxes, found


def found_by(members: list[Detector], views: list[ScaledImage], settings: DetectionSettings = ALL) -> Found:
    return detect(members, [views] * len(members), settings, FEW)


def is_same(one: Found, other: Found) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_scale_and_one_member_give_the_single_result_to_the_bit():
    model = spread(detector())
    expected, boxes, _ = plainly(model, image())
    assert len(expected.boxes) > 5 and len(boxes) > 5
    assert is_same(found_by([model], [image()]), expected)


def test_detections_are_in_pixels_of_the_original_image():
    model = spread(detector(dataclasses.replace(SMALL, rpn=dataclasses.replace(SMALL.rpn, least_side=0))))
    expected = found_by([model], [image()])
    twice = found_by([model], [image(scale=2.0)])
    assert torch.equal(twice.boxes * 2, expected.boxes) and torch.equal(twice.scores, expected.scores)


def test_refinement_classifies_the_regressed_boxes():
    model, view = spread(detector()), image()
    _, _, first = plainly(model, view)
    again = refined_boxes(first)
    with torch.no_grad():
        maps = model.maps([view])
        second = model.head.regions(model.head.features(maps, [view.size], [again]), again, view.size)
    refined = dataclasses.replace(ALL, refine=True)
    assert is_same(found_by([model], [view], refined), detections([first, second], refined))
    assert not is_same(found_by([model], [view], refined), found_by([model], [view]))


def test_an_ensemble_averages_over_the_union_of_proposals():
    one, other, view = spread(detector()), spread(detector(seed=1)), image()
    _, first, _ = plainly(one, view)
    _, second, _ = plainly(other, view)
    union = torch.cat([first, second])
    with torch.no_grad():
        each = [
            m.head.regions(m.head.features(m.maps([view]), [view.size], [union]), union, view.size)
            for m in (one, other)
        ]
    mean = Regions((each[0].scores + each[1].scores) / 2, (each[0].boxes + each[1].boxes) / 2)
    assert torch.equal(averaged(each).boxes, mean.boxes)
    assert is_same(found_by([one, other], [view]), detections([mean], ALL))
    assert not torch.equal(first, second)


def test_each_member_of_an_ensemble_sees_the_image_by_its_own_statistics():
    one, other, view = spread(detector()), spread(detector(seed=1)), image()
    darker = ScaledImage(view.pixels - 0.5)
    found = detect([one, other], [[view], [darker]], ALL, FEW)
    with torch.no_grad():
        nets = [(m, m.maps([own])) for m, own in ((one, view), (other, darker))]
        union = torch.cat([m.propose(maps, [view], FEW)[0].boxes for m, maps in nets])
        each = [m.head.regions(m.head.features(maps, [view.size], [union]), union, view.size) for m, maps in nets]
    assert is_same(found, detections([averaged(each)], dataclasses.replace(ALL, per_class=200)))
    assert not is_same(found, found_by([one, other], [view]))


@pytest.mark.parametrize("count", [2, 4])
def test_a_net_with_itself_finds_what_it_finds_alone(count: int):
    model, views = spread(detector()), [image(), image(144, 1.5)]
    # So few that as many for the whole ensemble would drop boxes.
    few = dataclasses.replace(ALL, per_class=3)
    alone = found_by([model], views, few)
    assert len(alone.boxes) and is_same(found_by([model] * count, views, few), alone)
    assert not is_same(alone, found_by([model], views))


def test_members_of_an_ensemble_may_have_other_settings():
    context = dataclasses.replace(SMALL.head, context=True)
    fewer = dataclasses.replace(SMALL.rpn, scales=(2, 4))
    members = [spread(detector()), spread(detector(dataclasses.replace(SMALL, rpn=fewer, head=context), seed=1))]
    views, refined = [image(), image(144, 1.5)], dataclasses.replace(ALL, refine=True)
    found = found_by(members, views, refined)
    assert len(found.boxes)
    assert not any(is_same(found, found_by([member], views, refined)) for member in members)


def test_each_region_is_seen_at_the_two_scales_next_to_224_pixels():
    boxes = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 300, 300], [0, 0, 224, 224], [0, 0, 10, 10], [0, 0, 0, 0]])
    factors = torch.tensor([200, 400, 600, 800, 1000]) / 600
    # Sides of 333 and 667; 200 and 300, not 100 or 400; 149 and 224 or 224 and 299; 13 and 17.
    assert adjacent_scales(boxes, factors).tolist() == [0, 1, 2, 3, 3]
    assert adjacent_scales(boxes, factors[:1]).tolist() == [0] * 5


def test_features_of_two_scales_are_merged_by_their_maximum():
    model = detector()
    views = [image(), image(48, 0.5), image(144, 1.5)]
    boxes = torch.tensor([[0.0, 0, 96, 96], [10, 10, 30, 30], [0, 0, 90, 40]], dtype=torch.float64)
    with torch.no_grad():
        maps = model.maps(views)
        merged = merged_features(model.head, maps, views, boxes)
        each = [
            model.head.features([own], [view.size], [boxes * view.scale]) for own, view in zip(maps, views, strict=True)
        ]
    # All of them are smaller than 224 pixels, so the two largest scales are used.
    assert torch.allclose(merged, torch.maximum(each[0], each[2]))
    assert not torch.allclose(merged, each[0]) and not torch.allclose(merged, each[2])


def test_several_scales_change_the_scores_but_not_the_proposals():
    model = spread(detector())
    found = found_by([model], [image(), image(144, 1.5)])
    assert len(found.boxes) and not is_same(found, found_by([model], [image()]))


def test_a_net_with_context_is_tested_like_any_other():
    settings = dataclasses.replace(SMALL, head=dataclasses.replace(SMALL.head, context=True))
    model = spread(detector(settings))
    expected, _, _ = plainly(model, image())
    assert is_same(found_by([model], [image()]), expected) and len(expected.boxes)
    assert len(found_by([model], [image(), image(144, 1.5)], dataclasses.replace(ALL, refine=True)).boxes)


def test_an_image_without_proposals_has_no_detections():
    model = detector(dataclasses.replace(SMALL, rpn=dataclasses.replace(SMALL.rpn, least_side=200)))
    found = found_by([model, model], [image(), image(144, 1.5)], dataclasses.replace(ALL, refine=True))
    assert [len(values) for values in found] == [0, 0, 0]


def test_classes_keep_their_best_boxes_over_the_set():
    def of(labels: list[int], scores: list[float]) -> Found:
        return Found(torch.zeros(len(labels), 4), torch.tensor(labels, dtype=torch.int64), torch.tensor(scores))

    found = [of([0, 0, 1], [0.9, 0.1, 0.1]), of([0, 0], [0.8, 0.7]), of([], [])]
    limited = limited_over_set(found, 2, average=1)
    assert [image.scores.tolist() for image in limited] == [pytest.approx([0.9, 0.1]), pytest.approx([0.8, 0.7]), []]
