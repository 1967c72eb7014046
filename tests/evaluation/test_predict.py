"""The forward pass shared by training and evaluation: layout, type, arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from repro.data.augment import PixelStats, generator_for, normalize
from repro.evaluation.predict import predict
from repro.evaluation.views import FullyConvolutional, dense_scores
from repro.models.forward import forward
from tests.nets import trained_net

STATS = PixelStats(torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.25))


class Given(nn.Module):
    """A convolution that keeps its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        found: Tensor = self.conv(images).mean((2, 3))
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_is_given_normalized_pixels_in_its_type_channels_last(dtype: torch.dtype) -> None:
    net = Given().to(dtype)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=generator_for("pixels"), dtype=torch.uint8)
    found = predict(net, pixels, STATS, "fp32")
    assert net.images.dtype == dtype and net.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(net.images, normalize(pixels, STATS).to(dtype))
    assert torch.equal(found, net(net.images))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_logits_come_in_the_type_of_the_arithmetic(precision: str, dtype: torch.dtype) -> None:
    images = torch.randn(2, 3, 8, 8, generator=generator_for("images"))
    assert forward(Given(), images, precision).dtype == dtype


def test_a_fully_convolutional_net_computes_in_the_same_arithmetic() -> None:
    """The whole net computes in bfloat16, including the layer after the pooling."""
    net = trained_net(8).eval()
    images = torch.randn(2, 3, 40, 36, generator=generator_for("images"))
    dense = FullyConvolutional(net, 8)
    with torch.no_grad():
        assert forward(dense, images, "bf16").dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            scores = dense(images.to(memory_format=torch.channels_last)).float().softmax(-1).mean((1, 2))
        assert torch.equal(dense_scores(dense, images, "bf16"), scores)
        assert not torch.equal(dense_scores(dense, images, "fp32"), scores)
