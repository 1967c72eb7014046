"""Threads soon sleep at a barrier on a busy machine, unless the user has set something else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from repro.runtime.openmp import BOUNDED, SETTINGS, bound_spinning, others_run, spin_settings

ENTRIES = (
    "repro.cli.main",
    "repro.launch.process",
    "repro.launch.worker",
    "repro.launch.torchrun_worker",
    "repro.launch.slurm.job",
    "repro.bench.worker",
)

LOOK = """
import importlib, os, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("KMP_BLOCKTIME"))
            os._exit(0)

sys.meta_path.insert(0, Finder)
importlib.import_module(sys.argv[1])
import torch
"""


def run_python(code: str, *arguments: str, **variables: str) -> str:
    """Run ``code`` in a process where the user has set only ``variables``; return its output."""
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Leave an environment in which the user has set nothing; it is as before after the test."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep two processors busy while a test runs."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def written(folder: Path, text: str) -> Path:
    """Write what /proc/loadavg would say; return its place."""
    load = folder / "loadavg"
    load.write_text(text)
    return load


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says who runs")
@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("module", ENTRIES)
def test_spinning_is_bounded_before_torch_is_imported(module: str) -> None:
    assert run_python(LOOK, module).split() == ["10000", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's runtime")
@pytest.mark.usefixtures("busy")
def test_the_runtime_of_torch_takes_the_bound() -> None:
    shown = run_python("import repro.runtime.device", OMP_DISPLAY_ENV="VERBOSE")
    assert "GOMP_SPINCOUNT = '10000'" in shown


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ("0.00 0.01 0.05 1/105 4711", False),
        ("0.00 0.01 0.05 2/105 4711", True),
        ("9.00 9.01 9.05 1/105 4711", False),
        ("0.00 0.01 0.05 0/0 4711", False),
        ("nothing", False),
        ("", False),
    ],
)
def test_a_machine_is_busy_where_another_thread_runs_now(text: str, busy: bool, tmp_path: Path) -> None:
    assert others_run(written(tmp_path, text)) is busy


def test_a_thread_that_runs_for_a_moment_makes_no_busy_machine(tmp_path: Path) -> None:
    load = written(tmp_path, "0.00 0.01 0.05 2/105 4711")
    stop = threading.Timer(0.02, load.write_text, ["0.00 0.01 0.05 1/105 4711"])
    stop.start()
    assert not others_run(load, looks=10_000)


def test_on_a_quiet_machine_and_where_nothing_is_known_the_runtime_decides(
    tmp_path: Path, unset: pytest.MonkeyPatch
) -> None:
    bound_spinning(written(tmp_path, "0.00 0.01 0.05 1/105 4711"))
    bound_spinning(tmp_path / "missing")
    assert spin_settings() == {}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_user_stays_alone(name: str, tmp_path: Path, unset: pytest.MonkeyPatch) -> None:
    value = {"OMP_WAIT_POLICY": "ACTIVE"}.get(name, "7")
    unset.setenv(name, value)
    bound_spinning(written(tmp_path, "0.00 0.01 0.05 9/105 4711"))
    assert spin_settings() == {name: value}


def test_what_is_in_force_is_ours_on_a_busy_machine(tmp_path: Path, unset: pytest.MonkeyPatch) -> None:
    bound_spinning(written(tmp_path, "0.00 0.01 0.05 9/105 4711"))
    assert spin_settings() == BOUNDED
