"""ImageNet folders: layouts, labels, invalid folders, and the scan of all images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.config.run import DataConfig
from repro.data import Dataset, PhotoSplit, PhotoStats, load
from repro.data.imagenet.folders import WHOLE, evenly
from repro.errors import InputError
from tests.photos import CLASSES, config, make_imagenet, make_tiny, picture, truncate, write
from tests.runs import photo_config


def loaded(root: Path, data: DataConfig | None = None, cache: Path | None = None, workers: int = 0) -> Dataset:
    return load(data or config(), root, may_fetch=False, cache=cache, workers=workers)


def splits(dataset: Dataset) -> tuple[PhotoSplit, PhotoSplit]:
    assert isinstance(dataset.train, PhotoSplit) and isinstance(dataset.eval, PhotoSplit)
    return dataset.train, dataset.eval


def stats(dataset: Dataset) -> PhotoStats:
    assert dataset.photo_stats is not None
    return dataset.photo_stats


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_imagenet(tmp_path / "set")


# --- layouts ------------------------------------------------------------------------------------------------------


def test_class_folders(root):
    dataset = loaded(root)
    train, val = splits(dataset)
    assert (dataset.num_classes, len(train), len(val)) == (3, 18, 6)
    assert train.classes == val.classes == CLASSES
    assert train.files[7] == "train/n01443537/n01443537_1.JPEG" and train.labels[7] == 1
    assert train.name == "train" and val.name == "val"
    assert all(
        (val.root / file).is_file() and CLASSES[y] in file for file, y in zip(val.files, val.labels, strict=True)
    )
    with Image.open(train.root / train.files[7]) as image:
        assert train.sizes is not None and train.sizes[7].tolist() == [image.height, image.width]


def test_flat_val_with_labels(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    _, val = splits(loaded(root))
    assert val.files[:2] == ("val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG")
    assert val.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_flat_val_with_the_solution_of_kaggle(tmp_path):
    root = make_imagenet(tmp_path / "ILSVRC" / "Data" / "CLS-LOC", flat=True)
    (root / "val" / "labels.txt").unlink()
    lines = [
        f"ILSVRC2012_val_{i + 1:08d},{CLASSES[(i + 1) % 3]} 1 2 3 4 {CLASSES[(i + 1) % 3]} 5 6 7 8" for i in range(6)
    ]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]) + "\n")
    assert splits(loaded(tmp_path))[1].labels.tolist() == [1, 2, 0, 1, 2, 0]


def test_a_folder_of_the_usual_name(tmp_path):
    make_imagenet(tmp_path / "imagenet")
    assert len(loaded(tmp_path).train) == 18


def test_the_layout_of_tiny_imagenet_in_a_folder_of_its_own(tmp_path):
    make_tiny(tmp_path / "tiny-imagenet-200")
    train, val = splits(loaded(tmp_path, config("tiny_imagenet")))
    assert train.files[0] == "train/n01440764/images/n01440764_0.JPEG" and len(train) == 18
    assert val.files[1] == "val/images/val_1.JPEG" and val.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_hidden_files_and_other_files_are_no_images(root):
    for name in ("._n01440764_0.JPEG", "Thumbs.db", "readme.txt"):
        (root / "train" / CLASSES[0] / name).write_bytes(b"no image")
    assert len(loaded(root).train) == 18


def test_names_that_are_not_ascii(tmp_path):
    root = make_imagenet(tmp_path, classes=("грач", "šojka", "カラス"))
    write(root / "train" / "šojka" / "обед ü 鳥.JPEG", 77)
    train, _ = splits(loaded(root, workers=1))
    assert train.classes == ("šojka", "грач", "カラス") and len(train) == 19
    assert "train/šojka/обед ü 鳥.JPEG" in train.files


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(root: Path, *words: str, data: DataConfig | None = None, cache: Path | None = None) -> str:
    with pytest.raises(InputError) as error:
        loaded(root, data, cache)
    for word in words:
        assert word in str(error.value)
    return str(error.value)


def test_no_folders(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "train and val", "paths.data")


def test_no_class_folders(root):
    for path in sorted((root / "train").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "train" / "n01440764.tar").write_bytes(b"")
    refused(root, "no class folders", "train/<class>/*.JPEG")


def test_empty_class_folders_are_named(root):
    (root / "train" / "n00000001").mkdir()
    (root / "train" / "n00000002" / "images").mkdir(parents=True)
    refused(root, "2 class folders have no images", "n00000001", "n00000002")


def test_classes_must_agree(root):
    (root / "val" / CLASSES[0]).rename(root / "val" / "n09999999")
    refused(root, "lacks 'n01440764'", "'n09999999', unknown to train")


def test_labels_of_a_flat_val_must_agree(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    labels = root / "val" / "labels.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(lines[:3] + lines[4:]))
    refused(root, "no label for 1 image", "val/ILSVRC2012_val_00000004.JPEG")
    labels.write_text("\n".join([*lines, "ILSVRC2012_val_00000001.JPEG n02105855"]))
    refused(root, "line 7", "two labels")
    labels.write_text("\n".join([*lines, "ILSVRC2012_val_00000007.JPEG"]))
    refused(root, "line 7", "not the name of an image and of its class")
    labels.write_text("\n".join(line.replace(CLASSES[1], "65") for line in lines))
    refused(root, "lacks 'n01443537'", "has '65'")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", " \t \r\n\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(" ", "\t").replace("\n", " \n  \t\n").encode(),
        lambda text: text.replace("\n", "\n\ufeff", 1).encode("utf-8-sig"),  # two files joined
    ],
)
def test_a_file_of_labels_is_read_however_its_lines_end(tmp_path, encode):
    root = make_imagenet(tmp_path, flat=True, classes=("a", "über", "z"))
    labels = root / "val" / "labels.txt"
    labels.write_bytes(encode(labels.read_text(encoding="utf-8")))
    assert splits(loaded(root))[1].labels.tolist() == [0, 2, 1, 0, 2, 1]


def test_quoted_cells_of_a_csv_of_labels(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    (root / "val" / "labels.txt").unlink()
    lines = [f'"ILSVRC2012_val_{i + 1:08d}","{CLASSES[i % 3]} 1 2 3 4"' for i in range(6)]
    (root / "LOC_val_solution.csv").write_bytes("\r\n".join(["ImageId,PredictionString", *lines]).encode("utf-8-sig"))
    assert splits(loaded(root))[1].labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_file_of_labels_that_is_not_utf8_is_refused(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    labels = root / "val" / "labels.txt"
    text = labels.read_text()
    write(root / "val" / "é.JPEG", 3)
    for content in (text.encode("utf-16-le"), text.encode("utf-16"), f"é.JPEG {CLASSES[0]}\n".encode("latin-1")):
        labels.write_bytes(content)
        refused(root, "labels.txt", "save it as UTF-8")
    labels.write_bytes((text + f"é.JPEG {CLASSES[0]}\n").encode())
    assert splits(loaded(root))[1].labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_names_in_two_unicode_forms_are_one_name(tmp_path):
    composed, decomposed = "\u00fcber", "u\u0308ber"
    names = ("umber", "zoo", composed)  # in decomposed form it sorts before zoo, unless both forms are sorted alike
    first = make_imagenet(tmp_path / "a", classes=names)
    other = make_imagenet(tmp_path / "b", classes=names)
    for split in ("train", "val"):
        (other / split / composed).rename(other / split / decomposed)
    for root in (first, other):
        train, val = splits(loaded(root))
        assert train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
        assert val.labels.tolist() == [0] * 2 + [1] * 2 + [2] * 2
        assert ["umber" in file for file in train.files] == [True] * 6 + [False] * 12
    (other / "val" / decomposed).rename(other / "val" / composed)
    _, val = splits(loaded(other))
    wrong = [file for file, y in zip(val.files, val.labels, strict=True) if names[y] not in file]
    assert (wrong, val.labels.tolist()) == ([], [0, 0, 1, 1, 2, 2])
    (other / "train" / composed).mkdir()
    refused(other, "two Unicode forms")


def test_labels_in_another_unicode_form_than_files_and_folders(tmp_path):
    root = make_imagenet(tmp_path, flat=True, classes=("a", "\u00fc", "z"))
    write(root / "val" / "e\u0301.JPEG", 3)
    with (root / "val" / "labels.txt").open("a", encoding="utf-8") as file:
        file.write("\u00e9.JPEG u\u0308\n")
    train, val = splits(loaded(root))
    assert train.classes == ("a", "z", "\u00fc") and val.labels.tolist() == [0, 2, 1, 0, 2, 1, 2]


def test_numbered_ground_truth_is_not_guessed_at(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    (root / "val" / "labels.txt").unlink()
    refused(root, "no class folders", "val/labels.txt")
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n")
    refused(root, "ILSVRC2012_validation_ground_truth.txt cannot be used", "val/labels.txt")


def test_a_part_of_the_set_is_refused_unless_allowed(root, monkeypatch):
    whole = config(partial=False)
    refused(root, "it has 3 classes, 18 training and 6 validation images", "1,281,167", "data.partial=true", data=whole)
    monkeypatch.setitem(WHOLE, "imagenet", (3, 18, 6))
    assert len(loaded(root, whole).train) == 18


# --- the pass over all images ---------------------------------------------------------------------------------------


def odd_files(root: Path) -> dict[str, Path]:
    folder = root / "train" / CLASSES[0]
    odd = {kind: folder / f"odd_{kind}.JPEG" for kind in ("grey", "cmyk", "png", "palette", "rgba", "sixteen")}
    image = picture(5, 50, 60)
    image.convert("L").save(odd["grey"], "JPEG")
    image.convert("CMYK").save(odd["cmyk"], "JPEG")
    image.save(odd["png"], "PNG")
    image.convert("P").save(odd["palette"], "PNG")
    image.convert("RGBA").save(odd["rgba"], "PNG")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(odd["sixteen"], "PNG")
    return odd


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_odd_images_are_read(root, decoder):
    odd_files(root)
    dataset = loaded(root, config(decoder=decoder))
    assert (len(dataset.train), dataset.skipped) == (24, ())


def test_unreadable_images_are_listed_all_at_once(root, tmp_path):
    odd_files(root)
    cut = truncate(root / "train" / CLASSES[1] / "n01443537_2.JPEG")
    text = root / "val" / CLASSES[2] / "ILSVRC2012_val_00000003.JPEG"
    text.write_text("not an image")
    (root / "train" / CLASSES[2] / "nothing.JPEG").write_bytes(b"")
    message = refused(root, "3 images cannot be read", str(cut), str(text), "nothing.JPEG", "data.skip_corrupt=true")
    assert "odd_" not in message
    cache = tmp_path / "cache"
    assert refused(root, cache=cache) == refused(root, cache=cache) == message


def test_unreadable_images_are_left_out_and_counted_where_asked_for(root, tmp_path, told):
    cut = truncate(root / "train" / CLASSES[1] / "n01443537_2.JPEG")
    data = config(skip_corrupt=True)
    for _ in range(2):  # the second time from the cache
        dataset = load(data, root, may_fetch=False, cache=tmp_path / "cache", workers=0)
        assert dataset.skipped == ("train/n01443537/n01443537_2.JPEG",)
        train, val = splits(dataset)
        assert (len(train), len(val), len(train.labels)) == (17, 6, 17)
        assert train.labels.tolist() == [0] * 6 + [1] * 5 + [2] * 6
        assert "n01443537_2.JPEG" not in "".join(train.files)
        assert any("1 image cannot be read, left out" in line and str(cut) in line for line in told)
        told.clear()


def planted_oddities(root: Path) -> list[Path]:
    """Plant things with the names of images: links to nowhere, to a folder and in a circle; a folder; a pipe."""
    folder = root / "train" / CLASSES[0]
    names = ("away", "circle", "to_folder", "folder", "pipe")
    away, circle, to_folder, inside, pipe = odd = [folder / f"{name}.JPEG" for name in names]
    away.symlink_to("/gone/away.JPEG")
    circle.symlink_to(circle)
    to_folder.symlink_to(root / "train")
    inside.mkdir()
    os.mkfifo(pipe)
    val = root / "val" / CLASSES[1] / "away.JPEG"
    val.symlink_to("/gone/away.JPEG")
    return [*odd, val]


def test_what_only_has_an_images_name_is_listed_with_the_unreadable_ones(root, tmp_path, told):
    odd = planted_oddities(root)
    refused(root, "6 images cannot be read", "data.skip_corrupt=true", "a link to /gone/away.JPEG", *map(str, odd))
    data = config(skip_corrupt=True)
    for _ in range(2):  # the second time from the cache
        dataset = load(data, root, may_fetch=False, cache=tmp_path / "cache", workers=0)
        assert set(dataset.skipped) == {str(path.relative_to(root)) for path in odd}
        assert [len(split) for split in splits(dataset)] == [18, 6]
    assert all(str(path) in told[-1] for path in odd)


def test_a_folder_with_an_images_name_in_a_flat_val(tmp_path):
    root = make_imagenet(tmp_path, flat=True)
    (root / "val" / "folder.JPEG").mkdir()
    with (root / "val" / "labels.txt").open("a") as file:
        file.write(f"folder.JPEG {CLASSES[0]}\n")
    refused(root, "1 image cannot be read", "folder.JPEG (a folder)")
    assert splits(loaded(root, config(skip_corrupt=True)))[1].labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_class_whose_folder_is_a_link_to_nowhere_is_not_left_out(root):
    for split in ("train", "val"):
        (root / split / "n00000001").symlink_to("/gone/n00000001")
    refused(root, "n00000001 is a broken link")


def test_a_long_list_goes_to_a_file(root, tmp_path):
    for i in range(25):
        (root / "train" / CLASSES[0] / f"bad_{i:02d}.JPEG").write_bytes(b"x")
    message = refused(root, "25 images cannot be read", "and 5 more", cache=tmp_path / "cache")
    assert "bad_24" not in message
    (path,) = (tmp_path / "cache").glob("unreadable-*.txt")
    assert str(path) in message
    assert len(path.read_text().splitlines()) == 25 and "bad_24" in path.read_text()


def crops_written_out(root: Path, files: tuple[str, ...]) -> np.ndarray:
    """Cut centre crops of 32 pixels from images with shorter side 40, with Pillow alone."""
    crops = []
    for file in files:
        with Image.open(root / file) as image:
            shorter = min(image.size)
            width, height = 40 * image.width // shorter, 40 * image.height // shorter
            whole = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
        top, left = round((height - 32) / 2), round((width - 32) / 2)
        crops.append(whole[top : top + 32, left : left + 32])
    return np.stack(crops).astype(np.float64) / 255


def test_mean_image_and_colours_against_a_loop(root):
    dataset = loaded(root)
    found = stats(dataset)
    crops = crops_written_out(root, splits(dataset)[0].files)
    np.testing.assert_allclose(found.mean_image, crops.mean(0).transpose(2, 0, 1), atol=1e-12)
    np.testing.assert_allclose(found.channel_mean, crops.mean((0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(crops.reshape(-1, 3).T, bias=True), atol=1e-12)
    rebuilt = found.eigenvectors @ np.diag(found.eigenvalues) @ found.eigenvectors.T
    np.testing.assert_allclose(rebuilt, found.covariance, atol=1e-12)
    assert found.eigenvalues[0] > found.eigenvalues[1] > found.eigenvalues[2] > 0
    assert all(column[np.abs(column).argmax()] > 0 for column in found.eigenvectors.T)


def test_the_pass_is_the_same_with_any_number_of_processes(root, monkeypatch):
    monkeypatch.setattr("repro.data.imagenet.scan.CHUNK", 4)
    alone, *others = (stats(loaded(root, workers=workers)) for workers in (0, 1, 2))
    for other in others:
        for name in ("mean_image", "covariance", "eigenvectors"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(other, name))


def test_the_pass_is_made_once(root, tmp_path, monkeypatch, told):

    def again(data: DataConfig | None = None) -> bool:
        told.clear()
        load(data or config(), root, may_fetch=False, cache=tmp_path / "cache", workers=0)
        return any("reading all" in line for line in told)

    assert again() and not again()
    # These settings affect no statistic.
    assert not again(config(train_images=6, flip=False, colour="none", resize=(32, 40)))
    assert again(config(eval_resize=44)) and again(config(image_size=40)) and again(config(decoder="torchvision"))
    path = root / "train" / CLASSES[0] / "n01440764_0.JPEG"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    assert again() and not again()
    found = max((tmp_path / "cache").glob("*.npz"), key=lambda p: p.stat().st_mtime_ns)
    found.write_bytes(found.read_bytes()[:100])
    assert again() and not again()
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_an_image_that_can_be_read_again_is_not_taken_for_broken(root, tmp_path):
    """Missing rights and failing disks change neither the size nor the time of a file."""
    path = root / "train" / CLASSES[0] / "n01440764_0.JPEG"
    whole, status = path.read_bytes(), path.stat()

    def skipped() -> int:
        data = config(skip_corrupt=True)
        return len(load(data, root, may_fetch=False, cache=tmp_path / "cache", workers=0).skipped)

    path.write_bytes(b"?" * len(whole))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert skipped() == 1
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert skipped() == 0


# --- parts of the set -----------------------------------------------------------------------------------------------


def test_images_are_taken_evenly_from_all_classes(root):
    whole, cut = loaded(root), loaded(root, config(train_images=7, test_images=3))
    train, val = splits(cut)
    assert np.bincount(train.labels).tolist() == [3, 2, 2] and val.labels.tolist() == [0, 1, 2]
    assert train.files[:3] == splits(whole)[0].files[:3]
    assert (cut.digests, cut.num_classes) == (whole.digests, 3)
    np.testing.assert_array_equal(stats(cut).mean_image, stats(whole).mean_image)
    refused(root, "data.train_images=19", "18 images", data=config(train_images=19))


def test_evenly_takes_the_first_of_every_class_first():
    labels = np.array([2, 0, 0, 0, 1, 2, 1])
    assert evenly(labels, 3).tolist() == [0, 1, 4]
    assert evenly(labels, 6).tolist() == [0, 1, 2, 4, 5, 6]
    assert evenly(labels, 7).tolist() == list(range(7))


def test_digests_say_which_files(root, tmp_path):
    before = loaded(root).digests
    assert sorted(before) == ["train", "val"] and len(before["train"]) == 64
    assert loaded(make_imagenet(tmp_path / "copy")).digests == before
    picture(9999, 60, 60).save(root / "val" / CLASSES[0] / "ILSVRC2012_val_00000001.JPEG", "JPEG", quality=50)
    after = loaded(root).digests
    assert after["train"] == before["train"] and after["val"] != before["val"]


# --- drawn images -------------------------------------------------------------------------------------------------


def test_drawn_images_are_an_imagenet_folder_in_the_cache_and_always_the_same(tmp_path):
    data = photo_config(tmp_path, "data=shapes_photos", "data.partial=false").data
    one, two = (loaded(tmp_path / "absent", data, tmp_path / name) for name in ("one", "two"))
    train, val = splits(one)
    assert (one.num_classes, len(train), len(val)) == WHOLE["shapes_photos"]
    assert train.root.parent == tmp_path / "one" and not (tmp_path / "absent").exists()
    assert one.digests == two.digests
    same = [(folder / train.files[0]).read_bytes() for folder in (train.root, splits(two)[0].root)]
    assert same[0] == same[1]
    with pytest.raises(InputError, match="shapes_photos"):
        loaded(tmp_path, data)
