"""Compilation of training steps, and its cache."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from repro.models.blocks import BlockNet
from repro.runtime.device import device_name

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""The variable for the folder of compiled code, which the user may have set."""


def compile_blocks(model: BlockNet) -> None:
    """Compile the blocks of a net rather than the net itself.

    A few kinds of block (five for CIFAR) then serve all depths, seeds and runs of a process, so that 1202 layers start
    as fast as 20.
    """
    # Each kind is compiled for training, for evaluation and for each batch size; by default torch gives up after eight.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.optimize_ddp = False  # it would split blocks at the buckets of DDP
    for block in model.blocks():
        block.compile(dynamic=False)


def lacking_for_triton() -> str:
    """Return the first build tool of Triton that this machine lacks, or nothing."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler such as gcc"
    scheme = sysconfig.get_default_scheme()
    folder = sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme)
    header = Path(folder, "Python.h")
    return "" if header.is_file() else f"Python's headers, {header}"


@cache
def builds(device: torch.device) -> bool:
    """Return whether a small net can be compiled for ``device``, both passes, and computes the same there."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).to(device)
    images = torch.linspace(-1, 1, 4 * 3 * 8 * 8, device=device).view(4, 3, 8, 8)
    try:
        calls: list[Callable[[Tensor], Tensor]] = [net, torch.compile(net)]
        found = [_loss_and_gradient(net, call, images) for call in calls]
    except Exception:  # missing, broken and old compilers cause errors of many types
        return False
    return all(torch.allclose(one, other, rtol=1e-2, atol=1e-4) for one, other in zip(*found, strict=True))


def _loss_and_gradient(net: nn.Module, call: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    loss = call(images).square().mean()
    (gradient,) = torch.autograd.grad(loss, [next(net.parameters())])
    return loss.detach(), gradient


def cache_folder(work: Path, device: torch.device) -> Path:
    """Return the folder of compiled code for this device and version of torch: the user's own, or one in ``work``."""
    name = re.sub(r"[^\w.+]+", "-", f"{device_name(device)} torch {torch.__version__}")
    return Path(os.environ.get(CACHE) or work.absolute() / ".compiled" / name)


def keep_compiled(work: Path, device: torch.device) -> None:
    """Let torch store compiled code in ``cache_folder``, so that only the first run on a machine waits for it."""
    os.environ.setdefault(CACHE, str(cache_folder(work, device)))


def is_kept(work: Path, device: torch.device) -> bool:
    """Return whether ``cache_folder`` has compiled code."""
    return any(cache_folder(work, device).glob("fxgraph/*"))
