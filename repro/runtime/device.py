"""The device of a run: threads, arithmetic, host memory."""

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

import torch

from repro.config.execution import ExecutionConfig
from repro.errors import InputError

# Parameters of glibc's mallopt(3).
TRIM_THRESHOLD, NEVER = -1, -1
MMAP_MAX, NONE = -4, 0


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA, otherwise Apple's MPS, otherwise the CPU.

    Raises:
        InputError: This machine does not have the device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        raise InputError(f"device={name} is not available on this machine; device=auto picks one that is")
    return torch.device(name)


def num_processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads(execution: ExecutionConfig) -> int:
    """Return the number of threads of one operation: as set, otherwise this process's share of the processors."""
    return execution.threads or max(1, num_processors() // execution.devices)


def num_workers(execution: ExecutionConfig, device: torch.device) -> int:
    """Return the number of processes that decode for one device: as set, otherwise its processors, or 1 on a CPU."""
    if execution.workers is not None:
        return execution.workers
    return num_threads(execution) if device.type == "cuda" else 1


def set_up(execution: ExecutionConfig, precision: str) -> torch.device:
    """Pick the device and set threads and arithmetic: sums depend on the number of threads, products on TF32."""
    device = pick_device(execution.device)
    torch.set_num_threads(num_threads(execution))
    products = "tf32" if precision == "tf32" and device.type == "cuda" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = products
    if device.type == "cuda":
        # The older flag, which older compilers read, must agree: otherwise torch raises an error. On a CPU it would
        # allow TF32 as well.
        torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")
    # Always set: by default torch allows TF32 in convolutions.
    torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
    if device.type == "cuda":
        set_deterministic(execution.deterministic)
    keep_freed_memory()
    return device


def keep_freed_memory() -> None:
    """Keep freed host memory in the process, so that the next step need not wait for the system to clear it again."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return  # musl ignores mallopt, other libraries do not have it
    library.mallopt(TRIM_THRESHOLD, NEVER)
    library.mallopt(MMAP_MAX, NONE)


def set_deterministic(wanted: bool) -> None:
    """Choose bit-identical runs on a GPU, or the fastest algorithms in the libraries' own trials."""
    # cuBLAS reads this when it starts. Without two fixed workspaces, concurrent kernels share one in any order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if wanted:
        # NCCL reads this at its first collective: sums inside the network switch have no fixed order.
        os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    torch.use_deterministic_algorithms(wanted)
    # Every value is written before it is read: filling memory with NaN would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted


def arithmetic(device: torch.device, precision: str) -> str:
    """Return the arithmetic of products, for the record: not every device has TF32."""
    if precision != "tf32":
        return precision
    return "tf32" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass, for ``bf16`` in bfloat16 with float32 weights."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def setting(execution: ExecutionConfig, device: torch.device, step: str) -> dict[str, str]:
    """Return the settings besides science that determine a run's last bits; ``step`` is the mode of its steps."""
    return {
        "device": device_name(device),
        "threads": str(num_threads(execution)) if device.type == "cpu" else "any",
        "step": step if execution.micro_batch is None else f"{step}, {execution.micro_batch} images at a time",
        "deterministic": str(execution.deterministic or device.type == "cpu").lower(),
        "ranks": str(execution.devices) if execution.nodes == 1 else f"{execution.nodes}x{execution.devices}",
        "torch": str(torch.__version__),  # its own type would not load as plain weights
    }


def device_name(device: torch.device) -> str:
    """Return the device's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple MPS"
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_format(device: torch.device) -> torch.memory_format:
    """Return the memory format in which convolutions are faster; results agree up to rounding."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last
