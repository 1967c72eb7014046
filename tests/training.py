"""Steps on the built-in images, in any mode, without the loop around them."""

from __future__ import annotations

from pathlib import Path

import torch

from repro.data import Split, load
from repro.data.augment import generator_for
from repro.data.in_memory import MemoryFeed
from repro.engine.optim import build_optimizer, set_lr
from repro.engine.step import Step, StepResult, build_step
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.runtime.device import memory_format, set_up
from tests.runs import config

WINDOW = 20


class Training:
    """A net, its optimizer and its step on the built-in images, all from seed 0."""

    def __init__(self, folder: Path, device: str, mode: str, *words: str, dtype: torch.dtype = torch.float32) -> None:
        threads = () if any(word.startswith("execution.threads=") for word in words) else ("execution.threads=2",)
        precision = () if any(word.startswith("optim.precision=") for word in words) else ("optim.precision=fp32",)
        self.run = run = config(folder, f"device={device}", *precision, *threads, *words)
        self.device = set_up(run.execution, run.optim.precision)
        dataset = load(run.data, run.paths.data, may_fetch=False)
        self.model: BlockNet = build_model(run.model, 10, generator_for(0, "init"))
        self.model.recompute = run.execution.checkpoint_activations
        self.model.to(self.device, dtype, memory_format=memory_format(self.device))  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.model, run.optim)
        assert isinstance(dataset.train, Split)
        self.stream = MemoryFeed(dataset.train, run.data, run.optim.batch_size, 0, self.device)
        more = (run.optim.precision, WINDOW, run.execution.micro_batch)
        self.step: Step = build_step(mode, self.model, self.optimizer, self.stream, *more)

    def train(self, steps: int, lr: float = 0.1) -> list[StepResult]:
        set_lr(self.optimizer, lr, "torch")
        for step in range(steps):
            self.step.run(step)
        return self.step.read()

    def tensors(self) -> dict[str, torch.Tensor]:
        momentum = {
            f"momentum of {name}": self.optimizer.state[p]["momentum_buffer"]
            for name, p in self.model.named_parameters()
        }
        return {**self.model.state_dict(), **momentum}


def losses(results: list[StepResult]) -> list[float]:
    return [r.loss for r in results]


def assert_close(found: Training, expected: Training, rtol: float) -> None:
    """Compare each tensor as a whole, because a single small gradient may lose its digits to cancellation."""
    for name, tensor in expected.tensors().items():
        difference = (found.tensors()[name] - tensor).double().norm()
        assert difference <= rtol * tensor.double().norm() + 1e-12, name
