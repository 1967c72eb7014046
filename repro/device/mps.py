"""NVIDIA MPS: lets several processes use one GPU at the same time rather than in turns."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
OURS = "REPRO_MPS"
"""Set for the clients of a daemon that this program started: the machine may have one of its own."""
ANSWER_SECONDS = 20.0
LONGEST_PATH = 80
"""Characters of the folder: a socket inside it must stay below the system's 108."""


@contextlib.contextmanager
def mps(work: Path) -> Iterator[dict[str, str] | None]:
    """Starts an MPS daemon of this process's own; gives the environment of its clients, or None where none starts."""
    folder = work / f"mps-{os.getpid()}"
    if shutil.which(CONTROL) is None or len(str(folder)) > LONGEST_PATH:
        yield None
        return
    settings = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder), OURS: "1"}
    # The daemon sees all GPUs: what it left out would be numbered anew for its clients.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | settings
    try:
        folder.mkdir(parents=True, exist_ok=True)
        started = call("-d", environment=environment)
        yield settings if started else None
    finally:
        end(environment)
        shutil.rmtree(folder, ignore_errors=True)


def end(environment: dict[str, str]) -> None:
    """Ends the daemon that ``environment`` names, where it is one of ours, once its clients are gone."""
    if OURS in environment:
        call(environment=environment, said="quit\n")


def call(*words: str, environment: dict[str, str], said: str = "") -> bool:
    """Whether the control program did what it was told."""
    try:
        done = subprocess.run(
            [CONTROL, *words],
            env=environment,
            input=said,
            text=True,
            stdout=subprocess.DEVNULL,  # a daemon would keep a pipe open
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
