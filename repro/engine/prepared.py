"""A net with its data and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from repro.config.run import RunConfig
from repro.data import Dataset
from repro.data.augment import generator_for
from repro.data.batches import Images, eval_images, train_feed
from repro.data.feed import Feed
from repro.engine.compiled import keep_compiled
from repro.engine.loop import TrainState
from repro.engine.optim import build_optimizer, first_warmup_end
from repro.engine.step import step_mode
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.runtime.device import memory_format, set_up, setting


@dataclass
class Prepared:
    """A run's net, optimizer and data: new, or filled from a checkpoint by ``repro.engine.resume.restore``."""

    config: RunConfig
    dataset: Dataset
    device: torch.device
    mode: str
    """The mode in which a step is executed (``repro.engine.step.step_modes``)."""
    model: BlockNet
    optimizer: torch.optim.SGD
    feed: Feed
    images: Images
    """The images for evaluation."""
    made_on: dict[str, str]
    state: TrainState
    resumed: int | None = None
    """The step from which the run resumes; None for a new run."""


def prepare(config: RunConfig, dataset: Dataset) -> Prepared:
    """Build a run's net, optimizer and data on its device."""
    device = set_up(config.execution, config.optim.precision)
    mode = step_mode(config, device)
    if mode == "compile":
        keep_compiled(config.paths.work, device)
    model = build_model(config.model, dataset.num_classes, generator_for(config.seed, "init"))
    model.recompute, model.seed = config.execution.checkpoint_activations, config.seed
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config.optim)
    feed, images = train_feed(dataset, config, device), eval_images(dataset, config, device)
    state = TrainState(warmup_end=first_warmup_end(config.optim, config.model))
    made_on = setting(config.execution, device, mode)
    return Prepared(config, dataset, device, mode, model, optimizer, feed, images, made_on, state)
