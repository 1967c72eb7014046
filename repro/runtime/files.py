"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from repro.errors import InputError, RunError


@contextlib.contextmanager
def replacing(path: Path, failure: type[InputError | RunError] | None = None) -> Iterator[IO[bytes]]:
    """Give a file to write bytes to, which replaces ``path`` where the block ends without an error.

    Readers find the old file or the new one, whole, also after a kill at any moment. A link stays one: the file that it
    leads to is replaced. A pipe or a device (``/dev/stdout``) is written to as it is. An OSError is raised as
    ``failure`` where that is given, with the path and the reason.
    """
    target = path.resolve() if path.is_symlink() else path
    is_odd = target.exists() and not target.is_file() and not target.is_dir()
    # A name of its own: another process may write the same file, on another machine under the same process id too.
    beside = None if is_odd else target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with (beside or target).open("wb") as file:
            yield file
            if beside is not None:
                file.flush()
                os.fsync(file.fileno())
        if beside is not None:
            beside.replace(target)
    except BaseException as error:
        if beside is not None:
            with contextlib.suppress(OSError):
                beside.unlink()
        if failure is not None and isinstance(error, OSError):
            raise failure(f"{path} cannot be written ({error.strerror or error})") from error
        raise


def write_asked_for(path: Path, content: str | bytes) -> Path:
    """Write a file that the user asked for, whole; an InputError where it cannot be written."""
    with replacing(path, InputError) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path
