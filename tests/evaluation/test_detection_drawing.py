"""Boxes on pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from repro.data.imagenet.decode import PillowPhoto, open_photo
from repro.evaluation.detection.drawing import COLOURS, KNOWN, LEAST_SIDE, above, drawn
from tests.planted_detection import found, objects

CLASSES = ("cat", "dog")


def black(height: int, width: int) -> PillowPhoto:
    return PillowPhoto(Image.new("RGB", (width, height)))


def pixels(image: Image.Image, *places: tuple[int, int]) -> list[tuple[int, ...]]:
    return [tuple(np.asarray(image)[down, right].tolist()) for right, down in places]


def test_boxes_have_the_colour_of_their_class_and_lie_where_they_are() -> None:
    picture = drawn(black(400, 500), found([[50, 100, 250, 300], [300, 200, 450, 350]], [0.9, 0.8], [0, 1]), CLASSES)
    assert picture.size == (500, 400)
    assert pixels(picture, (50, 200), (250, 200), (150, 300)) == [COLOURS[0]] * 3
    assert pixels(picture, (300, 300), (450, 300), (400, 350)) == [COLOURS[1]] * 3
    assert pixels(picture, (150, 200), (275, 200)) == [(0, 0, 0)] * 2
    # The label stands above the upper left corner, in the colour of the box.
    assert pixels(picture, (51, 97)) == [COLOURS[0]]


def test_small_pictures_are_enlarged_with_their_boxes_and_objects_that_are_there_are_white() -> None:
    picture = drawn(black(64, 80), found([[40, 30, 60, 50]], [0.5], [1]), CLASSES, objects([[5, 5, 20, 20]]))
    factor = -(-LEAST_SIDE // 64)
    assert picture.size == (80 * factor, 64 * factor)
    assert pixels(picture, (60 * factor, 40 * factor)) == [COLOURS[1]]
    assert pixels(picture, (5 * factor, 12 * factor)) == [KNOWN]


def test_the_highest_score_is_on_top_and_a_label_never_leaves_the_picture() -> None:
    same = [[0.0, 0.0, 499.0, 399.0]] * 2
    for scores, top in (([0.9, 0.1], 0), ([0.1, 0.9], 1)):
        picture = drawn(black(400, 500), found(same, scores, [0, 1]), CLASSES)
        assert pixels(picture, (499, 200), (1, 1)) == [COLOURS[top]] * 2


def test_boxes_from_the_threshold_on_are_kept_best_first() -> None:
    kept = above(found([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.5, 0.2, 0.7], [0, 1, 1]), 0.5)
    assert kept.scores.tolist() == [0.7, 0.5] and kept.labels.tolist() == [1, 0]
    assert kept.boxes[:, 2].tolist() == [3, 1]


@pytest.mark.parametrize(("upright", "size"), [(False, (30, 20)), (True, (20, 30))])
def test_a_picture_of_a_camera_can_be_turned_upright(tmp_path, upright, size) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    photo = open_photo(tmp_path / "a.jpg", "pillow", upright=upright)
    assert (photo.width, photo.height) == size
