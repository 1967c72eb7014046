"""ILSVRC's localization error, and its floors without a net."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from repro.cli.main import main
from repro.data.localization import BoxedSplit
from repro.evaluation.localization import (
    are_right,
    best_fixed_box,
    fixed_boxes,
    grid_of,
    in_units,
    percent_wrong,
    whole_images,
)
from tests.planted_boxes import made_split


def test_half_of_the_union_is_right_and_a_pixel_less_is_not() -> None:
    # Inclusive pixels 0 to 9 are the edges 0 to 10: 50 of 100 pixels, then 49 of 100.
    known = [np.array([[0.0, 0, 10, 10]])] * 3
    found = np.array([[0.0, 0, 10, 5], [0, 0, 7, 7], [20, 20, 30, 30]])
    assert are_right(found, known).tolist() == [True, False, False]
    assert are_right(np.array([[0.0, 0, 4, 4]]), [np.zeros((1, 4))]).tolist() == [False]


def test_any_box_of_the_class_counts() -> None:
    known = [np.array([[0.0, 0, 4, 4], [20, 20, 30, 30]]), np.array([[20.0, 20, 30, 30]]), np.array([[0.0, 0, 4, 4]])]
    right = are_right(np.array([[20.0, 20, 30, 28]]), known)
    assert right.tolist() == [True, True, False] and percent_wrong(right) == pytest.approx(100 / 3)


def test_the_whole_image_is_right_where_an_object_fills_half_of_it() -> None:
    split = made_split([[[0, 0, 8, 5]], [[0, 0, 8, 4]], [[0, 0, 4, 5]]], [(10, 8), (10, 8), (5, 8)])
    assert are_right(whole_images(split), split.boxes).tolist() == [True, False, True]


def random_split(seed: int, several: bool, sizes: list[tuple[int, int]]) -> BoxedSplit:
    random = np.random.default_rng(seed)
    boxes, own = [], []
    for number in range(40):
        height, width = sizes[number % len(sizes)]
        low = random.integers(0, (width, height), (1 + several * (number % 2), 2))
        boxes.append(np.concatenate([low, low + 1 + random.integers(0, (width, height) - low)], 1).tolist())
        own.append((height, width))
    return made_split(boxes, own)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_the_best_fixed_box_is_that_of_an_exhaustive_search(seed: int, several: bool) -> None:
    split = random_split(seed, several, [(7, 6)])
    best, most = None, -1
    for x0, y0, x1, y1 in itertools.product(range(6), range(7), range(1, 7), range(1, 8)):
        if x0 < x1 and y0 < y1:
            count = int(are_right(np.array([[x0, y0, x1, y1]], float), split.boxes).sum())
            best, most = ((x0, y0, x1, y1), count) if count > most else (best, most)
    assert grid_of(split) == (6, 7) and best_fixed_box(split, (6, 7)) == best


def test_images_of_several_sizes_share_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.evaluation.localization.GRID", 8)
    split = made_split([[[0, 0, 50, 100]], [[0, 0, 10, 10]]], [(100, 100), (10, 20)])
    grid = grid_of(split)
    assert grid == (8, 8)
    assert [own.tolist() for own in in_units(split, grid)] == [[[0, 0, 4, 8]], [[0, 0, 4, 8]]]
    box = best_fixed_box(split, grid)
    assert are_right(fixed_boxes(split, box, grid), split.boxes).all()


def test_the_command_prints_both_floors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.evaluation.localization.GRID", 8)
    assert main(["floors", "data=shapes_boxes", "data.train_images=30", "data.test_images=8"]) == 0
    out = capsys.readouterr().out
    assert "30 images" in out and "8 images" in out and "100.00" in out and "columns" in out
