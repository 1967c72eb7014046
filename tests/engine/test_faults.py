"""A sweep killed at any moment and restarted with the same command ends with the same bits.

``make test-faults`` kills fifty times (``REPRO_FAULTS=50``), damages the checkpoints of a sweep and fills its disk. The
ordinary tests of the pool, of runs and of torchrun kill once each.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.runtime import checkpoint

KILLS = int(os.environ.get("REPRO_FAULTS", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not KILLS, reason="takes minutes: make test-faults")]

TRAINING = (
    *("data=synthetic", "scale=smoke", "device=cpu", "model.depth=8", "seed=0,1", "optim.steps=60"),
    # With a checkpoint after every step, many kills hit the writing of one.
    *("eval.every_steps=5", "execution.threads=1", "execution.log_steps=1", "execution.checkpoint_seconds=0"),
)

SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]
"""Signals to draw from: three of four give the run no time to save."""


def start(work: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "repro", "run", *TRAINING, *words, f"paths.work={work}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def children(pid: int) -> list[int]:
    """List the processes that ``pid`` started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def commands_naming(text: str) -> list[int]:
    """List the processes whose command line contains ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def finish(work: Path, *words: str) -> str:
    process = start(work, *words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def final(work: Path) -> dict[str, Any]:
    return {path.parent.name: checkpoint.load(path) for path in sorted(work.glob(f"*/{checkpoint.FINAL}"))}


def assert_same(found: Path, expected: Path) -> None:
    """Compare weights, momentum and curves of all runs, to the last bit."""
    one, two = final(found), final(expected)
    assert one.keys() == two.keys()
    for run in two:
        assert all(torch.equal(one[run]["model"][name], tensor) for name, tensor in two[run]["model"].items()), run
        for mine, theirs in zip(
            one[run]["optimizer"]["state"].values(), two[run]["optimizer"]["state"].values(), strict=True
        ):
            assert torch.equal(mine["momentum_buffer"], theirs["momentum_buffer"]), run
        assert (found / run / "curve.csv").read_bytes() == (expected / run / "curve.csv").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Train the sweep without kills; return its work folder and the seconds that it took."""
    work = tmp_path_factory.mktemp("undisturbed") / "work"
    began = time.monotonic()
    finish(work)
    return work, time.monotonic() - began


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize("parallel", [1, 2])
def test_kills_at_random_moments(undisturbed: tuple[Path, float], tmp_path: Path, parallel: int) -> None:
    expected, seconds = undisturbed
    draw = random.Random(parallel)
    kills = runs = 0
    share = KILLS // 2 if parallel == 1 else KILLS - KILLS // 2
    while kills < share:
        runs += 1
        work = tmp_path / f"work{runs}"
        # Kill the sweep several times in a row, each time at some moment from the imports to the last step.
        for _ in range(min(draw.choice([1, 2, 4]), share - kills)):
            process = start(work, f"execution.parallel={parallel}")
            time.sleep(draw.uniform(0.4, 1.1) * seconds)
            below = children(process.pid)
            victim = draw.choice([process.pid, *below])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, draw.choice(SIGNALS))
            process.communicate(timeout=120)
            kills += 1
            deadline = time.monotonic() + 30
            while commands_naming(str(work)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not commands_naming(str(work)), "a worker outlives its launcher"
        finish(work, f"execution.parallel={parallel}")
        assert_same(work, expected)


def test_no_room_for_a_checkpoint(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: writing fails in the same way."""
    work = tmp_path / "work"
    stopped = start(work, "execution.max_minutes=0.0001")
    stopped.communicate(timeout=120)
    assert stopped.returncode == 75
    kept = sorted(work.glob("*/step_*.pt"))
    limit = 100_000

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = start(work, preexec_fn=no_room)
    out, _ = full.communicate(timeout=120)
    assert full.returncode == 1
    assert "cannot be written (File too large)" in out
    assert "Traceback" not in out
    assert [path for path in kept if not path.exists()] == []
    assert not list(work.glob("*/*.tmp")), "no half of a checkpoint is left"
    finish(work)
    assert_same(work, undisturbed[0])


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_newest_checkpoint(undisturbed: tuple[Path, float], tmp_path: Path, damage: str) -> None:
    work = tmp_path / "work"
    stopped = start(work)
    while len(list(work.glob("*/step_*.pt"))) != 2:
        assert stopped.poll() is None
        time.sleep(0.02)
    stopped.kill()
    stopped.communicate(timeout=120)
    newest = sorted(work.glob("*/step_*.pt"))[-1]
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    out = finish(work)
    assert newest.name in out, "the damaged one is named"
    assert_same(work, undisturbed[0])
