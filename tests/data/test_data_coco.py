"""COCO's JSON: categories with gaps, crowds, leaks, and faults that are all reported at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repro.data.detection import DetectionSplit
from repro.data.detection.coco import leak, read
from repro.errors import InputError
from tests.planted_detection import HEIGHT, WIDTH, annotation, coco_image, make_coco


def loaded(root: Path, *splits: str, **changes: object) -> DetectionSplit:
    return read(root, splits or ("train2014",), name="train", **changes)  # type: ignore[arg-type]


def refused(root: Path, *splits: str, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        loaded(root, *splits, **changes)
    return str(error.value)


def test_boxes_labels_and_crowds(tmp_path):
    every = [
        annotation(7, 42, 90, (1.5, 2, 10, 20)),
        annotation(8, 9, 1, (0, 0, WIDTH, HEIGHT), iscrowd=1, area=300.5),
        annotation(9, 42, 13, (0, 0, 5, 5)),
    ]
    make_coco(tmp_path / "coco", [coco_image(42), coco_image(9), coco_image(100)], every)
    split = loaded(tmp_path)
    assert split.ids == ("9", "42", "100") and split.files[1] == "train2014/000000000042.jpg"
    assert split.classes == ("person", "stop sign", "toothbrush") and split.categories == (1, 13, 90)
    crowd, two, empty = split.objects
    assert two.boxes.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 5, 5]] and two.labels.tolist() == [2, 1]
    assert crowd.crowd.tolist() == [True] and not two.crowd.any() and not crowd.difficult.any()
    assert crowd.areas is not None and crowd.areas.tolist() == [300.5]
    assert len(empty) == 0 and empty.boxes.shape == (0, 4)
    assert split.sizes.tolist() == [[HEIGHT, WIDTH]] * 3


def test_a_category_0_is_a_class_as_any_other(tmp_path):
    make_coco(tmp_path, [coco_image(1)], [annotation(0, 1, 0, (0, 0, 5, 5))], categories=((3, "b"), (0, "a")))
    split = loaded(tmp_path)
    assert split.classes == ("a", "b") and split.objects[0].labels.tolist() == [0]


def test_splits_are_joined_and_may_not_share_images(tmp_path):
    make_coco(tmp_path, [coco_image(1)], [annotation(1, 1, 1, (0, 0, 5, 5))])
    make_coco(tmp_path, [coco_image(2)], [annotation(1, 2, 1, (0, 0, 5, 5))], split="val2014")
    assert loaded(tmp_path, "train2014", "val2014").ids == ("1", "2")
    make_coco(tmp_path, [coco_image(1)], [], split="val2014")
    assert "image 1 in more than one split" in refused(tmp_path, "train2014", "val2014")
    make_coco(tmp_path, [coco_image(2)], [], split="val2014", categories=((1, "person"),))
    assert "categories" in refused(tmp_path, "train2014", "val2014")


def test_training_images_of_2017_that_validate_in_2014_are_named(tmp_path):
    make_coco(tmp_path, [coco_image(1), coco_image(2), coco_image(3)], [], split="train2017")
    make_coco(tmp_path, [coco_image(i, f"COCO_val2014_{i:012d}.jpg") for i in (2, 3, 4)], [], split="val2014")
    make_coco(tmp_path, [coco_image(5)], [], split="val2017")
    train, val, other = (read(tmp_path, [name], name=name) for name in ("train2017", "val2014", "val2017"))
    sentence = leak(train, val)
    assert sentence is not None and "2 of the 3" in sentence and "train2017" in sentence and "val2014" in sentence
    assert leak(train, other) is None


BAD_BOXES = {
    "empty": (5, 5, 0, 10),
    "negative height": (5, 5, 10, -1),
    "left of the image": (-2, 5, 10, 10),
    "too wide": (5, 5, WIDTH - 3, 10),
    "not finite": (5, 5, float("nan"), 10),
}


@pytest.mark.parametrize("box", BAD_BOXES.values(), ids=BAD_BOXES)
def test_a_faulty_box_is_named_or_left_out(tmp_path, told, box):
    make_coco(tmp_path, [coco_image(1)], [annotation(7, 1, 1, (1, 2, 3, 4)), annotation(8, 1, 13, box)])
    text = refused(tmp_path)
    assert "annotation 8" in text and "annotation 7" not in text and "data.skip_boxes=true" in text
    (found,) = loaded(tmp_path, skip_boxes=True).objects
    assert found.boxes.tolist() == [[1, 2, 4, 6]] and found.labels.tolist() == [0]
    assert "annotation 8" in "".join(told)


def test_a_box_may_leave_the_image_by_a_part_of_a_pixel(tmp_path):
    make_coco(tmp_path, [coco_image(1)], [annotation(1, 1, 1, (-0.4, 0, WIDTH + 1, 9))])
    assert loaded(tmp_path).objects[0].boxes[0, 2] == WIDTH + 0.6


def test_all_faults_are_listed_at_once(tmp_path):
    every = [
        annotation(1, 77, 1, (1, 2, 3, 4)),
        annotation(2, 1, 2, (1, 2, 3, 4)),
        {**annotation(3, 1, 1, (1, 2, 3, 4)), "bbox": [1, 2, 3]},
        annotation(4, 1, 1, (1, 2, 3, 4), iscrowd=2),
        annotation(4, 1, 1, (1, 2, 3, 4)),
        annotation(5, 1, 1, (1, 2, 3, 4), area="big"),
    ]
    images = [coco_image(1), coco_image(2), coco_image(3), {**coco_image(4), "width": WIDTH - 1}, coco_image(5)]
    make_coco(tmp_path, [*images, coco_image(5, "again.jpg"), {**coco_image(6), "height": None}], every)
    (tmp_path / "train2014" / "000000000002.jpg").unlink()
    (tmp_path / "train2014" / "000000000003.jpg").write_text("no image")
    text = refused(tmp_path)
    faults = ["image_id 77", "category_id 2", "annotation 3", "iscrowd=2", "annotation id 4 twice", "'big'", "image 6"]
    faults += ["000000000002.jpg", "000000000003.jpg", f"{WIDTH - 1}x{HEIGHT}", "image id 5 twice"]
    for fault in faults:
        assert fault in text, fault
    assert "11 faults" in text


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"images": [1]}', '{"images": [], "annotations": [], "categories": []}']
)
def test_a_file_that_is_not_cocos(tmp_path, content):
    path = make_coco(tmp_path, [coco_image(1)], []) / "annotations" / "instances_train2014.json"
    path.write_text(content)
    assert str(path) in refused(tmp_path)


def test_missing_annotations_and_categories(tmp_path):
    assert "instances_train2014.json" in refused(tmp_path)
    path = make_coco(tmp_path, [coco_image(1)], []) / "annotations" / "instances_train2014.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "categories": [{"id": 1, "name": "a"}] * 2}))
    assert "category id 1 twice" in refused(tmp_path)
