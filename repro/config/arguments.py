"""Command-line arguments that need no Hydra."""

from __future__ import annotations

import atexit
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from repro.config.parse import require
from repro.config.paths import in_checkout, resolve_paths, shared_dir
from repro.errors import InputError, nearest

OPTIONS_WITH_A_VALUE = (
    *(
        "--format",
        "--json",
        "--minutes",
        "--paper",
        "--scale",
        "--views",
        "--weights",
        "--mean",
        "--std",
        "--resize",
        "--top",
        "--line",
        "--to",
        "--out",
        "--images",
        "--draws",
        "--stage",
        "--channels",
        "--threshold",
        "--device",
    ),
)
FLAGS = {"publish": ("--weights",), "status": ("--json",)}
"""Options that take no value in a command, as they do in others."""
PATHS = ("paths.data", "paths.work", "paths.results")
CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "MPLCONFIGDIR": "matplotlib"}
"""Folders of libraries' caches, by the variable that names each."""


def words_together(arguments: Sequence[str]) -> list[str]:
    """Move all options to the end, because argparse accepts the other words in one piece only.

    The arguments of ``repro tensorboard`` are passed on to TensorBoard, behind a ``--``.
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
    """Split off the words ``paths.<name>=<folder>``; return the folders by name, and the other words.

    Folders are taken literally: Hydra's grammar would interpret blanks, quotes, ``=``, ``~`` and ``$``.

    Raises:
        InputError: A word of ``paths`` has an unknown name or no value, or a name is given twice.
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
    """Return the three folders, for a command that takes no other setting (except ``protocol``, if it reads one).

    Raises:
        InputError: A word sets something else, or has no value.
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


def refuse_missing_folders(words: Sequence[str], *, only_work: bool) -> None:
    """Refuse folders that a command reads and the user names, but that are not there; defaults may still be missing.

    A work folder may be missing too, as it is before the first run.

    Args:
        only_work: The command is about the work folder; the results folder may be missing.

    Raises:
        InputError: The results folder does not exist, or one of both is a file.
    """
    given = apart(words)[0]
    paths = resolve_paths(given)
    for name in ("results", "work"):
        path = paths[name]
        require(
            not given.get(name) or path.is_dir() or not path.exists(), f"paths.{name}={path} is a file, not a folder"
        )
    missing = bool(given.get("results")) and not only_work and not paths["results"].exists()
    require(not missing, f"paths.results={paths['results']} does not exist: leave it out for the default")


def is_setting(word: str) -> bool:
    """Return whether a word is ``key=value``, and not a file whose name contains a ``=``."""
    return "/" not in word.partition("=")[0] and "=" in word


def folders_and_names(words: Sequence[str], many: str = "") -> tuple[dict[str, Path], list[str]]:
    """Return the folders, and the words that are not settings; with ``many``, refuse several of them with that text."""
    paths = paths_from([word for word in words if is_setting(word)])
    names = [word for word in words if not is_setting(word)]
    require(not many or len(names) < 2, many)
    return paths, names


def refuse_placeholder(word: str) -> None:
    """Refuse a setting with a value that stands for the user's own: ``RUN`` or ``…``, as in printed commands.

    Raises:
        InputError: The word has such a value.
    """
    values = re.split(r"[\s\[\],'\"]+", word.partition("=")[2])
    if "RUN" in values:
        several = values.count("RUN") > 1
        by = "RUN by the ids of your runs" if several else "RUN by the id of your run"
        raise InputError(f"{word} names no run: replace {by}, which `repro status` shows")
    require(not {"…", "..."} & {*values}, f"{word} sets nothing: replace … by a value of your own")


def command_line(words: Sequence[str]) -> str:
    """Return the command that repeats this one on any machine: without folders and execution settings."""
    own = ("paths.", "execution", "device=")
    return shlex.join(["repro", "run", *(word for word in words if not word.lstrip("+").startswith(own))])


def choices(group: str) -> dict[str, Path]:
    """Return the files of a group in conf/ by the choice that they define."""
    return {path.stem: path for path in sorted((shared_dir("conf") / group).glob("*.yaml"))}


def scale_names() -> set[str]:
    """Return the scales of conf/, and ``custom``, which runs with other steps have."""
    return {*choices("scale"), "custom"}


def refuse_unknown_scale(scale: str) -> None:
    """Raise an ``InputError`` if there is no such scale."""
    require(scale in scale_names(), f"unknown scale {scale!r}: {nearest(scale, scale_names())}")


def fetch_advice(name: str, root: Path) -> str:
    """Return the command that downloads a data set into ``root``, as a shell reads it."""
    word = shlex.quote(f"paths.data={root}")
    return f"`repro data fetch {name} {word}`"


def protocol_from(words: list[str]) -> str:
    values = [word.partition("=")[2] for word in words if word.startswith("protocol=")]
    return values[-1] if values else "paper"


def published_results(paths: dict[str, Path]) -> Path:
    """Return the results folder; an installed wheel contains the published results."""
    default = paths["results"] == resolve_paths({})["results"]
    return shared_dir("results") if default and not in_checkout() else paths["results"]


def evidence_roots(paths: dict[str, Path], *, published: bool, unpublished: bool) -> list[Path]:
    """Return the folders of the evidence: results, work, or both; ``record_folders`` gives those of their runs."""
    roots = [published_results(paths), paths["work"]]
    return roots[:1] if published else roots[1:] if unpublished else roots


def record_folders(paths: dict[str, Path], roots: list[Path]) -> list[Path]:
    """Return the folders that hold runs: ``runs`` of the results folder, the work folder itself."""
    return [root if root == paths["work"] else root / "runs" for root in roots]


def can_be_made(folder: Path) -> bool:
    """Return whether ``folder`` exists and takes files, or could be created."""
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return False
        return takes_files(place)
    return False


def takes_files(folder: Path) -> bool:
    """Return whether a file can be made in ``folder``; permissions alone do not tell, as in /proc or on a full disk."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def quiet_caches(work: Path) -> None:
    """Put the caches of libraries into ``paths.work``; call this before they are imported.

    If that is not possible, they are in a temporary folder until the command ends. With a folder that cannot be made,
    importing torch ends in a traceback, before a command can report it in a sentence, or read without it.
    """
    missing = [name for name in CACHES if name not in os.environ]
    if not missing:
        return
    cache = work / "cache"
    if not can_be_made(cache):
        cache = Path(tempfile.mkdtemp(prefix="repro-cache-"))
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    for name in missing:
        os.environ[name] = str(cache / CACHES[name])
