"""CIFAR-10: stored arrays, raw copies and splits, on a tiny stand-in with its own digests."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.data import load
from repro.data.cifar import arrays as cifar10
from repro.errors import InputError
from tests.tiny_cifar10 import (
    BATCHES,
    TINY,
    WRITERS,
    Writer,
    config,
    pickles_of,
    tarball,
    tiny_arrays,
    write_archive,
    write_batches,
    write_npm_tarball,
)


@pytest.fixture
def root(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Return a data folder with the tiny arrays."""
    (tmp_path / "cifar10").mkdir()
    cifar10.store(tmp_path, arrays)
    return tmp_path


# --- stored arrays


def test_stored_arrays_verify_and_nothing_else_is_left(root, arrays):
    assert cifar10.verify_cifar10(root) == {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()
    }
    assert sorted(path.name for path in (root / "cifar10").iterdir()) == sorted(f"{name}.npy" for name in TINY)


@pytest.mark.parametrize("name", list(TINY))
def test_one_changed_byte_names_the_file(root, name):
    path = root / "cifar10" / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for read in (lambda: cifar10.verify_cifar10(root), lambda: load(config(), root, may_fetch=True)):
        with pytest.raises(InputError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "altered" in str(caught.value)
        assert f"repro data fetch cifar10 paths.data={root}" in str(caught.value)
        assert len([other for other in TINY if f"{other}.npy" in str(caught.value)]) == 1


@pytest.mark.parametrize("size", [0, 60, 128, 5000])
def test_a_truncated_file_is_named_as_truncated(root, size):
    path = root / "cifar10" / "train_images.npy"
    path.write_bytes(path.read_bytes()[:size])
    for read in (lambda: cifar10.verify_cifar10(root), lambda: load(config(), root, may_fetch=False)):
        with pytest.raises(InputError, match=r"train_images\.npy is truncated"):
            read()


def test_a_file_of_right_bytes_in_another_shape_is_refused(root, arrays):
    np.save(root / "cifar10" / "test_images.npy", arrays["test_images"].reshape(10, 3, 32, 32))
    with pytest.raises(InputError, match=r"test_images\.npy was altered"):
        cifar10.verify_cifar10(root)


def test_bytes_after_the_end_are_refused(root):
    with (root / "cifar10" / "test_labels.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"test_labels\.npy was altered"):
        cifar10.verify_cifar10(root)


def test_a_missing_file_is_named(root):
    (root / "cifar10" / "test_labels.npy").unlink()
    with pytest.raises(InputError, match=r"test_labels\.npy is missing.*repro data fetch cifar10"):
        cifar10.verify_cifar10(root)
    with pytest.raises(InputError, match=r"test_labels\.npy is missing"):
        load(config(), root, may_fetch=False)


@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_a_folder_without_the_data_is_named_with_the_command(tmp_path, arrays, kind):
    root = tmp_path / "data"
    if kind == "empty":
        root.mkdir()
    if kind == "file":
        root.write_text("not a folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        load(config(), root, may_fetch=False)
    assert f"`repro data fetch cifar10 paths.data={root}`" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


# --- raw copies


@pytest.mark.parametrize("write", WRITERS)
def test_every_raw_copy_gives_the_same_arrays(tmp_path, arrays, write: Writer):
    decoded = cifar10.decode(write(tmp_path, arrays))
    for name, array in arrays.items():
        assert decoded[name].dtype == np.uint8
        np.testing.assert_array_equal(decoded[name], array)


@pytest.mark.parametrize("write", WRITERS)
def test_a_copy_with_other_images_is_refused(tmp_path, arrays, write: Writer, monkeypatch):
    other = tiny_arrays(seed=1)
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in pickles_of(other).items()}
    monkeypatch.setattr(cifar10, "official", lambda: cifar10.Official("", "", md5s))
    with pytest.raises(cifar10.BadCopyError, match="SHA-256"):
        cifar10.decode(write(tmp_path, other))


@pytest.mark.parametrize("write", [write_archive, write_npm_tarball])
@pytest.mark.parametrize("kept", [0, 10, 1000, 100_000])
def test_a_truncated_tarball_is_a_bad_copy(tmp_path, arrays, write: Writer, kept):
    path = write(tmp_path, arrays)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(cifar10.BadCopyError):
        cifar10.decode(path)


class Trap:
    """An object that writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.mark, "sprung"))


@pytest.mark.parametrize("packed", [False, True])
def test_no_pickle_is_loaded_before_its_md5_was_checked(tmp_path, arrays, packed):
    mark = tmp_path / "mark"
    files = {**pickles_of(arrays), "data_batch_1": pickle.dumps(Trap(mark))}
    if packed:
        copy = tmp_path / "cifar-10-python.tar.gz"
        copy.write_bytes(tarball("cifar-10-batches-py", files))
    else:
        copy = write_batches(tmp_path, arrays)
        (copy / "data_batch_1").write_bytes(files["data_batch_1"])
    with pytest.raises(cifar10.BadCopyError, match="data_batch_1 is not the official one"):
        cifar10.decode(copy)
    assert not mark.exists()
    pickle.loads(files["data_batch_1"])
    assert mark.exists(), "the trap itself works"


def test_torchvision_knows_the_official_archive():
    known = cifar10.official()
    assert known.url.endswith(cifar10.ARCHIVE)
    assert sorted(known.batches) == sorted(BATCHES)
    assert all(len(md5) == 32 for md5 in [known.md5, *known.batches.values()])


def test_nothing_here_imports_torch():
    code = "import sys, repro.data.cifar.fetch, repro.data.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- splits


def test_load_gives_the_whole_set(root, arrays):
    dataset: Any = load(config(), root, may_fetch=False)
    assert (dataset.name, dataset.num_classes) == ("cifar10", 10)
    assert (dataset.train.name, dataset.eval.name) == ("train", "test")
    assert isinstance(dataset.train.images, np.memmap)
    assert dataset.train.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.train.images, arrays["train_images"])
    np.testing.assert_array_equal(dataset.train.labels, arrays["train_labels"])
    np.testing.assert_array_equal(dataset.eval.images, arrays["test_images"])
    np.testing.assert_array_equal(dataset.eval.labels, arrays["test_labels"])
    assert dataset.digests == {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def test_train45k_holds_out_the_last_tenth(root, arrays):
    dataset: Any = load(config(split="train45k", test_images=3), root, may_fetch=False)
    assert (dataset.train.name, dataset.eval.name) == ("train45k", "val5k")
    np.testing.assert_array_equal(dataset.train.images, arrays["train_images"][:45])
    np.testing.assert_array_equal(dataset.eval.images, arrays["train_images"][45:48])
    np.testing.assert_array_equal(dataset.eval.labels, arrays["train_labels"][45:48])


def test_the_first_images_are_taken_and_the_digests_stay_those_of_the_whole(root, arrays):
    dataset: Any = load(config(train_images=7, test_images=2), root, may_fetch=False)
    np.testing.assert_array_equal(dataset.train.images, arrays["train_images"][:7])
    np.testing.assert_array_equal(dataset.train.labels, arrays["train_labels"][:7])
    assert len(dataset.eval.images) == len(dataset.eval.labels) == 2
    assert dataset.digests == load(config(), root, may_fetch=False).digests


@pytest.mark.parametrize(
    ("setting", "count", "split"),
    [("train_images", 51, "train"), ("test_images", 11, "train"), ("train_images", 46, "train45k")],
)
def test_more_images_than_there_are_is_an_input_error(root, setting, count, split):
    with pytest.raises(InputError, match=rf"data\.{setting}={count} is more than the {count - 1} images"):
        load(config(split=split, **{setting: count}), root, may_fetch=False)


@pytest.mark.parametrize("size", [16, 8])
def test_smaller_images_are_block_means_rounded_half_up(root, arrays, size):
    factor = 32 // size
    blocks = arrays["test_images"].reshape(10, size, factor, size, factor, 3).astype(float)
    expected = np.floor(blocks.mean(axis=(2, 4)) + 0.5)
    dataset: Any = load(config(image_size=size), root, may_fetch=False)
    images = dataset.eval.images
    assert images.dtype == np.uint8
    assert images.shape == (10, size, size, 3)
    np.testing.assert_array_equal(images, expected)
    assert (blocks.mean(axis=(2, 4)) % 1 == 0.5).any(), "halves occur"


def test_a_file_is_read_once_until_it_changes(root, monkeypatch):
    read: list[str] = []
    check = cifar10.checked_digest

    def noting(path: Path, root: Path, spec: cifar10.ArraySpec) -> str:
        read.append(path.stem)
        return check(path, root, spec)

    monkeypatch.setattr(cifar10, "checked_digest", noting)
    load(config(), root, may_fetch=False)
    load(config(), root, may_fetch=False)
    assert sorted(read) == sorted(TINY)
    path = root / "cifar10" / "test_labels.npy"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    load(config(), root, may_fetch=False)
    assert read[4:] == ["test_labels"]
