"""The two ways in which a command ends without success, and how a name that does not exist is answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """What the user asked for cannot be done; the message is one clear sentence. Exit code 2."""


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
