"""Words of a command line that need no Hydra."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from repro.config.paths import in_checkout, resolve_paths, shared_dir
from repro.errors import InputError, nearest

OPTIONS_WITH_A_VALUE = (
    *("--format", "--json", "--minutes", "--scale", "--views", "--weights", "--mean", "--std", "--resize"),
)
FLAGS = {"publish": ("--weights",), "status": ("--json",)}
"""Options that take no value in a command, as they do in others."""
PATHS = ("paths.data", "paths.work", "paths.results")


def words_together(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with all options at the end: argparse takes what stands between them in one piece only.

    Those of `repro tensorboard` are TensorBoard's own, behind a ``--``.
    """
    if arguments[:1] == ["tensorboard"] and not {"-h", "--help"} & set(arguments):
        return ["tensorboard", "--", *(word for word in arguments[1:] if word != "--")]
    flags = FLAGS.get(arguments[0], ()) if arguments else ()
    words: list[str] = []
    options: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_value = before in OPTIONS_WITH_A_VALUE and before not in flags
        (options if argument.startswith("-") or is_value else words).append(argument)
    return words + options


def apart(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split off the words ``paths.<name>=<folder>``: folders by name, the text as it stands, and the other words.

    Hydra's grammar is for values; in a folder's name it would give meaning to blanks, quotes, ``=``, ``~`` and ``$``.

    Raises:
        InputError: Such a word names no folder, one that does not exist here, or one that another word has named.
    """
    folders: dict[str, str] = {}
    others = []
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if not key.startswith("paths."):
            others.append(word)
            continue
        if key not in PATHS:
            raise InputError(f"unknown key {key!r}: {nearest(key, PATHS)}")
        if not value:
            raise InputError(f"{word!r} sets nothing: write {key}=…")
        if key in folders:
            raise InputError(f"{key} is given twice")
        folders[key] = "" if value == "null" else value
    return {key.removeprefix("paths."): value for key, value in folders.items()}, others


def paths_from(words: Sequence[str], *, protocol: bool = False) -> dict[str, Path]:
    """Return the three folders for a command that takes no other setting but, where it reads one, the ``protocol``.

    Raises:
        InputError: A word sets something else, or nothing.
    """
    folders, others = apart(words)
    known = [*PATHS, "protocol"] if protocol else [*PATHS]
    for word in others:
        key, sign, _ = word.partition("=")
        if key not in known:
            raise InputError(f"unknown word {word!r}: {nearest(key, known)}")
        if not sign:
            raise InputError(f"{word!r} sets nothing: write {word}=…")
    return resolve_paths(folders)


def is_setting(word: str) -> bool:
    """Tell whether a word is ``key=value``, rather than the name of a run or file that happens to have a ``=``."""
    return "/" not in word.partition("=")[0] and "=" in word


def command_line(words: Sequence[str]) -> str:
    """Return the command that repeats this one anywhere: folders are the reader's own."""
    own = ("paths.", "execution", "device=")
    return shlex.join(["repro", "run", *(word for word in words if not word.lstrip("+").startswith(own))])


def protocol_from(words: list[str]) -> str:
    values = [word.partition("=")[2] for word in words if word.startswith("protocol=")]
    return values[-1] if values else "paper"


def published_results(paths: dict[str, Path]) -> Path:
    """Return the results folder; a wheel brings the published ones along."""
    default = paths["results"] == resolve_paths({})["results"]
    return shared_dir("results") if default and not in_checkout() else paths["results"]


def evidence_roots(paths: dict[str, Path], *, published: bool, unpublished: bool) -> list[Path]:
    """Return the folders of the evidence: results, work, or both; ``record_folders`` has their runs."""
    roots = [published_results(paths), paths["work"]]
    return roots[:1] if published else roots[1:] if unpublished else roots


def record_folders(paths: dict[str, Path], roots: list[Path]) -> list[Path]:
    """Return the folders that hold runs: ``runs`` of the results folder, the work folder itself."""
    return [root if root == paths["work"] else root / "runs" for root in roots]


def can_be_made(folder: Path) -> bool:
    """Tell whether ``folder`` is there or can be made, without making it."""
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return False
        return place.is_dir() and os.access(place, os.W_OK)
    return False


def quiet_caches(work: Path) -> None:
    """Send what libraries keep on disk to ``paths.work``, before they are imported.

    Where nothing can be written there, they keep their own places: torch would end in a traceback as it is imported,
    before a command can say what is wrong with the folder.
    """
    if not can_be_made(work / "cache"):
        return
    for name, folder in (
        ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
        ("TRITON_CACHE_DIR", "triton"),
        ("MPLCONFIGDIR", "matplotlib"),
    ):
        os.environ.setdefault(name, str(work / "cache" / folder))
