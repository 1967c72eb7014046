"""Pictures of the images that activate a channel, block by block."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repro.errors import InputError
from repro.report.figures.style import METADATA, STYLE
from repro.runtime.files import make_folder, write_asked_for

if TYPE_CHECKING:
    from repro.evaluation.channels import Seen

ZOOM = 3
"""Pixels of a tile for each pixel of an image."""
GAP = 6
BOX = (213, 94, 0)
"""The colour of the frame around a patch."""


def draw_channel(nets: Mapping[str, Sequence[Sequence[Seen]]], title: str, file: Path) -> list[Path]:
    """Write a picture as ``file`` with the endings ``.png`` and ``.svg``: the nets side by side, a row for each block.

    A row has the images that activate the channel of this block most, with the patch that does, and below them the
    guided gradients.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    make_folder(file.parent, InputError)
    mosaics = {name: mosaic(blocks) for name, blocks in nets.items()}
    widest, highest = (max(each.shape[axis] for each in mosaics.values()) for axis in (1, 0))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        drawn = Figure(figsize=(0.6 + len(nets) * widest / 100, 0.9 + highest / 100), layout="constrained")
        FigureCanvasAgg(drawn)
        drawn.suptitle(title, fontsize=10.5, x=0.01, ha="left")
        grid = drawn.subplots(1, len(nets), squeeze=False)[0]
        for ax, (name, picture) in zip(grid, mosaics.items(), strict=True):
            ax.imshow(picture, interpolation="none")
            ax.set_title(name)
            blocks = len(nets[name])
            row = picture.shape[0] / blocks
            ax.set_yticks([(place + 0.5) * row for place in range(blocks)])
            ax.set_yticklabels([f"block {place + 1}" for place in range(blocks)], rotation=90, va="center")
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        paths = []
        for kind, metadata in METADATA.items():
            out = io.BytesIO()
            drawn.savefig(out, format=kind, dpi=100, metadata=metadata)
            paths.append(write_asked_for(file.with_name(f"{file.name}.{kind}"), out.getvalue()))
    return paths


def mosaic(blocks: Sequence[Sequence[Seen]]) -> np.ndarray:
    """Lay out images above their gradients, a row for each block: uint8 (height, width, 3)."""
    rows = []
    for row in blocks:
        rows += [joined([framed(one) for one in row], 1), joined([as_picture(one) for one in row], 1)]
        rows.append(np.full((GAP, rows[-1].shape[1], 3), 255, np.uint8))
    return np.concatenate(rows)


def joined(tiles: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Put tiles beside each other with white gaps."""
    return np.concatenate([np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=255) for tile in tiles], axis)


def zoomed(picture: np.ndarray) -> np.ndarray:
    return picture.repeat(ZOOM, 0).repeat(ZOOM, 1)


def framed(one: Seen) -> np.ndarray:
    """Return an image with a frame around its patch."""
    tile = zoomed(one.pixels.permute(1, 2, 0).cpu().numpy())
    top, left, bottom, right = (ZOOM * side for side in one.box)
    frame = np.zeros(tile.shape[:2], bool)
    frame[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
    frame[top + 1 : bottom - 1, left + 1 : right - 1] = False
    tile[frame] = BOX
    return tile


def as_picture(one: Seen) -> np.ndarray:
    """Return a guided gradient with 0 as grey; its largest value is black or white."""
    gradient = one.gradient.permute(1, 2, 0).float().cpu().numpy()
    largest = np.abs(gradient).max() or 1.0
    return zoomed(np.clip(127.5 + 127.5 * gradient / largest, 0, 255).astype(np.uint8))
