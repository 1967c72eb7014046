"""CIFAR-100: the official archive, packed or unpacked, made by the test and known by its digests."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from repro.cli.main import main
from repro.data import load
from repro.data.cifar import cifar100
from repro.data.cifar.arrays import Official
from repro.data.cifar.cifar100 import ARCHIVE, BATCHES_DIR, fetch_cifar100, open_arrays
from repro.data.cifar.sources import OfficialArchive
from repro.errors import InputError
from tests.engine.test_run import go
from tests.runs import config

COUNTS = {"train": 200, "test": 100}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of few images like the official one, for which it is taken."""
    random, batches = np.random.default_rng(0), {}
    for name, count in COUNTS.items():
        labels = [int(label) for label in np.arange(count) % 100]
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        batches[name] = pickle.dumps({"data": data, "fine_labels": labels, "coarse_labels": labels}, protocol=2)
    path = tmp_path / "home" / ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{BATCHES_DIR}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    known = Official(path.as_uri(), md5(path.read_bytes()), {name: md5(b) for name, b in batches.items()})
    monkeypatch.setattr(cifar100, "official", lambda: known)
    return path


def put(archive: Path, root: Path, *, unpacked: bool = False) -> Path:
    folder = root / "cifar100"
    folder.mkdir(parents=True)
    if not unpacked:
        return Path(shutil.copy(archive, folder))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / BATCHES_DIR


@pytest.mark.parametrize("unpacked", [False, True])
def test_images_and_fine_labels_are_the_archives(archive: Path, tmp_path: Path, unpacked: bool) -> None:
    root = tmp_path / "data"
    put(archive, root, unpacked=unpacked)
    arrays = open_arrays(root)
    assert arrays["train_images"].shape == (200, 32, 32, 3) and arrays["test_labels"].tolist() == list(range(100))
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{BATCHES_DIR}/train")
        assert member is not None
        data = pickle.load(member)["data"]
    assert np.array_equal(arrays["train_images"][7, 3, 5], data[7].reshape(3, 32, 32)[:, 3, 5])


@pytest.mark.slow
def test_a_run_trains_on_100_classes(archive: Path, tmp_path: Path) -> None:
    put(archive, tmp_path / "data")
    of = config(tmp_path, "data=cifar100", "model.depth=8", "data.train_images=160", "data.test_images=64")
    dataset = load(of.data, of.paths.data, may_fetch=False)
    assert dataset.num_classes == of.data.num_classes == 100
    assert set(dataset.digests) == {"train_images", "train_labels", "test_images", "test_labels"}
    record = go(of)
    assert record is not None
    assert of.key == "cifar100-resnet8-smoke"
    held_out = config(
        tmp_path, "data=cifar100", "data.split=train45k_test", "data.train_images=180", "data.test_images=64"
    )
    dataset = load(held_out.data, held_out.paths.data, may_fetch=False)
    assert (len(dataset.train), dataset.train.name, dataset.eval.name) == (180, "train45k", "test")


def test_what_is_missing_or_altered_is_named_with_the_remedy(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(InputError, match=r"no CIFAR-100 in .*repro data fetch cifar100"):
        open_arrays(root)
    folder = put(archive, root, unpacked=True)
    content = bytearray((folder / "test").read_bytes())
    content[-100] ^= 1
    (folder / "test").write_bytes(content)
    with pytest.raises(InputError, match=r"its test is not the official one.*repro data fetch cifar100"):
        open_arrays(root)
    (folder / "test").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_arrays(root)
    shutil.rmtree(folder)
    (root / "cifar100" / ARCHIVE).write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        open_arrays(root)


def test_it_is_fetched_once_and_only_as_the_archive_that_is_known(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert main(["data", "fetch", "cifar100", f"paths.data={root}"]) == 0
    assert (root / "cifar100" / ARCHIVE).read_bytes() == archive.read_bytes()
    assert not (root / "cifar100" / "download").exists()
    archive.unlink()
    assert main(["data", "verify", "cifar100", f"paths.data={root}"]) == 0
    assert "train_images" in capsys.readouterr().out
    fetch_cifar100(root)
    source = OfficialArchive(known=cifar100.official, file=ARCHIVE, retries=0, pause_s=0)
    with pytest.raises(InputError, match="could not be fetched"):
        fetch_cifar100(tmp_path / "other", source)
    archive.write_bytes(b"another")
    with pytest.raises(InputError, match="md5 differs"):
        fetch_cifar100(tmp_path / "other", source)


def test_torchvision_knows_the_digests() -> None:
    known = cifar100.official()
    assert known.url.endswith(ARCHIVE)
    assert set(known.batches) == {"train", "test"} and len(known.md5) == 32
