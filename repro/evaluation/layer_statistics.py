"""Signals and gradients in the 3x3 layers of a net."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data.augment import PixelStats
from repro.data.batches import Images
from repro.evaluation.predict import predict
from repro.models.forward import forward
from repro.models.joins import Gate
from repro.runtime import distributed


def layer_responses(
    model: nn.Module, images: Images, stats: PixelStats, batch_size: int, precision: str
) -> list[dict[str, str | float | None]]:
    """Measure the standard deviation of every 3x3 layer's output after batch norm, before nonlinearity or addition.

    It is taken over all images, positions and channels together, in evaluation mode (Fig. 7, deviation D21). Each rank
    measures its part of ``images``, and all ranks return the same result. The net is left unchanged.

    Returns:
        ``{"layer": name, "std": value}`` in the order of computation; the value is None if the responses overflow.
    """
    found: dict[str, Moments] = {}
    with left_as_it_was(model, training=False), torch.inference_mode():
        for batch, _ in images.batches(batch_size):
            if not len(batch):  # this rank has no images
                continue
            with layer_moments(model) as parts:
                predict(model, batch, stats, precision)
            for name, part in parts.items():
                found[name] = found.get(name, NOTHING) + part
    # A rank without images has seen no layer.
    names = distributed.shared(list(found))
    whole = over_ranks({name: found.get(name, NOTHING) for name in names})
    deviations = {name: float(part.std) for name, part in whole.items()}
    return [{"layer": name, "std": std if math.isfinite(std) else None} for name, std in deviations.items()]


def measure_flow(
    model: nn.Module, images: Tensor, labels: Tensor, precision: str, label_smoothing: float = 0.0
) -> list[dict[str, str | float]]:
    """Measure signals and gradients of the 3x3 layers in a training step, without changing anything.

    ``forward_std`` is the standard deviation of the layer's output after batch norm, before nonlinearity or addition,
    over the whole batch. ``activation_gradient_norm`` is the L2 norm of the gradient of the mean loss with respect to
    this output: the backward signal. ``gradient_norm`` is the norm of the gradient with respect to the layer's weights,
    without weight decay. It says less about the signal: batch norm makes the scale of the weights irrelevant, so that
    weights ten times as large have a tenth of the gradient with the same signal.

    Args:
        images: This rank's part of an augmented batch, (B, 3, H, W); all ranks must call this.
        labels: (B,)

    Returns:
        ``{"layer", "forward_std", "gradient_norm", "activation_gradient_norm"}`` of the whole batch in the order of
        computation, the same on all ranks.
    """
    dtype = next(model.parameters()).dtype
    squares: dict[str, Tensor] = {}

    def follow(layer: str, output: Tensor) -> None:
        # The hook stays with this value even if the output is then overwritten in place.
        def came_back(gradient: Tensor) -> None:
            squares[layer] = gradient.to(dtype).square().sum()

        output.register_hook(came_back)

    with left_as_it_was(model, training=True):
        with layer_moments(model) as parts, watched(model, follow):
            logits = forward(model, images, precision)
        loss = F.cross_entropy(logits.to(dtype), labels, label_smoothing=label_smoothing)
        # autograd.grad leaves the stored gradients of the last step alone.
        gradients = list(torch.autograd.grad(loss, [model.get_parameter(f"{layer}.weight") for layer in parts]))
    distributed.average(gradients)
    norms = torch.stack([gradient.norm() for gradient in gradients]).tolist()
    # The loss of the whole batch is the mean of the ranks' losses.
    sums = distributed.total(torch.stack([squares[layer] for layer in parts]).tolist())
    returned = [math.sqrt(total) / distributed.size() for total in sums]
    return [
        {"layer": layer, "forward_std": float(part.std), "gradient_norm": norm, "activation_gradient_norm": signal}
        for (layer, part), norm, signal in zip(over_ranks(parts).items(), norms, returned, strict=True)
    ]


@dataclass(frozen=True)
class Moments:
    """Mean and sum of squared deviations of ``count`` values, as float64 on the host; tensors hold several at once.

    Sums use the difference of the means (Chan, Golub, LeVeque 1979): with a large mean, the mean of squares minus the
    square of the mean would lose all digits.
    """

    count: int
    mean: Tensor
    squares: Tensor

    def __add__(self, other: Moments) -> Moments:
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + apart**2 * (self.count * other.count / count))

    @property
    def var(self) -> Tensor:
        """Variance with denominator n, as in batch norm."""
        return self.squares / self.count

    @property
    def std(self) -> Tensor:
        return self.var.sqrt()


NOTHING = Moments(0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


def var_mean(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return variance (denominator n) and mean over ``dims`` as (2, …), in single precision or wider."""
    wide = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    return torch.stack(torch.var_mean(wide, dims, correction=0))


