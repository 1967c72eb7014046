"""A run's net with all that trains and tests it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from repro.config.run import RunConfig
from repro.data import Dataset
from repro.data.augment import generator_for
from repro.data.batches import Feed, Images, eval_images, train_feed
from repro.engine.loop import TrainState
from repro.engine.optim import build_optimizer
from repro.engine.resume import restore
from repro.engine.step import step_mode
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.runtime.device import memory_format, set_up, setting


@dataclass(frozen=True)
class Prepared:
    """A net with all that trains it, as new or as its last checkpoint left it."""

    config: RunConfig
    dataset: Dataset
    device: torch.device
    mode: str
    """How a step is executed (``repro.engine.step.step_modes``)."""
    model: BlockNet
    optimizer: torch.optim.SGD
    feed: Feed
    images: Images
    """What it is evaluated on."""
    state: TrainState
    resumed: int | None
    """The step that it goes on from; None for a new run."""
    made_on: dict[str, str]


def prepare(config: RunConfig, dataset: Dataset, say: Callable[[str], None]) -> Prepared:
    """Builds a run's net, optimizer and data on its device, and restores its last checkpoint where there is one."""
    device = set_up(config.execution, config.optim.precision)
    mode = step_mode(config, device)
    model = build_model(config.model, dataset.num_classes, generator_for(config.seed, "init"))
    model.recompute = config.execution.checkpoint_activations
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config.optim)
    feed, images = train_feed(dataset, config, device), eval_images(dataset, config, device)
    made_on = setting(config.execution, device, mode)
    state, resumed = restore(config, model, optimizer, made_on, say)
    return Prepared(config, dataset, device, mode, model, optimizer, feed, images, state, resumed, made_on)
