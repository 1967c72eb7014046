"""VOCdevkit folders: boxes from 0, lists, and faults that are all reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.data.detection import DetectionSplit
from repro.data.detection.dataset import load_detection
from repro.data.detection.voc import CLASSES, read
from repro.data.own_images import listed_digests, other_images
from repro.errors import InputError
from tests.planted_detection import HEIGHT, WIDTH, element, make_voc, write_image
from tests.runs import config


def loaded(root: Path, *lists: str, **changes: object) -> DetectionSplit:
    return read(root, lists or ("2007_trainval",), name="train", **changes)  # type: ignore[arg-type]


def refused(root: Path, *lists: str, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        loaded(root, *lists, **changes)
    return str(error.value)


def test_boxes_count_from_0_and_reach_the_edges_of_the_image(tmp_path):
    make_voc(tmp_path, {"000005": [element("cat", (1, 1, WIDTH, HEIGHT)), element("person", (10, 5, 20, 30), 1)]})
    split = loaded(tmp_path)
    (found,) = split.objects
    assert found.boxes.tolist() == [[0, 0, WIDTH, HEIGHT], [9, 4, 20, 30]]
    assert [split.classes[label] for label in found.labels] == ["cat", "person"]
    assert found.difficult.tolist() == [False, True] and not found.crowd.any()
    assert split.ids == ("000005",) and split.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert (split.root / split.files[0]).is_file()


def test_classes_are_in_the_devkits_order_without_background(tmp_path):
    make_voc(tmp_path, {"1": [element("aeroplane", (2, 2, 9, 9)), element("tvmonitor", (2, 2, 9, 9))]})
    assert loaded(tmp_path).objects[0].labels.tolist() == [0, 19] and len(CLASSES) == 20


def test_lists_of_both_years_are_joined(tmp_path):
    devkit = tmp_path / "VOCdevkit"
    make_voc(devkit, {"000005": [element("cat", (2, 2, 9, 9))]})
    make_voc(devkit, {"2008_000002": [element("dog", (2, 2, 9, 9))]}, year="2012")
    split = loaded(tmp_path, "2007_trainval", "2012_trainval")
    assert split.ids == ("000005", "2008_000002")
    assert split.files == ("VOC2007/JPEGImages/000005.jpg", "VOC2012/JPEGImages/2008_000002.jpg")


def test_an_image_without_objects_stays(tmp_path):
    make_voc(tmp_path, {"1": [], "2": [element("cat", (2, 2, 9, 9))]})
    split = loaded(tmp_path)
    assert [len(found) for found in split.objects] == [0, 1] and split.objects[0].boxes.shape == (0, 4)


def test_parts_of_persons_are_no_objects_and_a_missing_mark_is_not_difficult(tmp_path):
    head = "<part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    make_voc(tmp_path, {"1": [element("person", (2, 2, 9.5, 9), None, head)]})
    (found,) = loaded(tmp_path).objects
    assert found.boxes.tolist() == [[1, 1, 9.5, 9]] and found.difficult.tolist() == [False]


def test_own_classes(tmp_path):
    make_voc(tmp_path, {"1": [element("raccoon", (2, 2, 9, 9))]})
    assert loaded(tmp_path, classes=("raccoon",)).classes == ("raccoon",)
    assert "'raccoon'" in refused(tmp_path)


def test_images_of_own_classes_have_digests_without_training_and_those_of_voc_or_missing_ones_none(tmp_path):
    words = [
        *("exp=voc_detection", "data=voc", "data.lists=[2007_trainval]", "data.test_lists=[2007_trainval]"),
        *("data.train_images=null", "data.test_images=null", f"paths.data={tmp_path}"),
    ]
    own, usual = config(tmp_path, *words, "data.classes=[raccoon]").data, config(tmp_path, *words).data
    assert listed_digests(own, tmp_path) == {}
    make_voc(tmp_path, {"1": [element("raccoon", (2, 2, 9, 9))]})
    before = listed_digests(own, tmp_path)
    assert before == load_detection(own, tmp_path).digests and set(before) == {"train", "test"}
    make_voc(tmp_path, {"1": [element("raccoon", (2, 2, 9, 8))]})
    assert other_images(listed_digests(own, tmp_path), before) == ["train", "test"]
    assert listed_digests(usual, tmp_path) == {}


BAD_BOXES = {
    "xmin is 0": (0, 5, 20, 30),
    "empty": (20, 5, 20, 30),
    "corners exchanged": (20, 5, 10, 30),
    "too wide": (10, 5, WIDTH + 1, 30),
    "too high": (10, 5, 20, HEIGHT + 1),
}


@pytest.mark.parametrize("box", BAD_BOXES.values(), ids=BAD_BOXES)
def test_a_faulty_box_is_named_with_its_file_or_left_out(tmp_path, told, box):
    make_voc(tmp_path, {"1": [element("cat", (2, 2, 9, 9)), element("dog", box)]})
    text = refused(tmp_path)
    assert "1.xml" in text and f"({', '.join(map(str, box))})" in text and "data.skip_boxes=true" in text
    (found,) = loaded(tmp_path, skip_boxes=True).objects
    assert found.boxes.tolist() == [[1, 1, 9, 9]] and found.labels.tolist() == [CLASSES.index("cat")]
    assert "1.xml" in "".join(told)


def test_all_faults_are_listed_at_once(tmp_path):
    sound = [element("cat", (2, 2, 9, 9))]
    make_voc(tmp_path, {str(i): sound for i in range(1, 10)})
    folder = tmp_path / "VOC2007"
    (folder / "JPEGImages" / "1.jpg").unlink()
    (folder / "Annotations" / "2.xml").unlink()
    (folder / "Annotations" / "3.xml").write_text("<annotation><object>")
    (folder / "JPEGImages" / "4.jpg").write_text("no image")
    make_voc(tmp_path / "other", {"5": [element("unicorn", (2, 2, 9, 9))], "6": [element("cat", (2, "x", 9, 9))]})
    make_voc(tmp_path / "wide", {"7": sound}, width=WIDTH + 1)
    for part, name in (("other", "5"), ("other", "6"), ("wide", "7")):
        (tmp_path / part / "VOC2007" / "Annotations" / f"{name}.xml").replace(folder / "Annotations" / f"{name}.xml")
    write_image(folder / "JPEGImages" / "8.jpeg", 8)
    with (folder / "ImageSets" / "Main" / "trainval.txt").open("a") as file:
        file.write("9\n")
    text = refused(tmp_path)
    for fault in (
        "1.jpg",
        "2.xml",
        "3.xml",
        "4.jpg",
        "'unicorn'",
        "6.xml",
        f"{WIDTH + 1}x{HEIGHT}",
        "8.jp",
        "9 2 times",
    ):
        assert fault in text
    assert "9 faults in 9 files" in text


def test_a_long_list_is_cut_and_stored(tmp_path):
    make_voc(tmp_path, {str(i): [element("cat", (0, 2, 9, 9))] for i in range(30)})
    text = refused(tmp_path, cache=tmp_path / "cache")
    assert text.count("\n") < 25 and "30 faults" in text and "10 more" in text
    (path,) = (tmp_path / "cache").glob("faults-*.txt")
    assert len(path.read_text().splitlines()) == 30 and str(path) in text


@pytest.mark.parametrize("name", ["trainval", "07_trainval", "2007_", "2007_../x"])
def test_a_name_that_is_no_list(tmp_path, name):
    make_voc(tmp_path, {"1": []})
    assert repr(name) in refused(tmp_path, name)


def test_missing_folders_and_lists(tmp_path):
    make_voc(tmp_path, {"1": []})
    assert "VOC2012" in refused(tmp_path, "2012_trainval")
    assert "test.txt" in refused(tmp_path, "2007_test")
    assert "twice" in refused(tmp_path, "2007_trainval", "2007_trainval")


def test_an_image_in_two_lists_and_a_list_of_one_class(tmp_path):
    make_voc(tmp_path, {"1": []})
    make_voc(tmp_path, {"1": [], "2": []}, part="train")
    assert "1 is in 2 of the lists" in refused(tmp_path, "2007_trainval", "2007_train")
    (tmp_path / "VOC2007" / "ImageSets" / "Main" / "cat_train.txt").write_text("1 -1\n2  1\n")
    assert "cat_train.txt" in refused(tmp_path, "2007_cat_train")
