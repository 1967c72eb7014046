"""Anchors, coding, overlaps and suppression of boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from repro.models.detection.anchors import VOC_SCALES, cell_anchors, grid_anchors
from repro.models.detection.boxes import FIXED, UNNORMALIZED, BoxCoding, is_inside, is_large, share_inside, suppress

TABLE = """
 -83  -39 100  56
-175  -87 192 104
-359 -183 376 200
 -55  -55  72  72
-119 -119 136 136
-247 -247 264 264
 -35  -79  52  96
 -79 -167  96 184
-167 -343 184 360
"""
"""The table of generate_anchors.py: first and last pixels, counted from 1."""


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 80
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40 + 1
    return torch.cat([corners, corners + sides], 1)


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_the_anchors_are_those_of_the_published_table():
    published = torch.tensor([[float(value) for value in line.split()] for line in TABLE.strip().splitlines()])
    assert cell_anchors().tolist() == (published - torch.tensor([1.0, 1, 0, 0])).tolist()


def test_coco_has_one_more_scale_of_64_pixels():
    sides = (cells := cell_anchors((4, *VOC_SCALES)))[:, 2:] - cells[:, :2]
    assert sides[[0, 4, 8]].tolist() == [[92, 48], [64, 64], [44, 88]]
    assert sides[[1, 2, 3, 5, 6, 7, 9, 10, 11]].tolist() == (cell_anchors()[:, 2:] - cell_anchors()[:, :2]).tolist()


def test_anchors_go_along_rows_with_those_of_a_position_together():
    cell = cell_anchors((1.0,))
    anchors = grid_anchors(cell, 2, 3).reshape(2, 3, 3, 4)
    assert torch.equal(anchors[1, 2], cell + torch.tensor([32, 16, 32, 16]))
    assert torch.equal(anchors[0, 1], cell + torch.tensor([16, 0, 16, 0]))


coordinates = st.floats(0, 900, width=32)
sides = st.floats(1, 500, width=32)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=4))
def test_a_decoded_code_is_the_box(pairs):
    wanted, references = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    ratios = ((wanted[:, 2:] - wanted[:, :2]) / (references[:, 2:] - references[:, :2])).amax(1)
    coding = BoxCoding((0.1, -0.2, 0.3, 0.05), (0.1, 0.2, 0.3, 0.4))
    decoded = coding.decode(coding.encode(wanted, references), references)
    below = ratios < 1000 / 16
    assert torch.allclose(decoded[below], wanted[below], rtol=0, atol=1e-8)
    # A larger ratio is cut, with the centre in its place.
    assert torch.allclose(decoded[:, :2] + decoded[:, 2:], wanted[:, :2] + wanted[:, 2:], atol=1e-8)


def test_the_codes_are_torchvisions_and_several_boxes_are_decoded_for_one_reference():
    wanted, references = random_boxes(20), random_boxes(20, seed=1)
    theirs = BoxCoder((10, 10, 5, 5))
    assert torch.allclose(FIXED.encode(wanted, references), theirs.encode_single(wanted, references))
    codes = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = theirs.decode_single(codes.flatten(1), references).view(20, 3, 4)
    assert torch.allclose(FIXED.decode(codes, references[:, None]), expected)


def test_measured_codes_have_mean_0_and_deviation_1():
    wanted, references = random_boxes(50), random_boxes(50, seed=1)
    coding = BoxCoding.measured(UNNORMALIZED.encode(wanted, references))
    codes = coding.encode(wanted, references)
    assert torch.allclose(codes.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(codes.std(0, correction=0), torch.ones(4, dtype=torch.float64))


def test_codes_without_spread_are_not_divided():
    assert BoxCoding.measured(torch.tensor([[0.5, 0, 0, 0]])).std == (1, 1, 1, 1)


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_is_that_of_a_plain_loop(threshold):
    boxes = random_boxes(150)
    scores = torch.from_numpy(np.random.default_rng(3).integers(0, 40, 150) / 40)  # with ties
    left = scores.argsort(descending=True, stable=True).tolist()
    kept = []
    while left:
        kept.append(left.pop(0))
        best = boxes[kept[-1]].tolist()
        left = [number for number in left if iou(boxes[number].tolist(), best) <= threshold]
    assert suppress(boxes, scores, threshold).tolist() == kept
    assert len(kept) < 150


def test_the_edges_of_an_image_are_inside_it():
    boxes = torch.tensor([[0, 0, 60, 40], [-1, 0, 60, 40], [0, 0, 60, 41], [0, 0, 61, 40], [0, -1, 60, 40]])
    assert is_inside(boxes, (40, 60)).tolist() == [True, False, False, False, False]


def test_boxes_without_area_are_never_large():
    boxes = torch.tensor([[0.0, 0, 16, 16], [0, 0, 15, 16], [0, 0, 16, 0], [5, 5, 5, 5]])
    assert is_large(boxes, 16).tolist() == [True, False, False, False]
    assert is_large(boxes, 0).tolist() == [True, True, False, False]


def test_the_share_in_a_crowd_is_of_the_boxs_own_area():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 100, 100], [80, 80, 90, 90]])
    crowds = torch.tensor([[0.0, 0, 10, 50], [0, 0, 5, 10]])
    assert share_inside(boxes, crowds).tolist() == pytest.approx([1, 0.05, 0])
    assert share_inside(boxes, crowds[:0]).tolist() == [0, 0, 0]
