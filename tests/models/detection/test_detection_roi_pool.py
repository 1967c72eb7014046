"""RoI pooling: its values, its gradient, RoI align."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor

from repro.models.detection.roi_pool import pool_regions


def features(channels: int = 3, height: int = 6, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def regions(count: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([110, 80])
    sides = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60 + 1
    return torch.cat([corners, corners + sides], 1)


def plain_pool(image: Tensor, box: list[float], size: int) -> Tensor:
    """Pool as Fast R-CNN's Caffe layer: rounded first and last positions, bins whose edges round outwards."""
    channels, height, width = image.shape
    x0, y0, x1, y1 = (math.floor(value / 16 + 0.5) for value in (box[0], box[1], box[2] - 1, box[3] - 1))
    columns, rows = max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1)
    pooled = torch.zeros(channels, size, size, dtype=image.dtype)
    for i in range(size):
        for j in range(size):
            top, bottom = (math.floor(i * rows / size) + y0, math.ceil((i + 1) * rows / size) + y0)
            left, right = (math.floor(j * columns / size) + x0, math.ceil((j + 1) * columns / size) + x0)
            part = image[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            if part.numel():
                pooled[:, i, j] = part.amax((1, 2))
    return pooled


@pytest.mark.parametrize("size", [7, 3])
def test_pooling_is_that_of_a_plain_loop(size):
    maps, boxes = features(), regions()
    expected = torch.stack([plain_pool(maps[0], box, size) for box in boxes.tolist()])
    assert torch.equal(pool_regions(maps, boxes, size), expected)
    assert (expected == 0).any()  # bins outside the map


def test_the_gradient_is_torchvisions():
    maps, boxes = features().requires_grad_(), regions()
    weights = torch.randn(12, 3, 7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (ours,) = torch.autograd.grad((pool_regions(maps, boxes, 7) * weights).sum(), maps)
    inclusive = boxes - torch.tensor([0, 0, 1, 1])
    theirs_pooled = torchvision.ops.roi_pool(maps, [inclusive], 7, 1 / 16)
    (theirs,) = torch.autograd.grad((theirs_pooled * weights).sum(), maps)
    assert torch.equal(ours, theirs)
    assert ours.abs().sum() > 0


def test_the_gradient_is_that_of_finite_differences():
    maps = features(1, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool_regions(x, regions(4), 3), maps)


def test_the_last_pixel_of_a_box_is_rounded_to_its_nearest_cell():
    maps = features()
    # Pixel 39 is nearest to cell 2, and pixel 40 to cell 3.
    boxes = torch.tensor([[32.0, 16, 40, 24], [32, 16, 41, 24]], dtype=torch.float64)
    pooled = pool_regions(maps, boxes, 1)[:, :, 0, 0]
    assert torch.equal(pooled, torch.stack([maps[0, :, 1, 2], maps[0, :, 1, 2:4].amax(1)]))


def test_a_map_in_low_precision_is_pooled_with_exact_coordinates():
    maps, boxes = features().bfloat16(), regions()
    assert torch.equal(pool_regions(maps, boxes.float(), 7), pool_regions(maps.float(), boxes.float(), 7))


def test_align_averages_at_exact_places():
    # A map that grows by 1 with each column: its value at the middle of a bin is linear in x, half a cell shifted.
    maps = torch.arange(8.0).expand(1, 1, 8, 8)
    aligned = pool_regions(maps, torch.tensor([[24.0, 24, 88, 88]]), 2, "align")
    assert aligned[0, 0, 0].tolist() == pytest.approx([(40 / 16) - 0.5, (72 / 16) - 0.5])
