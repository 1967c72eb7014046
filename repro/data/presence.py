"""The folders of data sets, looked for without reading an image."""

from __future__ import annotations

from pathlib import Path

from repro.config.arguments import fetch_advice
from repro.config.paths import resolve_paths
from repro.config.science import DataConfig
from repro.errors import InputError


def check_there(data: DataConfig, root: Path) -> None:
    """Raise ``InputError`` if ``root`` (``paths.data``) has no folder of a data set, and it cannot be downloaded.

    Built-in images are always there.
    """
    if data.name in ("imagenet", "tiny_imagenet"):
        from repro.data.imagenet import folders

        folder = folders.locate(data.name, root, ("train", "val"))
        if data.boxes:
            from repro.data.detection.problems import Problems
            from repro.data.localization.boxes import reader

            reader(data.name, folder, root, Problems())
    elif data.name == "voc":
        from repro.data.detection import voc

        voc.locate(root, [voc.year_folder(listed) for listed in (*data.lists, *data.test_lists)])
    elif data.name == "coco":
        from repro.data.detection import coco

        coco.locate(root, (*data.lists, *data.test_lists))
    elif data.name == "imagenet_det":
        from repro.data.detection import imagenet

        imagenet.locate(root)
    elif data.name == "cifar10" and root != resolve_paths({})["data"]:
        from repro.data.cifar.arrays import missing_files

        if missing_files(root):
            raise InputError(f"{root} has no CIFAR-10: {fetch_advice('cifar10', root)} puts it there")
