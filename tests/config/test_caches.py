"""Folders of libraries' caches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR")
SCRIPT = """
import os, pathlib, sys
from repro.config.arguments import quiet_caches
quiet_caches(pathlib.Path(sys.argv[1]))
for name in sys.argv[2:]:
    pathlib.Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    print(os.environ[name])
"""


def caches(work: Path, **variables: str) -> list[Path]:
    """Return the folders that a command with this work folder uses, after making them as the libraries do."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    words = [sys.executable, "-c", SCRIPT, str(work), *NAMES]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def test_caches_are_in_the_work_folder_except_those_of_the_user(tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    inductor, *others = caches(tmp_path / "work", TORCHINDUCTOR_CACHE_DIR=own)
    assert str(inductor) == own
    assert {path.parent for path in others} == {tmp_path / "work" / "cache"}


@pytest.mark.parametrize("parent", ["/proc", "a file"])
def test_without_a_work_folder_caches_are_in_a_temporary_one_that_goes(parent: str, tmp_path: Path) -> None:
    if parent == "a file":
        (tmp_path / parent).touch()
    elif not Path(parent).exists():
        pytest.skip("there is no /proc")
    used = caches(tmp_path / parent / "work", TMPDIR=str(tmp_path))
    assert {path.parent.parent for path in used} == {tmp_path}
    assert not any(path.parent.exists() for path in used)
