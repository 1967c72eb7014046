"""The step beside torchvision's net of the same depth under the settings of its training reference.

Channels last, automatic mixed precision, ``torch.compile`` on a GPU, SGD with momentum, cuDNN trying its algorithms;
the batch lies on the device, augmented already, and no ``.item()`` makes the host wait: all of it in its favour.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from repro.bench.ceilings import wait
from repro.bench.photos import about, held_rig, sample
from repro.bench.rig import alternate, identity, warmup_steps
from repro.config.run import RunConfig
from repro.runtime.device import autocast


def reference(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Steps of our net and of torchvision's on the same batch, window by window, both warm before the first."""
    rig, feed = held_rig(config)
    rig.warm_up()
    assert feed.held is not None
    dataset = sample(config.data, config.paths.data)
    theirs = TorchvisionNet(config, dataset.num_classes, feed.augmented(feed.held))
    warmup = warmup_steps(rig.device)
    theirs.run(1 + warmup)
    contest = alternate(rig.steps, theirs.run, seconds, warmup, least=1)
    return {
        **identity(rig),
        **about(dataset),
        "bn_group_size": config.model.bn_group_size,
        "reference": theirs.settings,
        "reference_compiled": theirs.compiled,
        "steps_per_window": contest.ours.count,
        "step_ms": contest.ours.to_dict(),
        "reference_ms": contest.theirs.to_dict(),
        "images_per_second": feed.part_size * contest.ours.per_second,
        "reference_images_per_second": feed.part_size * contest.theirs.per_second,
        "ratio": contest.ratio(),
    }


class TorchvisionNet:
    """Trains torchvision's ResNet of the same depth on one ``batch``: float32 images (N, 3, H, W) and labels (N,)."""

    def __init__(self, config: RunConfig, num_classes: int, batch: tuple[Tensor, Tensor]) -> None:
        self.labels, self.precision = batch[1], config.optim.precision
        self.images = batch[0].to(memory_format=torch.channels_last)
        self.device = self.images.device
        name = f"resnet{config.model.depth}"
        model: nn.Module = get_model(name, num_classes=num_classes)
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled = self.device.type == "cuda"
        self.model = model
        if self.compiled:
            model.compile()
        self.criterion = nn.CrossEntropyLoss()
        optim = config.optim
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=optim.momentum, weight_decay=optim.weight_decay
        )
        words = "bf16 autocast" if self.precision == "bf16" else self.precision
        how = "torch.compile" if self.compiled else "eager"
        self.settings = f"torchvision's {name}, channels_last, {words}, {how}"

    def run(self, steps: int) -> float:
        """Seconds of so many steps."""
        with reference_flags():
            self.model.train()
            wait(self.device)
            start = time.perf_counter()
            for _ in range(steps):
                with autocast(self.device, self.precision):
                    loss = self.criterion(self.model(self.images), self.labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
            wait(self.device)
            return time.perf_counter() - start


@contextlib.contextmanager
def reference_flags() -> Iterator[None]:
    """cuDNN trying its algorithms, as the training reference sets it, and back to what was set."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark, cudnn.deterministic = True, False
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(deterministic)
