"""Files that are there whole or not at all: written beside their place, flushed to the disk and renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which takes the place of ``path`` where the block ends well and goes where it does not.

    Whoever reads ``path``, at any moment and after a kill at any moment, finds the old file or the new one.

    Raises:
        OSError: It cannot be written.
    """
    # A name of its own: another process may write the same file, on another machine under the same process id too.
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
