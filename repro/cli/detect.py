"""The command ``repro detect``."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from repro.config.parse import require
from repro.data.detection import Detections
from repro.data.imagenet.decode import Photo, UnreadableError, open_photo
from repro.engine.detection.stored import StoredDetector, load_detector
from repro.errors import InputError, RunError
from repro.evaluation.detection.drawing import above, drawn
from repro.runtime.device import pick_device
from repro.runtime.files import make_folder, replacing

log = logging.getLogger(__name__)
FOLDER = "detections"
"""The name of the folder of pictures in the work folder."""


def detect(
    names: Sequence[str],
    paths: Mapping[str, Path],
    published: Path,
    *,
    out: Path | None = None,
    threshold: float = 0.5,
    device: str = "auto",
) -> int:
    """Draw what a detector finds in pictures, and list it; return the exit code.

    Args:
        names: A run, then image files.
        out: The folder of the drawn pictures; by default one in the work folder.
        threshold: The least score of a box that is drawn.

    Raises:
        InputError: The words do not fit, the run or its weights do not exist, or a picture cannot be read.
        RunError: A picture cannot be written.
    """
    given = " ".join(names) or "nothing"
    require(len(names) >= 2, f"name a detector's run and one or more image files, not only {given}")
    require(0 <= threshold <= 1, f"--threshold {threshold:g} must be a score from 0 to 1")
    run, *pictures = names
    out = paths["work"] / FOLDER if out is None else out
    require(not out.exists() or out.is_dir(), f"--out {out} is not a folder")
    net = load_detector(run, paths["work"], published, pick_device(device))
    # All are read before any is drawn: a wrong name among many is told at once. Memory has no room for all of them.
    for picture in pictures:
        read(picture)
    ensemble = f"ensemble of {len(net.members)}, " if len(net.members) > 1 else ""
    log.info(f"{net.record.run_id}: {ensemble}{len(net.classes)} classes, boxes with a score of at least {threshold:g}")
    for picture, file in zip(pictures, files(pictures, out), strict=True):
        photo = read(picture)
        found = net.find(photo)
        shown = above(found, threshold)
        write(drawn_picture(photo, shown, net), file)
        log.info(f"\n{picture} -> {file}\n{listing(shown, found, net.classes)}")
    return 0


def read(picture: str) -> Photo:
    try:
        return open_photo(picture, "pillow", upright=True)
    except UnreadableError as error:
        raise InputError(f"the picture {picture} cannot be read: {error}") from None


def drawn_picture(photo: Photo, shown: Detections, net: StoredDetector) -> bytes:
    """Return the picture with its boxes as PNG."""

    content = io.BytesIO()
    drawn(photo, shown, net.classes).save(content, "PNG")
    return content.getvalue()


def files(pictures: Sequence[str], out: Path) -> list[Path]:
    """Return a file for each picture: ``dog-boxes.png``, with a number for a second ``dog`` of another folder."""
    named: list[Path] = []
    for picture in pictures:
        stem, number = Path(picture).stem, 1
        while (file := out / f"{stem}-boxes{'' if number == 1 else f'-{number}'}.png") in named:
            number += 1
        named.append(file)
    return named


def write(content: bytes, path: Path) -> None:
    make_folder(path.parent, RunError)
    with replacing(path, RunError) as file:
        file.write(content)


def listing(shown: Detections, found: Detections, classes: Sequence[str]) -> str:
    """List classes, scores and boxes; without any box, the best one below the threshold."""
    rows = [
        ["", classes[label], f"{score:.2f}", f"x {box[0]:.0f} to {box[2]:.0f}, y {box[1]:.0f} to {box[3]:.0f}"]
        for box, label, score in zip(shown.boxes, shown.labels, shown.scores, strict=True)
    ]
    if rows:
        return str(tabulate(rows, tablefmt="plain", disable_numparse=True))
    if not len(found):
        return "  nothing"
    best = int(np.argmax(found.scores))
    return f"  nothing; the best box below is {classes[found.labels[best]]} {found.scores[best]:.2f}"
