"""The loop that public CIFAR scripts have, to compare with: written as they write it, with no trick for or against.

A ``DataLoader`` with worker processes, PIL images through torchvision's transforms, NCHW batches, single precision
with torch's own defaults (TF32 convolutions on a GPU that has them), operation by operation, ``torch.optim.SGD`` as it
comes, and two ``.item()`` at every step for the running loss and accuracy. It runs in the engine's process and so keeps
freed memory (``repro.runtime.device``) and bounds how long threads spin (``repro.runtime.openmp``), which such
scripts do not: on a CPU that is in its favour.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from repro.bench.ceilings import wait
from repro.config.run import RunConfig
from repro.data import Dataset, Split
from repro.data.augment import generator_for
from repro.models import build_model

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
"""Mean and deviation of CIFAR-10's training pixels, channel by channel, as such scripts have them typed in."""

MAX_WORKERS = 4
ENDLESS = 10**6
"""Epochs that the sampler draws ahead, so that no window pays for starting workers anew."""


class PilImages(TorchDataset[tuple[Tensor, int]]):
    """A split as torchvision's CIFAR10 hands it out: one PIL image at a time, transformed."""

    def __init__(self, split: Split, pad: int) -> None:
        self.images, self.labels = np.array(split.images), split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(split.images.shape[1], padding=pad),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Textbook:
    """A textbook loop that runs in windows and stands still in between.

    Its workers are processes of their own and would go on preparing batches while something else is timed: they would
    steal its cores, and their batches would come for free in the next window. So they are stopped at the end of a
    window (SIGSTOP) and continued when the next begins: a window starts with the queue that the last one left.
    Starting the workers is never timed.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.num_workers = min(MAX_WORKERS, cores)
        with torch_defaults():
            self.model = build_model(config.model, dataset.num_classes, generator_for(config.seed, "init")).to(device)
            self.criterion = nn.CrossEntropyLoss()
            optim = config.optim
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay
            )
        assert isinstance(dataset.train, Split), "photographs are compared with torchvision's net instead"
        images = PilImages(dataset.train, config.data.pad)
        before = multiprocessing.active_children()
        loader = DataLoader(
            images,
            batch_size=optim.batch_size,
            sampler=RandomSampler(images, num_samples=ENDLESS * len(images)),
            num_workers=self.num_workers,
            pin_memory=device.type == "cuda",
        )
        self._batches = iter(loader)
        self._workers = [p.pid for p in multiprocessing.active_children() if p not in before and p.pid is not None]
        self._signal("SIGSTOP")

    def run(self, steps: int) -> float:
        """Trains so many steps; returns the seconds that they took, batches included."""
        with torch_defaults():
            self._signal("SIGCONT")
            start = time.perf_counter()
            self.model.train()
            train_loss, correct, total = 0.0, 0.0, 0
            for _ in range(steps):
                inputs, targets = next(self._batches)
                inputs, targets = inputs.to(self.device), targets.to(self.device)
                self.optimizer.zero_grad()
                outputs = self.model(inputs)
                loss = self.criterion(outputs, targets)
                loss.backward()
                self.optimizer.step()
                train_loss += loss.item()
                total += targets.size(0)
                correct += outputs.max(1)[1].eq(targets).sum().item()
            wait(self.device)
            seconds = time.perf_counter() - start
            self._signal("SIGSTOP")
        return seconds

    def close(self) -> None:
        """Ends the workers: a stopped process would not hear that it is no longer needed."""
        self._signal("SIGCONT")
        del self._batches

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):  # where a system has no such signals, the workers go on
            for pid in self._workers:
                os.kill(pid, getattr(signal, name))


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Set torch's own arithmetic, with cuDNN trying its algorithms as those scripts ask; put back what was set."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    cudnn = torch.backends.cudnn
    before = matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic
    deterministic, older = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    # The older flag sets the newer one too, so it comes first. cuBLAS refuses every product where the two differ.
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic = "ieee", "tf32", True, False
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(deterministic)
