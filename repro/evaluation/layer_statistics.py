"""What passes through a net's 3x3 layers, taken without changing the net, and its deviation over many batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.runtime import distributed


@dataclass(frozen=True)
class Moments:
    """Mean and sum of squared deviations of ``count`` values, float64 on the host; a row of several at once.

    Parts are added by the means' difference (Chan, Golub, LeVeque 1979): the mean of squares less the square of the
    mean would lose all digits where the mean is large.
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
        """The variance with n, as batch norm takes it."""
        return self.squares / self.count

    @property
    def std(self) -> Tensor:
        return self.var.sqrt()


NOTHING = Moments(0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


def var_mean(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Variance (with n) and mean over ``dims``, (2, …), in single precision or wider, on the device of ``values``."""
    wide = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    return torch.stack(torch.var_mean(wide, dims, correction=0))


def moments(taken: Tensor, count: int) -> Moments:
    """What ``var_mean`` took over ``count`` values each."""
    var, mean = taken.cpu().double()
    return Moments(count, mean, var * count)


def over_ranks(parts: dict[str, Moments]) -> dict[str, Moments]:
    """Adds up the parts of all ranks, which name the same layers in the same order."""
    if distributed.size() == 1:
        return parts
    counts = [int(count) for count in distributed.total([part.count for part in parts.values()])]
    sums = _total({name: part.mean * part.count for name, part in parts.items()})
    means = {name: sums[name] / count for name, count in zip(parts, counts, strict=True)}
    squares = _total({name: p.squares + p.count * (p.mean - means[name]) ** 2 for name, p in parts.items()})
    return {name: Moments(count, means[name], squares[name]) for name, count in zip(parts, counts, strict=True)}


def _total(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    sums = torch.tensor(
        distributed.total(torch.cat([row.reshape(-1) for row in rows.values()]).tolist()), dtype=torch.float64
    )
    return {
        name: part.view(row.shape)
        for (name, row), part in zip(rows.items(), sums.split([row.numel() for row in rows.values()]), strict=True)
    }


@contextlib.contextmanager
def layer_moments(model: nn.Module) -> Iterator[dict[str, Moments]]:
    """The moments of every 3x3 layer's output, as ``watched`` sees it, over images, positions and channels together;
    filled in when the one forward pass within has ended."""
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
    """Gives ``take`` each 3x3 layer's name and its output after batch norm, before nonlinearity or addition (Fig. 7),
    in the order of computation, in every forward pass within.

    The tensor is written over right after: what is needed of it has to be taken at once.
    """
    waiting: list[str] = []

    def convolved(name: str) -> Callable[[nn.Conv2d, object, Tensor], None]:
        def hook(layer: nn.Conv2d, _: object, __: Tensor) -> None:
            waiting[:] = [name] if layer.kernel_size == (3, 3) else []

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
    """Within it, compiled blocks run operation by operation: compiled code knows nothing of hooks set later.

    ``torch.compiler.set_stance`` would do so for all runs that share the process.
    """
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
    """The net in training or evaluation mode; its own mode and its running statistics, to the bit, afterwards."""
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
