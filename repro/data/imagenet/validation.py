"""The validation photographs alone, for weights that come with a mean of their own: no training image is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from repro.config.run import DataConfig
from repro.data import Dataset, PhotoSplit
from repro.data.imagenet import folders, scan
from repro.errors import InputError


def load_validation(
    data: DataConfig, root: Path, *, say: Callable[[str], None], cache: Path | None, workers: int | None
) -> Dataset:
    """The validation images below ``root`` (``paths.data``); the training split is empty.

    Classes count the sorted names of the folders in ``train`` where there is one, else of those in ``val``, or of the
    file of labels. Every image is read once, as for a run, so that all that cannot be decoded are named at once; the
    arguments are those of ``data.load``.

    Raises:
        InputError: There is no folder ``val``, its labels do not agree, or it is not the whole set and
            ``data.partial`` does not allow that; or images cannot be decoded and ``data.skip_corrupt`` does not allow
            that.
    """
    folder = next((root / below for below in folders.FOLDERS[data.name] if (root / below / "val").is_dir()), None)
    if folder is None:
        raise InputError(f"{root} holds no folder val: set paths.data to your copy of {data.name}")
    try:
        val = folders.list_val(folder, root, class_names(folder, root))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from error
    there, (num_classes, _, num_images) = (len(val.classes), len(val)), folders.WHOLE[data.name]
    if there != (num_classes, num_images) and not data.partial:
        raise InputError(
            f"{folder / 'val'} is not the whole of {data.name}: it has {there[1]:,} images of {there[0]:,} classes, "
            f"not {num_images:,} of {num_classes:,}; data.partial=true tests on what is there"
        )
    none = folders.listing(val.root, "train", [], [], val.classes)
    seen = scan.seen((none, val), data, cache=cache, workers=workers, say=say)
    if seen.unreadable:
        scan.report(seen.unreadable, val.root, data, cache, say)
    split = folders.take(folders.readable(val, seen.val_sizes), data.test_images, "data.test_images")
    train = PhotoSplit("train", val.root, (), np.zeros(0, np.int64), val.classes)
    digests, skipped = {val.name: val.digest()}, tuple(seen.unreadable)
    return Dataset(data.name, train, split, len(val.classes), digests, skipped=skipped)


def class_names(folder: Path, root: Path) -> list[str]:
    if (folder / "train").is_dir():
        return sorted(folders.folder_names(folder / "train"), key=folders.composed)
    inside = folders.folder_names(folder / "val") - {"images"}
    return sorted(inside or set(folders.read_labels(folder, root)[1].values()), key=folders.composed)
