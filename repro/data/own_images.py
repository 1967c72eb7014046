"""Comparison of the images of a run with those that are here now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from repro.config.run import DataConfig
from repro.errors import InputError


def other_images(here: Mapping[str, str], stored: Mapping[str, str] | None) -> list[str]:
    """Return the names of the digests that differ from stored ones; older files store none."""
    return [name for name, digest in here.items() if (stored or {}).get(name, digest) != digest]


def check_images(folder: Path, here: Mapping[str, str], stored: Mapping[str, str] | None) -> None:
    """Raise an ``InputError`` if the run in ``folder`` was trained on images with other digests than those ``here``."""
    if other := other_images(here, stored):
        raise InputError(other_images_text(folder, other))


def other_images_text(folder: Path, names: Sequence[str]) -> str:
    return (
        f"{folder} holds this run on other images than those of paths.data ({', '.join(names)}): use another "
        "paths.work= for each data set of your own"
    )


def listed_digests(data: DataConfig, root: Path) -> dict[str, str]:
    """Return the digests of images of the user's own, as ``load_any`` does but without decoding an image.

    They are empty for data sets that everybody has, and for images that cannot be listed.
    """
    try:
        if data.name in ("imagenet", "tiny_imagenet") and data.partial and not data.boxes:
            from repro.data.imagenet import folders

            return {split.name: split.digest() for split in folders.find(data, root)}
        if data.name == "voc" and data.classes:
            from repro.data.detection.dataset import load_detection

            return load_detection(data, root).digests
    except (InputError, OSError):  # a finished run needs them no more
        pass
    return {}
