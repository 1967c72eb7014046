"""Locks between processes: of a run, and of shared work."""

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
HOLD_SECONDS = 1.0  # the wait for a lock: a status command holds it for a moment when it looks


class Elsewhere(RunError):
    """Another process trains the run."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run's lock, which the system drops with the process; raise Elsewhere where another one trains the
    run."""
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(FileLock(folder / LOCK, timeout=HOLD_SECONDS))
            if isinstance(lock, SoftFileLock):  # a mere file, which would outlive its process
                raise NotImplementedError
        except Timeout as error:
            named = f" ({who})" if (who := owner(folder)) else ""
            raise Elsewhere(f"{folder.name} is being trained by another process{named}") from error
        except NotImplementedError as error:
            raise RunError(f"the file system of {folder} has no locks: choose paths.work on another one") from error
        except OSError as error:
            raise RunError(f"the folder {folder} cannot be used ({error.strerror})") from error
        # Only a name: a full disk must not hinder a run that has room for its checkpoints.
        with contextlib.suppress(RunError):
            write_json(folder / OWNER, {"pid": os.getpid(), "host": socket.gethostname(), "started": now()})
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / OWNER).unlink()


def owner(folder: Path) -> str:
    """Return the process that holds the run's lock, or nothing; it means something only while ``is_held``."""
    try:
        values = read_json(folder / OWNER)
        return f"pid {values['pid']}, host {values['host']}, since {values['started']}"
    except (InputError, KeyError):
        return ""


def is_held(folder: Path) -> bool:
    """Return whether a living process holds the lock of the run in ``folder``."""
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
    """Hold ``lock`` while doing ``task``, which several processes need; wait for another that does it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        file = FileLock(lock)
        try:
            held.enter_context(file.acquire(timeout=HOLD_SECONDS))
        except Timeout:
            log.info(f"another process is {task}: waiting for it")
            held.enter_context(file.acquire())
        except NotImplementedError:
            pass  # a file system without locks: at worst the work is done twice
        yield
