"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from repro.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write bytes to, which replaces ``path`` where the block ends without an error.

    Readers find the old file or the new one, whole, also after a kill at any moment. A link stays one: the file that it
    leads to is replaced. A pipe or a device (``/dev/stdout``) is written to as it is.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as file:
            yield file
        return
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


def write_asked_for(path: Path, content: str | bytes) -> Path:
    """Write a file that the user asked for, whole; an InputError where it cannot be written."""
    try:
        with replacing(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error})") from None
    return path
