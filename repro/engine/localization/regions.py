"""The net that scores and moves the proposals of a localizer (R-CNN, appendix C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.data.augment import generator_for, normalize
from repro.data.imagenet.workers import chunks, decoding_workers
from repro.data.localization import LocalizationDataset
from repro.data.localization.regions import RegionFeed, Warp, item_of, read_warped
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.passes import Pass, Row, run_pass
from repro.engine.detection.prepared import DetectionState
from repro.engine.localization.members import digests_of_proposers, load_proposers
from repro.engine.localization.prepared import PreparedLocalizer, build_start, makers_of
from repro.engine.localization.proposals import proposed
from repro.engine.optim import build_optimizer
from repro.models.detection.boxes import clip
from repro.models.detection.localizer import likeliest
from repro.models.detection.region_net import RegionNet
from repro.runtime import distributed
from repro.runtime.device import autocast, num_workers, set_up, setting

PROPOSALS = "proposals.npz"
ROUND = 64
"""Images whose proposals a rank makes together, before it looks whether the run shall stop."""
TOGETHER = 64
"""Most proposals of an image that are warped at a time."""


@dataclass
class PreparedRegionNet(PreparedLocalizer):
    """A net for single regions with its data and its optimizer."""

    model: RegionNet
    feed: RegionFeed

    def losses(self) -> dict[str, Tensor]:
        regions = self.feed.batch(self.state.update)
        with autocast(self.device, self.config.optim.precision):
            losses = self.model.losses(*vars(regions).values())
            return {name: value / len(regions.classes) for name, value in losses.items()}

    def begin(self, hooks: DetectionHooks) -> bool:
        """Make the proposals of the training images, or read those that an earlier process made."""
        found = made_proposals(self, hooks)
        if found is not None:
            self.feed.proposals = found
        return found is not None


def prepare_region_net(config: RunConfig, dataset: LocalizationDataset) -> PreparedRegionNet:
    """Build a run's net for single regions and its data on its device, all ranks the same one.

    Raises:
        InputError: The weights that it starts from, or the localizer that proposes, do not exist or do not fit.
    """
    device = set_up(config.execution, config.optim.precision)
    start = distributed.agreed(lambda: build_start(config, dataset))
    proposers = distributed.agreed(lambda: load_proposers(config, dataset.train.photos.classes, device))
    model = RegionNet(start.net, dataset.num_classes, generator_for(config.seed, "regions")).to(device)
    distributed.copy_from_first(list(model.state_dict().values()))
    feed = RegionFeed(config, dataset, start.stats, torch.empty(0, device=device))
    made_on = setting(config.execution, device, "eager")
    optimizer = build_optimizer(model, config.optim)
    digests = dataset.digests | start.digests | distributed.agreed(lambda: digests_of_proposers(config))
    return PreparedRegionNet(
        config, dataset, device, model, feed, optimizer, DetectionState(), made_on, digests, proposers=proposers
    )


def made_proposals(net: PreparedRegionNet, hooks: DetectionHooks) -> list[np.ndarray] | None:
    """Propose boxes of each training image's class; return None if the run was stopped before.

    Images are seen once, at the shorter side of the test.
    """
    data, split = net.config.data, net.dataset.train
    assert data.eval_resize is not None
    sides = [data.eval_resize]

    def find(positions: Sequence[int]) -> Iterator[Row]:
        labels = split.photos.labels[list(positions)][:, None]
        return (tuple(found) for found in proposed(net.proposers, net.config, split, positions, labels, sides))

    images = Pass(net.config, PROPOSALS, len(split), makers_of(net.proposers), "proposals", ROUND)
    found = run_pass(images, find, hooks)
    return None if found is None else [boxes for (boxes,) in found]


class Asked(NamedTuple):
    """The proposals (n, 4) of an image, the class (n,) of each, and the number of proposals of each class."""

    boxes: np.ndarray
    classes: np.ndarray
    counts: list[int]


def updated_boxes(net: PreparedRegionNet, positions: Sequence[int], classes: np.ndarray) -> list[np.ndarray]:
    """Return the boxes (k, 4) of ``classes`` (N, k) in test images, as the net scores and moves their proposals.

    A class without a proposal has the whole image. A class that is asked for twice is computed once.
    """
    split, own, data = net.dataset.eval, net.config.localization, net.config.data
    assert own is not None and data.eval_resize is not None
    sides = list(own.scales) or [data.eval_resize]
    different, places = zip(*(np.unique(row, return_inverse=True) for row in classes), strict=True)
    # Images have different numbers of classes; those that are asked for several times fill the row up.
    width = max(len(row) for row in different)
    filled = np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in different])
    found = proposed(net.proposers, net.config, split, positions, filled, sides)
    asked = [of_classes(boxes, row) for boxes, row in zip(found, different, strict=True)]
    workers = 0 if split.drawn else num_workers(net.config.execution, net.device)
    workers = decoding_workers(data.decoder, workers, net.device)
    # Parts of an image's proposals, so that few crops wait in memory.
    parts = [chunks(one.boxes, TOGETHER) for one in asked]
    tasks: list[list[Warp]] = [
        [(item_of(split, position), part, False)]
        for position, own_parts in zip(positions, parts, strict=True)
        for part in own_parts
    ]
    crops = read_warped(tasks, net.config, net.stats, workers)
    results = []
    for one, own_parts, position, place in zip(asked, parts, positions, places, strict=True):
        pixels = [next(crops) for _ in own_parts]
        results.append(likeliest_of(net, pixels, one, split.sizes[position])[place])
    return results


def of_classes(boxes: Sequence[np.ndarray], classes: np.ndarray) -> Asked:
    """Join the proposals of an image's ``classes``; ``boxes`` may have further ones."""
    own = boxes[: len(classes)]
    counts = [len(found) for found in own]
    return Asked(np.concatenate(own), np.repeat(classes, counts), counts)


