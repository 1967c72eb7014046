"""Work that several processes need, done by one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_at_a_time(lock: Path, task: str) -> Iterator[None]:
    """Wait until no other process holds ``lock``, and hold it.

    Raises:
        OSError: The folder of the lock cannot be made or written.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        file = FileLock(lock)
        try:
            held.enter_context(file.acquire(timeout=1))
        except Timeout:
            log.info(f"another process is {task}: waiting for it")
            held.enter_context(file.acquire())
        except NotImplementedError:
            pass  # a file system without locks: at worst the work is done twice
        yield
