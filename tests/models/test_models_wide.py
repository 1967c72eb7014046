"""Wide nets: sizes, the released net, blocks of other kernels, dropout, and torchvision's wide nets for ImageNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from repro.data.augment import generator_for
from repro.models import build_model
from repro.models.chance import Draw, Dropout
from repro.models.count import measure
from repro.models.foreign_weights import from_torchvision, to_torchvision
from tests.nets import net_config


def wide_config(**changes: Any) -> Any:
    return net_config(**{"name": "wide_resnet", "depth": 10, "width": 2.0, "shortcut": "B", **changes})


@pytest.mark.parametrize(
    ("depth", "width", "params", "millions"),
    [
        (40, 1, 563_930, 0.6),
        (40, 2, 2_243_546, 2.2),
        (40, 4, 8_949_210, 8.9),
        (40, 8, 35_748_314, 35.7),
        (28, 10, 36_479_194, 36.5),
        (28, 12, 52_517_850, 52.5),
        (22, 8, 17_158_106, 17.2),
        (22, 10, 26_797_914, 26.8),
        (16, 8, 10_961_370, 11.0),
        (16, 10, 17_116_634, 17.1),
        (16, 4, 2_748_890, 2.7),
    ],
)
def test_parameters_of_table_4(depth: int, width: int, params: int, millions: float) -> None:
    assert measure(wide_config(depth=depth, width=float(width)), 8, 10).params == params
    assert round(params / 1e6, 1) == millions


def test_the_largest_nets_and_100_classes() -> None:
    assert measure(wide_config(depth=28, width=10.0), 32, 100).params == 36_536_884
    assert round(measure(wide_config(depth=40, width=10.0), 8, 100).params / 1e6) == 56
    assert measure(wide_config(depth=28, width=10.0), 32, 10).macs == 5_243_328_768


@pytest.mark.parametrize(
    ("kernels", "depth", "printed_depth", "params", "millions"),
    [
        ((1, 3, 1), 58, 40, 1_429_082, 1.4),
        ((3, 1), 40, 40, 1_211_354, 1.2),
        ((1, 3), 40, 40, 1_297_370, 1.3),
        ((3, 1, 1), 58, 40, 1_343_066, 1.3),
        ((3, 3), 28, 28, 1_467_610, 1.5),
        ((3, 1, 3), 31, 22, 1_145_498, 1.1),
    ],
)
def test_parameters_of_table_2(
    kernels: tuple[int, ...], depth: int, printed_depth: int, params: int, millions: float
) -> None:
    """Deviation D31: its depths count two layers a block whatever the block, and only so the sizes agree."""
    assert measure(wide_config(kernels=kernels, depth=depth), 8, 10).params == params
    assert round(params / 1e6, 1) == millions
    blocks = (printed_depth - 4) // 6
    assert depth == 3 * len(kernels) * blocks + 4


@pytest.mark.parametrize("kernels", [(3,), (3, 3), (3, 3, 3), (3, 3, 3, 3)])
def test_the_blocks_of_table_3_have_as_many_parameters(kernels: tuple[int, ...]) -> None:
    assert measure(wide_config(kernels=kernels, depth=40), 8, 10).params == 2_243_546


class Released(nn.Module):
    """A block of the authors' release: batch norm and ReLU are shared where a projection is."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.projection = nn.Conv2d(before, channels, 1, stride, bias=False) if before != channels else None

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return y + (x if self.projection is None else self.projection(a))


