"""CUDA steps without a GPU: fake tensors have shapes, layouts and a device, and no numbers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from repro.config.run import RunConfig
from repro.data.augment import PixelStats
from repro.data.feed import Feed
from repro.data.imagenet.loader import PhotoFeed
from repro.data.in_memory import MemoryFeed
from repro.engine.optim import build_optimizer
from repro.engine.step import EagerStep
from repro.evaluation.single_crop import TOP5_CLASSES, Evaluator
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.runtime.device import memory_format

CUDA = torch.device("cuda")
SGD = torch.ops.aten._fused_sgd_
OF_THE_MEAN = (torch.ops.aten.expand.default, torch.ops.aten.div.Scalar)
"""The gradient of the mean over the last map has one value for all of its pixels; its layout comes from the ReLU
before."""


class Watch(TorchDispatchMode):
    """Notes operations that a step on a GPU must avoid; fake tensors themselves refuse to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.elsewhere: list[str] = []
        """Operations on, or to, another device."""
        self.other_layouts: list[str] = []
        """Operations that give activations, kernels or their gradients in another layout than channels last."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Fused SGD has no fake form, but it returns nothing, and its arguments have been checked everywhere else.
        result = None if func.overloadpacket is SGD else func(*args, **(kwargs or {}))
        self.operations[str(func)] += 1
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        # Recomputation keeps an empty tensor on the CPU in torch 2.11: there is nothing in it to copy or wait for.
        if any(t.device.type != "cuda" and t.numel() for t in tensors):
            self.elsewhere.append(str(func))
        # Images have three channels, and a single pixel fits any layout.
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.ndim == 4]
        wide = [t for t in made if t.shape[1] > 3 and t.shape[2] * t.shape[3] > 1]
        # A part of the channels is a view: it has their order, with gaps.
        if func not in OF_THE_MEAN and not all(t.stride(1) == 1 for t in wide):
            self.other_layouts.append(f"{func} {[(tuple(t.shape), t.stride()) for t in wide]}")
        return result


class FakeFeed(Feed):
    """Batches of a run as from a real feed, in fake memory."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(50, config.optim.batch_size, CUDA, 0, 1)
        size, self.config = config.data.image_size, config.data
        self.stats = PixelStats(torch.empty(3, size, size, device=CUDA), torch.empty(3, 1, 1, device=CUDA))
        self.images = torch.empty(50, 3, size, size, dtype=torch.uint8, device=CUDA)
        self.labels = torch.empty(50, dtype=torch.int64, device=CUDA)

    def load(self, step: int) -> tuple[Tensor, ...]:
        if not self.config.photos:
            return (torch.empty(4, self.part_size, dtype=torch.int64, device=CUDA),)
        images, labels = (t[:1].expand(self.part_size, *t.shape[1:]).clone() for t in (self.images, self.labels))
        weights = [torch.empty(self.part_size, 3, 3, device=CUDA)] if self.config.jitter else []
        return images, labels, torch.empty(self.part_size, 3, device=CUDA), *weights

    def augment(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        of: Any = PhotoFeed if self.config.photos else MemoryFeed
        images, labels = of.augment(self, inputs)
        return images, labels


class FakeImages:
    """One fake batch of images for evaluation."""

    def __init__(self, config: RunConfig) -> None:
        self.num_images, self.size = 8, config.data.image_size

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        images = torch.empty(self.num_images, 3, self.size, self.size, dtype=torch.uint8, device=CUDA)
        yield images, torch.empty(self.num_images, dtype=torch.int64, device=CUDA)


def net(config: RunConfig) -> BlockNet:
    """Build a run's net on a fake GPU, in the layout of its device."""
    with CUDA:
        model = build_model(config.model, config.data.num_classes)
    model.recompute = config.execution.checkpoint_activations
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if p.ndim == 4:
                setattr(module, name, nn.Parameter(p.detach().to(memory_format=memory_format(CUDA))))
    return model


def training_step(config: RunConfig) -> Watch:
    """Run a training step of ``config`` (forward, backward and update), and return the observations."""
    with fake_gpu():
        model, feed = net(config), FakeFeed(config)
        optimizer = build_optimizer(model, config.optim)
        step = EagerStep(model, optimizer, feed, config.optim.precision, 10)
        with Watch() as watch, mock.patch("torch.autograd.backward", backward):
            step.run(0)
        assert all(p.grad is not None for p in model.parameters())
        return watch


def evaluation(config: RunConfig) -> Watch:
    """Evaluate a batch like ``Evaluator``, up to its one transfer, and return the observations."""
    with fake_gpu():
        images, precision = FakeImages(config), config.optim.precision
        top5 = config.data.num_classes >= TOP5_CLASSES
        evaluator = Evaluator(net(config).eval(), images, FakeFeed(config).stats, 8, precision, "eager", top5)
        with torch.inference_mode(), Watch() as watch:
            assert len(evaluator._count(*next(images.batches(8)))) == 2 + top5
        return watch


@contextlib.contextmanager
def fake_gpu() -> Iterator[None]:
    """Make CUDA tensors fake, and let torch believe in a GPU whose cuDNN supports bfloat16."""
    with (
        FakeTensorMode(allow_non_fake_inputs=False),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch("repro.models.chance.generator_on", return_value=None),
        mock.patch("torch._C._select_conv_backend", return_value=torch._C._ConvBackend.Cudnn),  # type: ignore[attr-defined]
        # One backward pass, in which a block that is computed again is computed only once.
        mock.patch("torch._C._current_graph_task_id", return_value=0),
    ):
        yield


def backward(loss: Tensor) -> None:
    """Compute gradients node by node, like autograd, whose own engine needs the threads of a real GPU."""
    assert loss.grad_fn is not None
    order = topological(loss.grad_fn)
    arrived: dict[Any, list[Tensor | None]] = {node: [None] * len(node._input_metadata) for node in order}
    arrived[loss.grad_fn] = [torch.ones_like(loss)]
    for node in order:
        gradients = arrived.pop(node)
        if hasattr(node, "variable"):
            node.variable.grad = gradients[0]
            continue
        found = node(*gradients)
        for (following, place), gradient in zip(node.next_functions, as_tuple(found), strict=True):
            if following is not None and gradient is not None:
                wanted = following._input_metadata[place]
                gradient = gradient.sum_to_size(wanted.shape).to(wanted.dtype)
                there = arrived[following][place]
                arrived[following][place] = gradient if there is None else there + gradient


def topological(root: Any) -> Sequence[Any]:
    """Order the nodes behind ``root`` so that each comes after all nodes that send gradients to it."""
    order: list[Any] = []
    seen, pending = set(), [(root, False)]
    while pending:
        node, is_done = pending.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            pending.append((node, True))
            pending += [(following, False) for following, _ in node.next_functions if following is not None]
    return order[::-1]


def as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)
