"""Errors that end a command, and clauses for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """The input is invalid; the message is one sentence. Exit code 2."""


class RunError(Exception):
    """A run failed; its saved state is kept. Exit code 1."""


class AloneError(RunError):
    """A failure that one rank may meet alone, while the other ranks know nothing of it and wait."""


LISTED = 24
"""The most words of a list in a message."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a clause that names the closest known word, those that contain ``word``, or a list if none is close."""
    names = sorted(known)
    containing = [name for name in names if word and word in name]
    if 1 < len(containing) <= 4:
        return f"did you mean {', '.join(map(repr, containing[:-1]))} or {containing[-1]!r}?"
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return f"known: {', '.join([*names[:LISTED], *more])}"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """Return a clause that names the dotted key that was probably meant, or lists the keys of its group."""
    keys = sorted(known)
    if below := [k for k in keys if k.startswith(f"{key}.")]:
        return f"it is a group of {', '.join(below)}"
    group, _, name = key.rpartition(".")
    names = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == group}
    for alike in (
        [k for k in keys if k.rpartition(".")[2] == name],
        [k for n, k in names.items() if name in (initials(n), n[:3], n[:4]) or n == initials(name)],
        [names[n] for n in difflib.get_close_matches(name, names, n=1, cutoff=0.6)],
        [k for n, k in names.items() if len(n) > 2 and name.startswith(n)],
    ):
        if len(alike) == 1:
            return f"did you mean {alike[0]!r}?"
    return f"known: {', '.join(names.values() or dict.fromkeys(k.partition('.')[0] for k in keys))}"


def initials(name: str) -> str:
    return "".join(part[:1] for part in name.split("_"))


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")
"""Parts of torch's messages on a GPU, on a CPU (Linux, Windows), and from cuBLAS and cuDNN."""


def first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), "")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device or the host ran out of memory."""
    # torch has no exception type for memory of the host.
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and tells_of_memory(str(error)))


def tells_of_memory(text: str) -> bool:
    return any(known in text for known in OUT_OF_MEMORY)


def memory_advice(error: object) -> str:
    """Return a sentence for a run that needs more memory than there is."""
    said = first_line(error)
    return f"out of memory ({said}): set execution.checkpoint_activations=true, or train fewer runs at once"
