"""Faults of detection data, all reported in one message."""

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data.imagenet.folders import listed, plural, printable
from repro.errors import InputError

log = logging.getLogger(__name__)

READERS = 16  # threads that open image files: most of the time they wait for the disk


class Problems:
    """Faults of a data set, each with its file; those of single boxes apart, as they can be left out."""

    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self.boxes: list[tuple[str, str]] = []

    def add(self, file: Path | str, fault: str) -> None:
        self.faults.append((printable(str(file)), printable(fault)))

    def add_box(self, file: Path | str, fault: str) -> None:
        self.boxes.append((printable(str(file)), printable(fault)))

    def leave_out(self, what: str, cache: Path | None = None) -> None:
        """Log the faults of boxes, which the reader leaves out, and forget them."""
        if self.boxes:
            log.info(f"{what}: {counted(self.boxes)} of boxes, left out:\n  {lines(self.boxes, cache)}")
        self.boxes = []

    def report(self, what: str, *, skip_boxes: bool = False, cache: Path | None = None) -> None:
        """Raise one InputError that lists all faults; do nothing without any.

        Args:
            skip_boxes: Log the faults of boxes, which the reader leaves out, instead of refusing them.
            cache: A folder for the whole list if it is long.
        """
        if skip_boxes:
            self.leave_out(what, cache)
        found = self.faults + self.boxes
        if found:
            remedy = "repair them"
            if self.boxes:
                remedy += " or leave faulty boxes out with data.skip_boxes=true"
            raise InputError(f"{what} has {counted(found)}; {remedy}:\n  {lines(found, cache)}")


def counted(faults: Sequence[tuple[str, str]]) -> str:
    files = {file for file, _ in faults}
    return f"{plural(len(faults), 'fault', 'faults')} in {plural(len(files), 'file', 'files')}"


def lines(faults: Sequence[tuple[str, str]], cache: Path | None) -> str:
    """List faults, sorted by file."""
    return listed([f"{file}: {fault}" for file, fault in sorted(faults)], cache, "faults")


def image_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | str]:
    """Return height and width of every image from its header, or why it cannot be read."""
    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(image_size, paths))


def image_size(path: Path) -> tuple[int, int] | str:
    """Return height and width as stored, without EXIF orientation, on which no annotation of VOC or COCO counts."""
    try:
        if not path.is_file():  # opening a pipe would wait forever
            return "is not a file" if path.exists() else "does not exist"
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"cannot be read as an image ({error})"


def box_fault(box: Sequence[float], lowest: float, width: float, height: float, slack: float = 0.0) -> str | None:
    """Return the fault of a box (x0, y0, x1, y1) as its file writes it, or None.

    Args:
        lowest: The smallest coordinate: 1 where pixels count from 1.
        slack: The number of pixels by which a box may leave the image.
    """
    x0, y0, x1, y1 = box
    if not np.isfinite(box).all():
        return "has a coordinate that is not a number"
    if x1 <= x0 or y1 <= y0:
        return "is empty or its corners are exchanged"
    if min(x0, y0) < lowest - slack:
        return f"starts before {lowest:g}, where the image starts"
    if x1 > width + slack or y1 > height + slack:
        return f"leaves the image of {width:g}x{height:g} pixels"
    return None


def shown(box: Iterable[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"
