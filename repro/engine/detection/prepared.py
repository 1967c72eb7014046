"""A detector with its data and its optimizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from repro.config.run import RunConfig
from repro.config.science import Science
from repro.data.augment import PixelStats, generator_for
from repro.data.detection.dataset import DetectionDataset
from repro.data.localization import LocalizationDataset
from repro.engine.detection.feed import DetectionFeed
from repro.engine.detection.start import build_start
from repro.engine.optim import build_optimizer
from repro.models.detection.alternating import Step, trained_names
from repro.models.detection.detector import Detector, DetectorSettings
from repro.models.detection.head import HeadSettings
from repro.models.detection.rpn import RPNSettings
from repro.runtime import distributed
from repro.runtime.device import set_up, setting


@dataclass
class DetectionState:
    """The state of training besides weights and optimizer; checkpoints contain it."""

    part: int = 0
    """The step of training, from 0; the number of steps at the end."""
    update: int = 0
    """Updates made in it."""
    train_seconds: float = 0.0
    images: int = 0
    """Images of all updates so far."""
    losses: list[dict[str, Any]] = field(default_factory=list)
    """Mean losses of the updates since the previous row."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """The code, start time and device of each process that trained some of the updates."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Training(Protocol):
    """A net in training with its optimizer and its state: a detector or a localizer."""

    config: RunConfig
    device: torch.device
    optimizer: torch.optim.SGD
    state: DetectionState
    made_on: dict[str, str]
    resumed: int | None

    @property
    def dataset(self) -> DetectionDataset | LocalizationDataset: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def steps(self) -> tuple[int, ...]: ...

    @property
    def updates(self) -> int: ...

    @property
    def step(self) -> Step | None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def stats(self) -> PixelStats: ...


@dataclass(frozen=True)
class Member:
    """A detector of an ensemble, and the statistics of the pixels that it was trained on."""

    model: Detector
    stats: PixelStats


@dataclass
class PreparedDetector:
    """A run's detector, optimizer and data: new, or filled from a checkpoint."""

    config: RunConfig
    dataset: DetectionDataset
    device: torch.device
    model: Detector
    new: dict[str, Tensor]
    """The state of the pre-trained detector with newly drawn layers, from which steps of training start."""
    feed: DetectionFeed
    optimizer: torch.optim.SGD
    state: DetectionState
    made_on: dict[str, str]
    digests: dict[str, str]
    resumed: int | None = None
    """The update from which the run resumes; None for a new run."""
    members: list[Member] = field(default_factory=list)
    """Further detectors, which the test joins to an ensemble with the run's own (D71)."""

    @property
    def ensemble(self) -> list[Member]:
        """The run's own detector, and those that its test joins to it."""
        return [Member(self.model, self.stats), *self.members]

    @property
    def steps(self) -> tuple[int, ...]:
        """Updates of each step of training."""
        assert self.config.detection is not None
        return self.config.detection.steps

    @property
    def updates(self) -> int:
        """Updates so far, in all steps of training."""
        return self.before + self.state.update

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label."""
        return self.dataset.train.classes

    @property
    def stats(self) -> PixelStats:
        """Statistics of the pixels that the body was trained on."""
        return self.feed.stats

    @property
    def before(self) -> int:
        """Updates of all steps of training before the present one."""
        return sum(self.steps[: self.state.part])

    @property
    def step(self) -> Step | None:
        """The present step of alternating training, from 1; None in joint training."""
        numbers: tuple[Step, ...] = (1, 2, 3, 4)
        return numbers[min(self.state.part, 3)] if len(self.steps) > 1 else None


def prepare_detector(config: RunConfig, dataset: DetectionDataset) -> PreparedDetector:
    """Build a run's detector and data on its device, all ranks the same one.

    Raises:
        InputError: The weights that it starts from do not exist or do not fit.
    """
    device = set_up(config.execution, config.optim.precision)
    start = distributed.agreed(lambda: build_start(config, dataset, device))
    generator = generator_for(config.seed, "detector")
    model = Detector(start.net, dataset.num_classes, settings_of(config), generator).to(device)
    distributed.copy_from_first(list(model.state_dict().values()))
    new = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    feed = DetectionFeed(config, dataset, start.stats, torch.empty(0, device=device))
    digests = dataset.digests | start.digests
    made_on = setting(config.execution, device, "eager")
    optimizer = build_optimizer(model, config.optim)
    return PreparedDetector(config, dataset, device, model, new, feed, optimizer, DetectionState(), made_on, digests)


def settings_of(config: RunConfig | Science) -> DetectorSettings:
    """Return the settings of a run's detector."""
    detection = config.detection
    assert detection is not None
    rpn = RPNSettings(
        scales=detection.anchor_scales,
        hidden=detection.rpn_width,
        batch=detection.rpn_samples,
        box_norm=detection.box_norm,
        least_side=detection.least_side,
    )
    head = HeadSettings(
        pooling=detection.pooling,
        background=detection.background,
        batch=detection.samples,
        context=detection.context,
    )
    return DetectorSettings(rpn, head, detection.pooled_size, detection.top_stride, detection.fixed)


def train_only(net: PreparedDetector) -> None:
    """Let the present step of training change its own parameters only, with a new optimizer for them."""
    named = dict(net.model.named_parameters())
    trained = trained_names(net.step, named, net.model.body.fixed(net.model.settings.fixed))
    for name, parameter in named.items():
        parameter.requires_grad_(name in trained)
        parameter.grad = None
    net.optimizer = build_optimizer(net.model, net.config.optim)
