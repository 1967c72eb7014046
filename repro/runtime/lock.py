"""Locks between processes, for runs and for shared work."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from repro.errors import InputError, RunError
from repro.runtime.provenance import now, read_json, write_json

log = logging.getLogger(__name__)

LOCK, OWNER = "lock", "owner.json"
HOLD_SECONDS = 1.0  # the wait for a lock, which a status command may hold for a moment


class Elsewhere(RunError):
    """Another process trains the run."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run's lock, which the system releases when the process ends.

    Raises:
        Elsewhere: Another process trains the run.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(FileLock(folder / LOCK, timeout=HOLD_SECONDS))
            if isinstance(lock, SoftFileLock):  # only a file, which would stay after its process
                raise NotImplementedError
        except Timeout as error:
            named = f" ({who})" if (who := owner(folder)) else ""
            raise Elsewhere(f"{folder.name} is being trained by another process{named}") from error
        except NotImplementedError as error:
            raise RunError(f"the file system of {folder} has no locks: choose paths.work on another one") from error
        except OSError as error:
            raise RunError(f"the folder {folder} cannot be used ({error.strerror})") from error
        # The name is optional: a full disk must not stop a run that has room for its checkpoints.
        with contextlib.suppress(RunError):
            write_json(folder / OWNER, {"pid": os.getpid(), "host": socket.gethostname(), "started": now()})
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / OWNER).unlink()


def owner(folder: Path) -> str:
    """Describe the process that holds the run's lock, valid only while ``is_held``; empty if unknown."""
    try:
        values = read_json(folder / OWNER)
        return f"pid {values['pid']}, host {values['host']}, since {values['started']}"
    except (InputError, KeyError):
        return ""


def is_held(folder: Path) -> bool:
    """Return whether a process holds the lock of the run in ``folder``."""
    path = folder / LOCK
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


@contextlib.contextmanager
def one_at_a_time(lock: Path, task: str) -> Iterator[None]:
    """Hold ``lock`` during ``task``, which several processes need; wait if another process is doing it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        file = FileLock(lock)
        try:
            held.enter_context(file.acquire(timeout=HOLD_SECONDS))
        except Timeout:
            log.info(f"another process is {task}: waiting for it")
            held.enter_context(file.acquire())
        except NotImplementedError:
            pass  # without locks in the file system, the work may be done twice
        yield