def moments(taken: Tensor, count: int) -> Moments:
    """Convert a result of ``var_mean`` over ``count`` values to moments."""
    var, mean = taken.cpu().double()
    return Moments(count, mean, var * count)


def over_ranks(parts: dict[str, Moments]) -> dict[str, Moments]:
    """Add up the parts of all ranks, which name the same layers in the same order."""
    if distributed.size() == 1:
        return parts
    counts = [int(count) for count in distributed.total([part.count for part in parts.values()])]
    sums = _total({name: part.mean * part.count for name, part in parts.items()})
    means = {name: sums[name] / count for name, count in zip(parts, counts, strict=True)}
    squares = _total({name: p.squares + p.count * (p.mean - means[name]) ** 2 for name, p in parts.items()})
    return {name: Moments(count, means[name], squares[name]) for name, count in zip(parts, counts, strict=True)}


def _total(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    flat = torch.cat([row.reshape(-1) for row in rows.values()])
    sums = torch.tensor(distributed.total(flat.tolist()), dtype=torch.float64)
    parts = sums.split([row.numel() for row in rows.values()])
    return {name: part.view(row.shape) for (name, row), part in zip(rows.items(), parts, strict=True)}


@contextlib.contextmanager
def layer_moments(model: nn.Module) -> Iterator[dict[str, Moments]]:
    """Measure the moments of every 3x3 layer's output, as in ``watched``, in the one forward pass inside the context.

    They are taken over images, positions and channels together. The dictionary is filled at the end.
    """
    taken: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def take(name: str, output: Tensor) -> None:
        taken[name], counts[name] = var_mean(output.detach(), (0, 1, 2, 3)), output.numel()

    found: dict[str, Moments] = {}
    with watched(model, take):
        yield found
    # One transfer for all layers.
    rows = torch.stack(list(taken.values())).cpu()
    found.update({name: moments(row, counts[name]) for name, row in zip(taken, rows, strict=True)})


@contextlib.contextmanager
def watched(model: nn.Module, take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``take`` with the name and the output of each 3x3 layer, after batch norm, before nonlinearity or addition.

    A layer with a bias has no batch norm, and gates are no layers. ``take`` is called in the order of computation, in
    every forward pass inside the context, and must not keep the tensor, which the next operation overwrites.
    """
    waiting: list[str] = []

    def convolved(name: str) -> Callable[[nn.Conv2d, object, Tensor], None]:
        def hook(layer: nn.Conv2d, _: object, output: Tensor) -> None:
            is_layer = layer.kernel_size == (3, 3) and not isinstance(layer, Gate)
            waiting[:] = [name] if is_layer and layer.bias is None else []
            if is_layer and layer.bias is not None:
                take(name, output)

        return hook

    def normalized(_: nn.Module, __: object, output: Tensor) -> None:
        if waiting:
            take(waiting.pop(), output)

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(convolved(name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_hook(normalized))
    try:
        with uncompiled(model):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run compiled blocks operation by operation, because compiled code ignores hooks that are set later."""
    # torch.compiler.set_stance would affect all runs that share the process.
    compiled = {m: m._compiled_call_impl for m in model.modules() if m._compiled_call_impl is not None}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


@contextlib.contextmanager
def left_as_it_was(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the net into training or evaluation mode; restore its mode and its running statistics at the end."""
    modes = {module: module.training for module in model.modules()}
    before = [b.detach().clone() for b in model.buffers()]
    model.train(training)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
        for module, mode in modes.items():
            module.training = mode
