"""Boxes of ImageNet's and Tiny ImageNet's images."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from repro.data.localization import BoxedSplit
from repro.data.localization.dataset import load_boxes
from repro.errors import InputError
from tests import photos
from tests.photos import CLASSES
from tests.planted_boxes import make_imagenet_boxes, make_tiny_boxes


def loaded(folder: Path, name: str = "tiny_imagenet", **changes: object) -> tuple[BoxedSplit, BoxedSplit]:
    return load_boxes(dataclasses.replace(photos.config(name, **changes), boxes=True), folder)


def test_a_box_of_tiny_imagenet_has_its_last_pixels(tmp_path: Path) -> None:
    train, val = loaded(make_tiny_boxes(tmp_path))
    assert (len(train), len(val), train.left_out, val.left_out) == (12, 6, 0, 0)
    assert train.boxes[0].tolist() == [[4, 8, 24, 28]] and val.boxes[0].tolist() == [[0, 0, 40, 40]]
    assert loaded(tmp_path, train_images=3)[0].photos.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("corners", ["9 5 9 7", "5 9 7 9", "9 9 5 5", "-1 0 9 9", "0 0 999 9"])
def test_degenerate_boxes_are_listed_left_out_and_counted(
    tmp_path: Path, corners: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{CLASSES[1]}_2"
    with caplog.at_level(logging.INFO, "repro"):
        train, val = loaded(make_tiny_boxes(tmp_path, changed={name: corners}))
    assert (len(train), train.left_out, len(val), val.left_out) == (11, 1, 6, 0)
    assert not [file for file in train.photos.files if name in file] and len(train.photos.labels) == 11
    assert f"({', '.join(corners.split())})" in caplog.text


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        (f"train/{CLASSES[0]}/{CLASSES[0]}_boxes.txt", "x.JPEG\t1\t2\t3\n", "line 5"),
        (f"train/{CLASSES[0]}/{CLASSES[0]}_boxes.txt", "x.JPEG\t1\t2\t3\tb\n", "line 5"),
        (f"train/{CLASSES[0]}/{CLASSES[0]}_boxes.txt", f"{CLASSES[0]}_0.JPEG\t1\t2\t3\t4\n", f"{CLASSES[0]}_0.JPEG"),
        (f"train/{CLASSES[0]}/{CLASSES[0]}_boxes.txt", None, "_boxes.txt"),
    ],
)
def test_faulty_files_of_boxes_are_refused(tmp_path: Path, file: str, line: str | None, said: str) -> None:
    path = make_tiny_boxes(tmp_path) / file
    if line is None:
        path.unlink()
    else:
        path.write_text(path.read_text() + line)
    with pytest.raises(InputError, match=said):
        loaded(tmp_path)


def test_annotations_of_imagenet_have_several_boxes_and_may_be_missing_in_training(tmp_path: Path) -> None:
    first, second = CLASSES[:2]
    boxes = {f"train/{first}/{first}_0": [(first, (0, 0, 9, 19)), (second, (1, 1, 5, 5)), (first, (5, 5, 30, 30))]}
    boxes |= {f"train/{second}/{second}_1": [(second, (3, 4, 4, 4))]}
    boxes |= {f"val/ILSVRC2012_val_{i + 1:08d}": [(name, (2, 3, 20, 21))] for i, name in enumerate(CLASSES)}
    train, val = loaded(make_imagenet_boxes(tmp_path, boxes), "imagenet")
    assert [own.tolist() for own in train.boxes] == [[[0, 0, 10, 20], [5, 5, 31, 31]]]
    assert (train.left_out, len(val), val.boxes[0].tolist()) == (5, 3, [[2, 3, 21, 22]])
    (tmp_path / "Annotations" / "val" / "ILSVRC2012_val_00000002.xml").unlink()
    with pytest.raises(InputError, match=r"ILSVRC2012_val_00000002\.xml"):
        loaded(tmp_path, "imagenet")


def test_images_without_any_annotations_are_refused(tmp_path: Path) -> None:
    photos.make_imagenet(tmp_path)
    with pytest.raises(InputError, match="Annotations"):
        loaded(tmp_path, "imagenet")
