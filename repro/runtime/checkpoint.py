"""Checkpoints of a run, written atomically.

Each has a digest of its values, because PyTorch loads a file with a flipped bit without an error.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch

from repro.errors import RunError
from repro.runtime.files import replacing

log = logging.getLogger(__name__)
FINAL = "final.pt"
KEPT = 2
DIGEST = "sha256"


def step_path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.pt"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first; the final one is the last."""
    return [*sorted(folder.glob("step_*.pt")), *folder.glob(FINAL)]


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write ``payload`` atomically and remove all but the last two checkpoints.

    Raises:
        RunError: The file cannot be written.
    """
    # Outside of the try: a fault of the device, which this notices first, is no full disk.
    payload = payload | {DIGEST: digest(payload)}
    try:
        for left in path.parent.glob("*.pt.*.tmp"):  # of processes that were killed while writing
            left.unlink(missing_ok=True)
        with replacing(path) as file:
            torch.save(payload, file)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        kept = checkpoints(path.parent)
        last = f"the last checkpoint, {kept[-1]}, is kept" if kept else "no earlier checkpoint exists"
        raise RunError(f"the checkpoint {path} cannot be written ({reason(error)}); {last}") from error
    for old in checkpoints(path.parent)[:-KEPT]:
        old.unlink()


def reason(error: Exception) -> str:
    """Return the first line of an error, or the operating system's reason if there is one."""
    cause = error if isinstance(error, OSError) else error.__context__
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def load_latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint that can be read; log each that cannot."""
    for path in reversed(checkpoints(folder)):
        try:
            return path, load(path)
        except RunError as error:
            log.info(str(error))
    return None


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint into host memory, without executing code from it.

    Raises:
        RunError: The file is truncated, altered or not a checkpoint.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file surfaces as many kinds of error
        raise RunError(f"the checkpoint {path} cannot be read ({reason(error)})") from error
    if not isinstance(payload, dict) or "model" not in payload:
        raise RunError(f"the checkpoint {path} has no model")
    if payload.pop(DIGEST, None) != digest(payload):
        raise RunError(f"the checkpoint {path} is damaged: its values do not have its digest")
    return payload


def digest(payload: dict[str, Any]) -> str:
    """Return the SHA-256 of all names, types, shapes and values in ``payload``, on any device."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            add(list(value.items()))
        elif isinstance(value, (list, tuple)):
            found.update(f"{len(value)} values".encode())
            for each in value:
                add(each)
        else:
            found.update(repr(value).encode())

    add(payload)
    return found.hexdigest()
