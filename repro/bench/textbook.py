"""Training loops of public scripts, for comparison."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils import data
from torchvision import transforms
from torchvision.models import get_model

from repro.bench.timing import timed
from repro.config.run import RunConfig
from repro.data import Dataset, Split
from repro.data.augment import generator_for
from repro.data.feed import Feed
from repro.models import build_model
from repro.runtime.device import autocast, num_processors

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Mean and deviation of CIFAR-10's training pixels by channel, as in such scripts."""

MAX_WORKERS = 4
ENDLESS = 10**6  # epochs of the sampler, so that no window includes a restart of the workers


class Other:
    """A net in another training loop, with torch's own defaults; ``beside`` describes the loop."""

    beside: str

    def __init__(self, model: nn.Module, config: RunConfig, device: torch.device) -> None:
        self.model, self.device, self.criterion, optim = model.to(device), device, nn.CrossEntropyLoss(), config.optim
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay
        )

    def run(self, steps: int) -> float:
        """Train ``steps`` steps; return their seconds."""
        with torch_defaults():
            self.model.train()
            return timed(self.one_step, self.device)(steps)

    def one_step(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """No-op: this net has no workers."""


class PilImages(data.Dataset[tuple[Tensor, int]]):
    """A split as in torchvision's CIFAR10: one PIL image at a time, transformed."""

    def __init__(self, split: Split, pad: int) -> None:
        self.images, self.labels = np.array(split.images), split.labels.tolist()
        crop = transforms.RandomCrop(split.images.shape[1], padding=pad)
        convert = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *convert])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Textbook(Other):
    """The loop of public CIFAR scripts, without tricks for or against it.

    It runs in the engine's process, where freed memory is kept (``repro.runtime.device``) and on a busy machine threads
    stop spinning early (``repro.runtime.openmp``): on a CPU these are in its favour. Its workers are stopped between
    its windows: otherwise they would take cores from other timings, and prepare batches for free. A window starts with
    the queue that the last one left.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, feed: Feed) -> None:
        super().__init__(
            build_model(config.model, dataset.num_classes, generator_for(config.seed, "init")), config, feed.device
        )
        assert isinstance(dataset.train, Split)
        images, workers = PilImages(dataset.train, config.data.pad), min(MAX_WORKERS, num_processors())
        start, before = multiprocessing.get_start_method(), multiprocessing.active_children()
        self.beside = (
            f"the textbook loop: DataLoader with {workers} workers ({start}), PIL, NCHW, eager, two .item() a step"
        )
        sampler = data.RandomSampler(images, num_samples=ENDLESS * len(images))
        pin = feed.device.type == "cuda"
        loader = data.DataLoader(images, config.optim.batch_size, sampler=sampler, num_workers=workers, pin_memory=pin)
        self._batches = iter(loader)
        self._workers = [p.pid for p in multiprocessing.active_children() if p not in before and p.pid is not None]
        self.train_loss, self.correct = 0.0, 0
        self._signal("SIGSTOP")

    def run(self, steps: int) -> float:
        self._signal("SIGCONT")
        seconds = super().run(steps)
        self._signal("SIGSTOP")
        return seconds

    def one_step(self) -> None:
        inputs, targets = (t.to(self.device) for t in next(self._batches))
        self.optimizer.zero_grad()
        outputs = self.model(inputs)
        loss = self.criterion(outputs, targets)
        loss.backward()
        self.optimizer.step()
        self.train_loss += loss.item()
        self.correct += outputs.max(1)[1].eq(targets).sum().item()

    def close(self) -> None:
        """End the workers, which must run to notice it."""
        self._signal("SIGCONT")
        del self._batches

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):  # on a system without such signals the workers continue
            for pid in self._workers:
                os.kill(pid, getattr(signal, name))


class TorchvisionNet(Other):
    """torchvision's ResNet of the same depth, with the settings of its training reference.

    Its batch, of ``feed``, is already augmented and on the device, and no ``.item()`` makes the host wait: both are in
    its favour.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, feed: Feed) -> None:
        compiled, name = feed.device.type == "cuda", f"resnet{config.model.depth}"
        model: nn.Module = get_model(name, num_classes=dataset.num_classes)
        super().__init__(model.to(memory_format=torch.channels_last), config, feed.device)
        if compiled:
            model.compile()
        images, self.labels = feed.batch(0)
        self.images, self.precision = images.to(memory_format=torch.channels_last), config.optim.precision
        words = "bf16 autocast" if self.precision == "bf16" else "single precision"
        self.beside = f"torchvision's {name}, channels_last, {words}, {'torch.compile' if compiled else 'eager'}"

    def one_step(self) -> None:
        with autocast(self.device, self.precision):
            loss = self.criterion(self.model(self.images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Set torch's own arithmetic and cuDNN's trials of algorithms, as in public scripts; restore the settings after."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    cudnn = torch.backends.cudnn
    before = matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic
    deterministic, older = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    # The older flag also sets the newer one, so it comes first. cuBLAS refuses every product if they differ.
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic = "ieee", "tf32", True, False
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(deterministic)
