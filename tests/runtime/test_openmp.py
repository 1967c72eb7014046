"""Threads soon sleep at a barrier in every training process, unless the user has set something else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from repro.runtime.openmp import BOUNDED, SETTINGS, bound_spinning, spin_settings

ENTRIES = (
    "repro.cli.main",
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


@pytest.mark.parametrize("module", ENTRIES)
def test_spinning_is_bounded_before_torch_is_imported(module: str) -> None:
    assert run_python(LOOK, module).split() == ["10000", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's runtime")
def test_the_runtime_of_torch_takes_the_bound() -> None:
    shown = run_python("import repro.runtime.device", OMP_DISPLAY_ENV="VERBOSE")
    assert "GOMP_SPINCOUNT = '10000'" in shown


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_user_stays_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in SETTINGS:
        monkeypatch.delenv(other, raising=False)
    value = {"OMP_WAIT_POLICY": "ACTIVE"}.get(name, "7")
    monkeypatch.setenv(name, value)
    bound_spinning()
    assert spin_settings() == {name: value}


def test_what_is_in_force_is_ours_where_the_user_set_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    bound_spinning()
    assert spin_settings() == BOUNDED