def test_it_is_the_released_net() -> None:
    model: Any = build_model(wide_config(depth=16), 10, generator_for(0, "init"))
    blocks = [
        Released(before if place == 0 else channels, channels, stride if place == 0 else 1)
        for before, channels, stride in ((16, 32, 1), (32, 64, 2), (64, 128, 2))
        for place in range(2)
    ]
    theirs = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), *blocks, nn.BatchNorm2d(128), nn.ReLU())
    for ours, block in zip(model.blocks(), blocks, strict=True):
        block.conv1.load_state_dict(ours.convs[0].state_dict())
        block.conv2.load_state_dict(ours.convs[1].state_dict())
        if block.projection is not None:
            block.projection.load_state_dict(ours.shortcut.state_dict())
    theirs[0].load_state_dict(model.conv1.state_dict())
    images = torch.randn(4, 3, 16, 16, generator=generator_for(1, "x"))
    torch.testing.assert_close(model.features(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_the_first_layer_of_a_block_has_the_stride_whatever_its_kernel() -> None:
    model: Any = build_model(wide_config(depth=13, kernels=(1, 3, 1)), 10)
    assert [layer.kernel_size[0] for layer in model.stages[1][0].convs] == [1, 3, 1]
    assert [layer.stride[0] for layer in model.stages[1][0].convs] == [2, 1, 1]
    assert model(torch.randn(4, 3, 16, 16)).shape == (4, 10)


def test_dropout_stands_before_every_layer_of_a_block_but_the_first() -> None:
    model: Any = build_model(wide_config(depth=13, kernels=(3, 3, 3), dropout=0.3), 10, generator_for(0, "init"))
    layers = [m for m in model.modules() if isinstance(m, Dropout)]
    assert [layer.probability for layer in layers if layer.probability] == [0.3] * 6
    seen: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append((output == 0).float().mean() - (inputs[0] == 0).float().mean())

    for layer in layers:
        layer.register_forward_hook(watch)
    with model.drawing(Draw(seed=0, step=0)):
        model(torch.randn(4, 3, 32, 32))
    assert len(seen) == 6 and all(share > 0.05 for share in seen)


def test_an_image_loses_the_same_values_in_any_part_of_the_batch() -> None:
    layer, x = Dropout(0.25), torch.ones(8, 5, 6, 6)
    layer.draw = Draw(seed=1, step=7)
    whole = layer(x)
    assert (whole == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert whole.unique().tolist() == pytest.approx([0, 1 / 0.75])
    parts = []
    for first in (0, 2, 6):
        layer.draw = Draw(seed=1, step=7, first=first, batch_size=8)
        parts.append(layer(x[first : {0: 2, 2: 6, 6: 8}[first]]))
    assert torch.equal(torch.cat(parts), whole)
    layer.draw, layer.number = Draw(seed=1, step=7), 1
    assert not torch.equal(layer(x), whole), "each layer drops its own values"


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(18, 1, 11.7), (18, 1.5, 25.9), (18, 2, 45.6), (18, 3, 101.8), (34, 1, 21.8), (34, 1.5, 48.6), (34, 2, 86.0)],
)
def test_parameters_of_table_7(depth: int, width: float, millions: float) -> None:
    config = net_config(name="imagenet_resnet", depth=depth, width=width, shortcut="B")
    assert round(measure(config, 32, 1000).params / 1e6, 1) == millions


WRN_50_2 = net_config(name="imagenet_resnet", depth=50, width=2.0, shortcut="B", stride_in="3x3")


def test_a_wide_bottleneck_net_has_torchvisions_layers() -> None:
    """WRN-50-2 has 68.9 million parameters (Wide ResNet, Table 8)."""
    with torch.device("meta"):
        ours = build_model(WRN_50_2, 1000).state_dict()
        theirs = torchvision.models.wide_resnet50_2().state_dict()
    assert sum(p.numel() for n, p in ours.items() if n.endswith(("weight", "bias"))) == 68_883_240
    assert {n: v.shape for n, v in from_torchvision(theirs).items()} == {n: v.shape for n, v in ours.items()}
    assert set(to_torchvision(ours)) == set(theirs)


@pytest.mark.slow
def test_a_wide_bottleneck_net_agrees_with_torchvisions() -> None:
    theirs = torchvision.models.wide_resnet50_2(num_classes=10).eval()
    ours = build_model(WRN_50_2, 10).eval()
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64, generator=generator_for(1, "x"))
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("order", "params"), [("full", 64_666_152), ("original", 64_673_832)])
def test_200_layers_for_imagenet(order: str, params: int) -> None:
    """Identity Mappings, Table 5; Wide ResNet prints 64.7 million."""
    config = net_config(name="imagenet_resnet", depth=200, order=order, shortcut="B")
    assert measure(config, 32, 1000).params == params
