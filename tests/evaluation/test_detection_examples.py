"""Which findings are shown as false positives, and in which images."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data.detection.shapes import draw_split
from repro.evaluation.detection.examples import chosen, examples, false_positives
from repro.report.html.page import examples_of
from repro.results.detection_record import EXAMPLES
from repro.results.read import read_records
from tests.planted_detection import found, made, objects
from tests.planted_detectors import SMALL, plant_detector

BOX, FAR, DIFFICULT = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)


def test_a_false_positive_finds_no_object_of_its_class_or_one_that_is_found_already() -> None:
    known = objects([BOX, DIFFICULT], [0, 0], [False, True])
    one = found([BOX, BOX, FAR, BOX, DIFFICULT, DIFFICULT], [0.6, 0.9, 0.8, 0.7, 0.5, 0.4], [0, 0, 0, 1, 0, 0])
    assert false_positives(known, one).tolist() == [True, False, True, True, False, False]
    assert false_positives(objects([]), one).all() and false_positives(known, found([], [])).tolist() == []


def test_the_images_with_the_surest_false_positives_come_first() -> None:
    split = made([objects([BOX])] * 9)
    right, wrong = found([BOX], [0.9]), [found([BOX, FAR], [0.9, score]) for score in (0.6, 0.8, 0.7, 0.55, 0.4)]
    assert chosen(split, [right] * 4 + wrong) == [5, 6, 4, 0, 1, 2]


def test_the_picture_shows_in_the_report_of_a_run_that_has_it(tmp_path: Path) -> None:
    split = draw_split("test", 2)
    content = examples(split, [found([one.boxes[0]], [0.9], [int(one.labels[0])]) for one in split.objects])
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (540, 1080, 3) and pixels[:270, :540].any() and pixels[300:].max() < 20
    folder = plant_detector(tmp_path, 30.0, run=SMALL, scale="demo")
    assert examples_of(read_records([tmp_path])) == []
    (folder / EXAMPLES).write_bytes(content)
    ((label, source),) = examples_of(read_records([tmp_path]))
    assert "seed 0" in label and base64.b64decode(source.partition(",")[2]) == content
