"""Compiled code of a step: what builds it, and where it is kept."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from functools import cache
from pathlib import Path

import torch

from repro.models.blocks import BlockNet
from repro.runtime.device import device_name

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Names the folder of compiled code; a setting of the user's stays."""


def compile_blocks(model: BlockNet) -> None:
    """Compile the blocks rather than the net: a few kinds of block (five for CIFAR) serve every depth, seed and run of
    a process, so that 1202 layers start as fast as 20."""
    # A kind counts apart for training, evaluation and each batch size; torch would give up after eight.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.optimize_ddp = False  # which would split a block by the buckets of its gradients
    for block in model.blocks():
        block.compile(dynamic=False)


def lacking_for_triton() -> str:
    """Return which build tools Triton needs that are missing on this machine."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler such as gcc"
    scheme = sysconfig.get_default_scheme()
    folder = sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme)
    header = Path(folder, "Python.h")
    return "" if header.is_file() else f"Python's headers, {header}"


@cache
def builds(device: torch.device) -> bool:
    """Return whether a small function can be compiled for ``device`` and gives what it should."""
    values = torch.arange(8.0, device=device)
    try:
        return torch.equal(torch.compile(_twice_and_one)(values), _twice_and_one(values))
    except Exception:  # a compiler that is missing, broken or too old fails in many ways
        return False


def _twice_and_one(values: torch.Tensor) -> torch.Tensor:
    return 2 * values + 1


def cache_folder(work: Path, device: torch.device) -> Path:
    """Return the folder of compiled code for this device and version of torch, inside ``work`` or the user's own."""
    name = re.sub(r"[^\w.+]+", "-", f"{device_name(device)} torch {torch.__version__}")
    return Path(os.environ.get(CACHE) or work.absolute() / ".compiled" / name)


def keep_compiled(work: Path, device: torch.device) -> None:
    """Let torch keep compiled code in ``cache_folder``, so that only the first run of a machine waits for it."""
    os.environ.setdefault(CACHE, str(cache_folder(work, device)))


def is_kept(work: Path, device: torch.device) -> bool:
    """Return whether something was compiled into ``cache_folder`` before."""
    return any(cache_folder(work, device).glob("fxgraph/*"))