def likeliest_of(net: PreparedRegionNet, pixels: Sequence[Tensor], asked: Asked, size: np.ndarray) -> np.ndarray:
    """Return the likeliest box of each class (k, 4) in an image of ``size``, given the crops of its proposals."""
    height, width = size.tolist()
    whole = np.array([0.0, 0.0, width, height])
    if not pixels:
        return np.tile(whole, (len(asked.counts), 1))
    assert net.config.localization is not None
    vote = net.config.localization.vote
    classes, proposals = torch.from_numpy(asked.classes), torch.from_numpy(asked.boxes)
    scores, boxes = updated(net, torch.cat(list(pixels)), classes, proposals)
    boxes = clip(boxes, (height, width))
    found = [whole] * len(asked.counts)
    each = zip(scores.split(asked.counts), boxes.split(asked.counts), strict=True)
    for place, (own_scores, own_boxes) in enumerate(each):
        if len(own_scores):
            best = likeliest(own_scores[None, None], own_boxes[None, None], vote=vote)
            found[place] = best.boxes[0, 0].cpu().double().numpy()
    return np.stack(found)


def updated(net: PreparedRegionNet, pixels: Tensor, classes: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new scores (n,) and boxes (n, 4) of proposals; an ensemble has the means of its nets' (D94)."""
    size, like = net.config.execution.eval_batch_size, net.feed.like
    parts = []
    with torch.no_grad(), autocast(net.device, net.config.optim.precision):
        for first in range(0, len(pixels), size):
            crops, own, where = (values[first : first + size].to(net.device) for values in (pixels, classes, boxes))
            each = [
                one.model.updated(normalize(crops, one.stats).to(like.dtype), own, where.to(like.dtype))
                for one in net.ensemble
                if isinstance(one.model, RegionNet)
            ]
            parts.append([torch.stack(values).mean(0) for values in zip(*each, strict=True)])
    scores, moved = (torch.cat(values) for values in zip(*parts, strict=True))
    return scores, moved
