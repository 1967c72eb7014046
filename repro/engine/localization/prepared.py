"""A localizer with its data and its optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from repro.config.run import RunConfig
from repro.config.science import Science
from repro.data.augment import PixelStats, generator_for
from repro.data.imagenet.loader import pixel_stats
from repro.data.localization import LocalizationDataset
from repro.data.localization.feed import LocalizationFeed, centre, photo_of
from repro.data.localization.regions import RegionFeed
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.prepared import DetectionState
from repro.engine.detection.start import Start, build_net, check_start, stored_start
from repro.engine.optim import build_optimizer
from repro.models.detection.alternating import Step
from repro.models.detection.body import recompute_statistics
from repro.models.detection.localizer import Localizer, LocalizerSettings
from repro.models.detection.region_net import RegionNet
from repro.models.detection.sampling import ImageDraw
from repro.runtime import distributed
from repro.runtime.device import autocast, set_up, setting


@dataclass(frozen=True)
class Member:
    """A net of an ensemble, and the statistics of the pixels that it was trained on."""

    model: Localizer | RegionNet
    stats: PixelStats


def makers_of(members: Sequence[Member]) -> dict[str, Any]:
    """Return all tensors that decide what nets find in an image (``repro.engine.detection.passes``)."""
    return {"nets": [(one.model.state_dict(), one.stats.mean, one.stats.std) for one in members]}


@dataclass
class PreparedLocalizer(ABC):
    """A run's net, optimizer and data: new, or filled from a checkpoint. Its training has one step."""

    config: RunConfig
    dataset: LocalizationDataset
    device: torch.device
    model: Localizer | RegionNet
    feed: LocalizationFeed | RegionFeed
    optimizer: torch.optim.SGD
    state: DetectionState
    made_on: dict[str, str]
    digests: dict[str, str]
    resumed: int | None = None
    """The update from which the run resumes; None for a new run."""
    step: Step | None = None
    members: list[Member] = field(default_factory=list)
    """Further nets of the same kind, which the test joins to an ensemble with the run's own (D90)."""
    proposers: list[Member] = field(default_factory=list)
    """The localizers whose proposals the net scores and moves; none for a region proposal network."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Updates of each step of training, of which there is one."""
        return (self.config.optim.steps,)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label."""
        return self.dataset.train.photos.classes

    @property
    def stats(self) -> PixelStats:
        """Statistics of the pixels that the body was trained on."""
        return self.feed.stats

    @property
    def updates(self) -> int:
        """Updates so far."""
        return self.config.optim.steps if self.state.part else self.state.update

    @property
    def ensemble(self) -> list[Member]:
        """The run's own net, and those that its test joins to it."""
        return [Member(self.model, self.stats), *self.members]

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """Compute this rank's losses on the next batch, divided by its number of images."""

    def begin(self, hooks: DetectionHooks) -> bool:
        """Make what the training needs besides images; return False if the run was stopped before it was done."""
        return True


@dataclass
class PreparedNetwork(PreparedLocalizer):
    """A region proposal network with its data and its optimizer."""

    model: Localizer
    feed: LocalizationFeed

    def losses(self) -> dict[str, Tensor]:
        batch = self.feed.batch(self.state.update)
        draws = [ImageDraw(self.config.seed, self.state.update, name) for name in batch.names]
        with autocast(self.device, self.config.optim.precision):
            losses = self.model.losses(batch.images, batch.classes, batch.boxes, draws)
            # Ranks have equally many images, so that their mean is the sum over the global batch divided by it.
            return {name: value / len(draws) for name, value in losses.items()}


def prepare_network(config: RunConfig, dataset: LocalizationDataset) -> PreparedNetwork:
    """Build a run's region proposal network and data on its device, all ranks the same one.

    Raises:
        InputError: The weights that it starts from do not exist or do not fit.
    """
    device = set_up(config.execution, config.optim.precision)
    start = distributed.agreed(lambda: build_start(config, dataset))
    generator = generator_for(config.seed, "localizer")
    model = Localizer(start.net, dataset.num_classes, settings_of(config), generator).to(device)
    distributed.copy_from_first(list(model.state_dict().values()))
    feed = LocalizationFeed(config, dataset, start.stats, torch.empty(0, device=device))
    made_on = setting(config.execution, device, "eager")
    optimizer, digests = build_optimizer(model, config.optim), dataset.digests | start.digests
    return PreparedNetwork(config, dataset, device, model, feed, optimizer, DetectionState(), made_on, digests)


def settings_of(config: RunConfig | Science) -> LocalizerSettings:
    """Return the settings of a run's localizer."""
    own = config.localization
    assert own is not None
    return LocalizerSettings(own.anchor_scales, own.width, own.positive, own.negative, own.samples, own.vote)


def build_start(config: RunConfig, dataset: LocalizationDataset) -> Start:
    """Build the classification net that a localizer starts from, on the CPU.

    Raises:
        InputError: The weights do not exist, or do not fit the net.
    """
    own, data = config.localization, config.data
    assert own is not None and data.eval_resize is not None
    check_start(config)
    if own.start != "random":
        return stored_start(config)
    stats = pixel_stats(dataset.stats, "per_channel", data.std, torch.device("cpu"))
    positions = range(0, len(dataset.train), -(-len(dataset.train) // own.start_images))
    crops = [
        centre(photo_of(dataset.train, position, data.decoder), data.eval_resize, data.image_size)[0]
        for position in positions
    ]
    net = build_net(config, 10)
    recompute_statistics(net, (torch.stack(crops).cpu().float() / 255 - stats.mean) / stats.std)
    return Start(net, stats, {})
