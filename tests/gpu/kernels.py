"""Times of single layers of the CIFAR nets on a GPU, in the ways that a step could compute them.

The profile of a step (docs/performance.md) names the weight gradients of 32 channels. This times other ways to compute
them, and the other passes of a layer, in a few seconds: ``python tests/gpu/kernels.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

BATCH = 128
LAYERS = ((16, 32), (32, 16), (64, 8))
"""Channels and width of the maps in each stage."""
CALLS, ROUNDS = 20, 5

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the input, the weight and the gradient of the output of a layer to one of its results."""


def main() -> None:
    """Print a line for each way: microseconds and the error relative to float64."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    for channels, width in LAYERS:
        torch.manual_seed(0)
        x, gradient = (torch.randn(BATCH, channels, width, width, device=device) for _ in range(2))
        weight = torch.randn(channels, channels, 3, 3, device=device) / (3 * channels**0.5)
        for name, wanted, way in ways():
            exact = wanted(*(t.double() for t in (x, weight, gradient)))
            for layout in (torch.channels_last, torch.contiguous_format):
                for dtype in (torch.float32, torch.bfloat16):
                    given = [t.to(dtype).contiguous(memory_format=layout) for t in (x, weight, gradient)]
                    error = (way(*given).double() - exact).norm() / exact.norm()
                    print(
                        f"{channels:3} channels  {name:34} {str(layout)[6:]:18} {str(dtype)[6:]:9}"
                        f"{microseconds(way, given, device):8.1f} µs  error {error:.0e}",
                        flush=True,
                    )


def ways() -> Iterator[tuple[str, Way, Way]]:
    """Yield the name of each way, the way that is right and itself."""
    yield "forward", forward, forward
    yield "gradient of the input", input_gradient, input_gradient
    yield "of the weight, deterministic", weight_gradient, deterministic(weight_gradient)
    yield "of the weight, any algorithm", weight_gradient, weight_gradient
    yield "of the weight, one product", weight_gradient, one_product
    yield "of the weight, nine products", weight_gradient, nine_products
    yield "every second pixel, average pool", halved_by_slice, halved_by_pool
    yield "every second pixel, slice", halved_by_slice, halved_by_slice


def forward(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Convolve."""
    return F.conv2d(x, weight, padding=1)


def backward(x: Tensor, weight: Tensor, gradient: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
    """Return the gradients that ``mask`` asks for, of input, weight and bias."""
    one = [1, 1]
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, one, one, one, False, [0, 0], 1, mask)


def input_gradient(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the input."""
    return backward(x, weight, gradient, [True, False, False])[0]


def weight_gradient(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight."""
    return backward(x, weight, gradient, [False, True, False])[1]


def deterministic(way: Way) -> Way:
    """Return ``way`` with cuDNN's deterministic algorithms."""

    def run(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            return way(x, weight, gradient)

    return run


def one_product(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight as one product with all windows of the input."""
    rows = windows(x)
    batch, height, width, channels = rows.shape[:4]
    product = last(gradient).reshape(-1, gradient.shape[1]).T @ rows.reshape(batch * height * width, channels * 9)
    return product.reshape(-1, channels, 3, 3)


def nine_products(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight as a product for each place in the window."""
    _, channels, height, width = x.shape
    padded, rows = F.pad(last(x), (0, 0, 1, 1, 1, 1)), last(gradient).reshape(-1, gradient.shape[1]).T
    places = [padded[:, i : i + height, j : j + width].reshape(-1, channels) for i in range(3) for j in range(3)]
    return torch.stack([rows @ place for place in places], dim=-1).reshape(-1, channels, 3, 3)


def windows(x: Tensor) -> Tensor:
    """Return all 3x3 windows, shape (images, height, width, channels, 3, 3), as a view of the padded input."""
    return F.pad(last(x), (0, 0, 1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)


def last(x: Tensor) -> Tensor:
    """Return the images with their channels last."""
    return x.permute(0, 2, 3, 1)


def halved_by_pool(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of taking every second pixel by an average of one."""
    small = gradient[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
    return torch.ops.aten.avg_pool2d_backward(small, x, [1, 1], [2, 2], [0, 0], False, True, None)


def halved_by_slice(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of taking every second pixel by a slice."""
    whole = torch.zeros_like(x)
    whole[:, :, ::2, ::2] = gradient[:, :, ::2, ::2]
    return whole


def microseconds(way: Way, given: list[Tensor], device: torch.device) -> float:
    """Return the median time of a call, launched as a graph where the device has graphs."""
    cuda = device.type == "cuda"

    def calls() -> None:
        for _ in range(CALLS if cuda else 1):
            way(*given)

    run: Callable[[], object] = calls
    if cuda:
        calls()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            calls()
        run = graph.replay
    times = []
    for _ in range(ROUNDS):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times) / (CALLS if cuda else 1)


if __name__ == "__main__":
    main()
