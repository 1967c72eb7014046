"""Files that are written atomically."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from repro.errors import InputError, RunError


@contextlib.contextmanager
def replacing(path: Path, failure: type[InputError | RunError] | None = None) -> Iterator[IO[bytes]]:
    """Yield a file for bytes, which replaces ``path`` if the block ends without an error.

    Readers find the old file or the complete new one, also after a kill at any moment. The target of a link is
    replaced, not the link. A pipe or a device (``/dev/stdout``) is written to directly.

    Args:
        failure: The type of exception, with path and reason, that replaces an OSError.
    """
    target = path.resolve() if path.is_symlink() else path
    is_odd = target.exists() and not target.is_file() and not target.is_dir()
    # A random name: another process, even with this id on another machine, may write the same file.
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


def make_folder(folder: Path, failure: type[InputError | RunError]) -> None:
    """Make a folder and those above it; raise ``failure`` if they cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(f"the folder {folder} cannot be made ({error.strerror or error})") from error


def check_writable(option: str, path: Path | None) -> None:
    """Check, before the work that fills it, that the file of an option can be made; None is no file.

    Raises:
        InputError: Its folder does not exist, or it is a folder itself.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path} cannot be written: its folder does not exist")
    if path.is_dir():
        raise InputError(f"{option} {path} cannot be written: it is a folder, name a file in it")


def write_asked_for(path: Path, content: str | bytes) -> Path:
    """Write a file that the user asked for; raise an InputError if it cannot be written."""
    with replacing(path, InputError) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path
