"""The command ``repro visualize``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from repro.config.parse import require
from repro.evaluation.channels import Seen, likeness, num_channels, responses, seen
from repro.evaluation.lesion_command import BATCH, named_nets
from repro.evaluation.reevaluate import Loaded
from repro.evaluation.trained import Trained
from repro.report.channels import draw_channel
from repro.results.channels import CHANNELS, IMAGES, PICTURES, TOP, Channels, Likeness
from repro.runtime import checkpoint
from repro.runtime.files import check_writable
from repro.runtime.provenance import commit, now, write_json

log = logging.getLogger(__name__)


def visualize(
    words: Sequence[str],
    *,
    stage: int = 1,
    channels: Sequence[int] = (0, 1, 2, 3),
    top: int = TOP,
    images: int = IMAGES,
    json: Path | None = None,
) -> int:
    """Draw the images that activate channels most, block by block, and show how alike they are.

    The comparison of the usual number of images is also stored, beside the records of the runs.

    Args:
        words: Run ids, and settings as ``key=value``.
        stage: The stage, from 1, whose channels are drawn. All stages are compared.
        channels: The channels that are drawn, from 0.
        top: The number of images in a row, and of those that are compared.
        images: The number of test images, from the first; 0 for all.
        json: A file to which the comparison is written.

    Returns:
        The exit code.

    Raises:
        InputError: The words do not fit, a run, its weights, the stage or a channel do not exist.
    """
    trained, testing = named_nets(words, "repro visualize")
    require(images >= 0, f"--images {images} must be 0, for all, or above")
    require(top > 0, f"--top {top} must be above 0")
    check_writable("--json", json)
    for one in trained:
        check_channels(one, stage, channels)
    alike: dict[str, list[Likeness]] = {}
    rows: dict[str, dict[int, list[list[Seen]]]] = {}
    for one in trained:
        loaded = testing.load(one)
        alike[one.name], responded = compared(loaded, top, images or None, stage)
        if (images, top) == (IMAGES, TOP):  # only these compare with other nets
            CHANNELS.store(one.config.paths.work / one.name, to_store(loaded, alike[one.name]))
        rows[one.name] = {channel: followed(loaded, responded, stage, channel, top) for channel in channels}
    names = {one.name: short_name(one, trained) for one in trained}
    folder = testing.base.paths.work / PICTURES
    beginning = trained[0].name + (f"-and-{len(trained) - 1}-more" if len(trained) > 1 else "")
    for channel in channels:
        nets = {names[name]: found[channel] for name, found in rows.items()}
        title = f"Stage {stage}, channel {channel}: the images that activate it most, block by block"
        file = folder / f"{beginning}-stage{stage}-channel{channel}"
        for path in draw_channel(nets, title, file):
            log.info(str(path))
    log.info("\n" + to_text(alike))
    if json is not None:
        write_json(json, {name: [dataclasses.asdict(each) for each in found] for name, found in alike.items()})
    return 0


def check_channels(one: Trained, stage: int, channels: Sequence[int]) -> None:
    """Raise an ``InputError`` if a net has no such stage or channel; nothing is computed."""
    model = one.build(one.num_classes, torch.device("cpu"))
    last = num_channels(model, stage, one.config.data.image_size) - 1
    for channel in channels:
        require(0 <= channel <= last, f"--channels {channel} does not exist: stage {stage} has channels 0 to {last}")


def to_store(loaded: Loaded, stages: Sequence[Likeness]) -> Channels:
    """Return the comparison of a net as it is stored beside the record of its run."""
    trained = loaded.trained
    assert trained.record is not None
    return Channels(
        run_id=trained.name,
        fingerprint=trained.record.fingerprint,
        weights=checkpoint.digest({"model": loaded.model.state_dict()}),
        split=loaded.dataset.eval.name,
        commit=commit(),
        finished=now(),
        stages=tuple(stages),
    )


def short_name(one: Trained, others: Sequence[Trained]) -> str:
    """Return the label of a net, or its run's name if several nets have the label."""
    labels = [other.config.model.label for other in others]
    return one.config.model.label if labels.count(one.config.model.label) == 1 else one.name


def compared(loaded: Loaded, top: int, limit: int | None, stage: int) -> tuple[list[Likeness], Tensor]:
    """Compare neighbouring blocks of every stage; also return the responses of ``stage``."""
    config, model = loaded.trained.config, loaded.model
    found, kept = [], torch.empty(0)
    for number, blocks in enumerate(model.stages, 1):
        if len(list(blocks.children())) < 2:
            continue
        precision = config.optim.precision
        responded = responses(model, number, loaded.images(limit), loaded.stats, BATCH, precision)
        found.append(likeness(responded, number, top))
        kept = responded if number == stage else kept
    return found, kept


def followed(loaded: Loaded, responded: Tensor, stage: int, channel: int, top: int) -> list[list[Seen]]:
    """Show the top images of a channel in each block of a stage."""
    rows = []
    for block, values in enumerate(responded[:, channel]):
        chosen = values.topk(min(top, len(values))).indices.tolist()
        pixels = pictures(loaded, chosen)
        rows.append(seen(loaded.model, stage, block, channel, chosen, pixels, loaded.stats))
    return rows


def pictures(loaded: Loaded, chosen: Sequence[int]) -> Tensor:
    """Return the images of these numbers: uint8 (N, 3, H, W)."""
    found: dict[int, Tensor] = {}
    number = 0
    for pixels, _ in loaded.images(max(chosen) + 1).batches(BATCH):
        found |= {number + i: pixels[i] for i in range(len(pixels)) if number + i in chosen}
        number += len(pixels)
    return torch.stack([found[each] for each in chosen])


def to_text(alike: dict[str, list[Likeness]]) -> str:
    """Tabulate how alike the top images of a channel are in neighbouring blocks."""
    rows = [
        [name, each.stage, each.blocks]
        + [f"{x:.3f}" for x in (each.overlap, each.other_overlap, each.correlation, each.other_correlation)]
        for name, found in alike.items()
        for each in found
    ]
    first = next(iter(alike.values()))[0]
    header = ["net", "stage", "blocks", f"overlap of the top {first.top}", "others", "rank correlation", "others"]
    return (
        "the same channel, and other channels, in neighbouring blocks, mean over channels, "
        f"{first.images:,} images\n"
        f"{tabulate(rows, header, tablefmt='simple', disable_numparse=True)}"
    )
