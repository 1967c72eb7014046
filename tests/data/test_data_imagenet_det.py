"""ImageNet's folders for detection: lists, classes, boxes from 0, and faults that are all reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.config.compose import plan
from repro.data.detection.dataset import load_detection
from repro.data.detection.imagenet import classes_in, read
from repro.errors import InputError
from tests.planted_detection import HEIGHT, WIDTH, element, write_image

DOG, CAT = "n02084071", "n02121808"
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"


def write(root: Path, part: str, image: str, *objects: str) -> None:
    path = root / "ILSVRC" / "Annotations" / "DET" / part / f"{image}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{SIZE}{''.join(objects)}</annotation>")
    write_image(root / "ILSVRC" / "Data" / "DET" / part / f"{image}.JPEG", len(image))


def write_list(root: Path, name: str, *lines: str) -> None:
    path = root / "ILSVRC" / "ImageSets" / "DET" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write two training images of a class each, one image without either, and two validation images."""
    first, second, none = (f"ILSVRC2013_train/{name}" for name in (f"{DOG}/a", f"{CAT}/b", "extra/c"))
    write(tmp_path, "train", first, element(DOG, (0, 0, WIDTH - 1, HEIGHT - 1), None))
    write(tmp_path, "train", second, element(CAT, (10, 5, 20, 30), None), element(DOG, (0, 0, WIDTH, HEIGHT), None))
    write_list(tmp_path, "train_1", f"{first} 1", f"{second} 1", f"{none} -1")
    write_list(tmp_path, "train_2", f"{first} -1", f"{second} 1", f"{none} 0")
    for number, name in enumerate(("val1", "val2"), start=1):
        write(tmp_path, "val", f"ILSVRC2012_val_0000000{number}", element(CAT, (1, 1, 9, 9), None))
        write_list(tmp_path, name, f"ILSVRC2012_val_0000000{number} {number}")
    return tmp_path


def refused(root: Path, *lists: str) -> str:
    with pytest.raises(InputError) as error:
        read(root, lists, name="train", classes=(DOG, CAT))
    return str(error.value)


def test_lists_of_classes_give_their_positive_images_with_boxes_from_0(root: Path) -> None:
    split = read(root, ("train", "val1"), name="train", classes=(DOG, CAT))
    assert [name.rpartition("/")[2] for name in split.ids] == ["a", "b", "ILSVRC2012_val_00000001"]
    assert all((split.root / file).is_file() for file in split.files)
    assert [found.labels.tolist() for found in split.objects] == [[0], [1, 0], [1]]
    assert split.objects[0].boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    assert split.objects[1].boxes.tolist() == [[10, 5, 21, 31], [0, 0, WIDTH, HEIGHT]]
    write_list(root, "train", f"ILSVRC2013_train/{DOG}/a")
    assert len(read(root, ("train",), name="train", classes=(DOG, CAT))) == 1


def test_the_settings_choose_lists_and_classes(root: Path) -> None:
    words = ["exp=imagenet_detection", "scale=smoke", "data.train_images=null", "data.test_images=1", "device=cpu"]
    (of,) = plan([*words, f"data.classes=[{DOG},{CAT}]"]).runs
    dataset = load_detection(of.data, root)
    assert (len(dataset.train), dataset.eval.ids, dataset.num_classes) == (3, ("ILSVRC2012_val_00000002",), 2)
    with pytest.raises(InputError, match=r"2 folders of classes instead of 200.*data\.classes"):
        load_detection(plan(words).runs[0].data, root)
    for number in range(197):
        (root / "ILSVRC" / "Annotations" / "DET" / "train" / "ILSVRC2013_train" / f"n{number}").mkdir()
    (root / "ILSVRC" / "Annotations" / "DET" / "train" / "ILSVRC2013_train" / "n9").rename(root / "n9")
    with pytest.raises(InputError, match="198 folders"):
        classes_in(root)


def test_all_faults_are_named_with_their_files(root: Path) -> None:
    annotations = root / "ILSVRC" / "Annotations" / "DET"
    (annotations / "val" / "ILSVRC2012_val_00000001.xml").unlink()
    (root / "ILSVRC" / "Data" / "DET" / "train" / "ILSVRC2013_train" / DOG / "a.JPEG").unlink()
    write(root, "train", f"ILSVRC2013_train/{CAT}/b", element("n0", (1, 1, 9, 9)), element(CAT, (9, 1, 9, 9)))
    text = refused(root, "train", "val1")
    for named in ("ILSVRC2012_val_00000001.xml", "a.JPEG", "unknown class 'n0'", "(9, 1, 9, 9) is empty"):
        assert named in text
    assert "twice" in refused(root, "val1", "val1")
    assert "val9.txt" in refused(root, "val9") and "'test'" in refused(root, "test")
    (root / "ILSVRC" / "ImageSets" / "DET" / "val1.txt").unlink()
    assert "val1.txt" in (text := refused(root, "val1")) and "R-CNN" in text
    assert "Annotations/DET" in refused(root / "nowhere", "val1")


def test_faulty_boxes_are_left_out_on_request(root: Path, told: list[str]) -> None:
    write(root, "train", f"ILSVRC2013_train/{DOG}/a", element(DOG, (9, 1, 9, 9)), element(DOG, (1, 1, 9, 9)))
    assert "a.xml" in refused(root, "train")
    split = read(root, ("train",), name="train", classes=(DOG, CAT), skip_boxes=True)
    assert split.objects[0].boxes.tolist() == [[1, 1, 10, 10]] and "a.xml" in told[0]
