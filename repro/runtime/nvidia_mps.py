"""NVIDIA's Multi-Process Service, for several processes on one GPU."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
OURS = "REPRO_MPS"  # set for the clients of our daemon, since the machine may have its own
ANSWER_SECONDS = 20.0
LONGEST_PATH = 80  # characters of the folder, so that a socket in it stays below the system's limit of 108


@contextlib.contextmanager
def mps(work: Path) -> Iterator[dict[str, str] | None]:
    """Start an MPS daemon for this process; yield the environment of its clients, or None if it does not work."""
    folder = work / f"mps-{os.getpid()}"
    if shutil.which(CONTROL) is None or len(str(folder)) > LONGEST_PATH:
        yield None
        return
    settings = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder), OURS: "1"}
    # The daemon must see all GPUs: otherwise their numbers would change for its clients.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"} | settings
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Try it with a client: in containers and virtual machines the daemon may start without a working server.
        if succeeds([CONTROL, "-d"], environment) and succeeds([sys.executable, "-c", CLIENT], environment):
            yield settings
            return
    finally:
        end(environment)
        shutil.rmtree(folder, ignore_errors=True)
    yield None


CLIENT = """
import ctypes
cuda, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
error = cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0)
raise SystemExit(bool(error or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)))
"""


def end(environment: dict[str, str]) -> None:
    """End the daemon of ``environment`` if it is ours, once its clients are gone."""
    if OURS in environment:
        succeeds([CONTROL], environment, "quit\n")


def succeeds(command: list[str], environment: dict[str, str], said: str = "") -> bool:
    """Return whether ``command`` with the input ``said`` ends in time with exit code 0."""
    null = subprocess.DEVNULL  # a daemon would keep a pipe open
    try:
        subprocess.run(
            command,
            env=environment,
            input=said,
            text=True,
            stdout=null,
            stderr=null,
            timeout=ANSWER_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True
