"""The output of `repro doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from repro import __version__
from repro.config.arguments import can_be_made
from repro.config.paths import shared_dir
from repro.errors import first_line

MARK = "  <- "
"""Stands before anything that needs attention."""
VARIABLES = ("REPRO_", "CUDA_", "OMP_", "MKL_", "NCCL_", "SLURM_JOB_ID", "TORCH")


def doctor(paths: dict[str, Path]) -> str:
    """Describe the environment, one line per item."""
    lines = {
        "repro": code(),
        "python": f"{platform.python_version()}, {platform.platform()}, {sys.executable}",
        **devices(),
        "cifar10": cifar10(paths["data"]),
        **{name: folder(path) for name, path in paths.items()},
        "versions": versions(),
        "variables": variables(),
    }
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


def code() -> str:
    from repro.runtime.provenance import environment, uncounted

    why = uncounted()
    return f"{__version__}, commit {environment()['commit']}" + (f"{MARK}{why}" if why else "")


def processor(name: str) -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB of memory"
    return f"{name}, {usable} of {os.cpu_count()} cores usable{memory}"


def devices() -> dict[str, str]:
    """Describe the devices; if torch cannot be imported, say so instead of failing."""
    try:
        import torch

        from repro.runtime.device import device_name, pick_device
    except Exception as error:
        failed = f"cannot be imported{MARK}{type(error).__name__}: {first_line(error)}"
        return {"processor": processor(platform.processor()), "torch": failed}
    from repro.engine.compiled import lacking_for_triton
    from repro.runtime.nvidia_mps import CONTROL

    names = [device_name(torch.device("cuda", i)) for i in range(torch.cuda.device_count())]
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    unseen = f"{MARK}nvidia-smi is installed, but torch sees no GPU" if shutil.which("nvidia-smi") and not names else ""
    lacking = lacking_for_triton()
    return {
        "processor": processor(device_name(torch.device("cpu"))),
        "torch": f"{torch.__version__}, {built}; device=auto is {pick_device('auto').type}",
        "gpus": (", ".join(names) or "none") + unseen,
        "apple mps": "yes" if torch.backends.mps.is_available() else "no",
        "nvidia mps": "yes, for several runs on a GPU" if shutil.which(CONTROL) else "no",
        "triton": installed("triton") + (f"; execution.step=compile lacks {lacking}" if lacking else ""),
    }


def installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cifar10(data: Path) -> str:
    from repro.data.cifar.arrays import missing_files

    missing = missing_files(data)
    return f"{len(missing)} files are missing from {data}; a run fetches them" if missing else f"in {data}"


def folder(path: Path) -> str:
    there = next(place for place in (path, *path.parents) if place.exists())
    free = f"{path}, {shutil.disk_usage(there).free / 1e9:.0f} GB free"
    return free if can_be_made(path) else f"{free}{MARK}cannot be written"


def versions() -> str:
    """Compare the installed packages with those behind the published numbers."""
    try:
        lines = shared_dir("constraints.txt").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return f"constraints.txt cannot be read ({error.strerror})"
    wanted = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    found = {name: installed(name) for name in wanted}
    # A local part, as in 2.15.0+cpu, names a build of the same version.
    other = [f"{n} {found[n]} instead of {wanted[n]}" for n in wanted if found[n].partition("+")[0] != wanted[n]]
    return f"{MARK.strip()} not as in constraints.txt: {', '.join(other)}" if other else "as in constraints.txt"


def variables() -> str:
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)]
    return " ".join(found) or "none"
