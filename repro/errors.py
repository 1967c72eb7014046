"""The two ways in which a command ends without success, and how a name that does not exist is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A request that cannot be met; the message is one clear sentence. Exit code 2."""


class RunError(Exception):
    """A run went wrong on the way; what it had saved is kept. Exit code 1."""


class AloneError(RunError):
    """The same, where it may be met by one rank of a run alone: the others know nothing of it and wait."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause that names the closest known word, or lists all where none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """A clause that names the dotted key that was meant, or lists those of its group."""
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
"""Messages of torch on a GPU, on a CPU (Linux, Windows) and through cuBLAS and cuDNN."""


def first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), "")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, of the device or of the host; torch has no type of its own for the latter."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and tells_of_memory(str(error)))


def tells_of_memory(text: str) -> bool:
    return any(known in text for known in OUT_OF_MEMORY)


def memory_advice(error: object) -> str:
    """A clause for a run that needs more memory than there is."""
    said = first_line(error)
    return f"out of memory ({said}): execution.checkpoint_activations=true needs less, and so do fewer runs at once"
