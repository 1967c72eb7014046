"""The paper's nets: sizes, shortcuts, initialization, grouped batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repro.data.augment import generator_for
from repro.models import build_model
from repro.models.blocks import BasicBlock, GroupBatchNorm2d, PaddedIdentity
from repro.models.count import measure
from tests.nets import net_config, trained_net


def net(**changes: Any) -> Any:
    return build_model(net_config(**changes), 10, generator_for(0, "init"))


@pytest.mark.parametrize(
    ("depth", "params", "millions"),
    [
        (20, 269_722, 0.27),
        (32, 464_154, 0.46),
        (44, 658_586, 0.66),
        (56, 853_018, 0.85),
        (110, 1_727_962, 1.7),
        pytest.param(1202, 19_421_274, 19.4, marks=pytest.mark.slow),
    ],
)
def test_parameters_of_table_6(depth: int, params: int, millions: float) -> None:
    size = measure(net_config(depth=depth), 32, 10)
    assert size.params == params
    digits = 2 if millions < 1 else 1
    assert round(params / 1e6, digits) == millions
    assert measure(net_config(depth=depth, shortcut="none"), 32, 10) == size, "option A adds nothing to the plain net"


def test_nets_for_another_batch_are_not_counted_anew() -> None:
    assert measure(net_config(bn_group_size=4), 32, 10) is measure(net_config(bn_group_size=8), 32, 10)


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.55), (32, 68.86), (44, 97.17), (56, 125.5), (110, 252.9)])
def test_multiply_adds(depth: int, millions: float) -> None:
    assert measure(net_config(depth=depth), 32, 10).macs / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(("depth", "params"), [(20, 272_474), (56, 855_770), (110, 1_730_714)])
def test_option_b_adds_two_projections(depth: int, params: int) -> None:
    assert measure(net_config(depth=depth, shortcut="B"), 32, 10).params == params


def test_option_c_projects_on_every_shortcut() -> None:
    projections = [m for m in net(shortcut="C").modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(projections) == 9, "3n shortcuts for n = 3"


@pytest.mark.parametrize("depth", [20, 32, 110])
def test_there_are_6n_plus_2_weighted_layers(depth: int) -> None:
    layers = [m for m in net(depth=depth).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize("size", [32, 16, 8])
def test_any_option_maps_images_to_logits(shortcut: str, size: int) -> None:
    assert net(shortcut=shortcut)(torch.randn(4, 3, size, size)).shape == (4, 10)


def test_option_a_takes_every_second_pixel_and_pads_zeros() -> None:
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    y = PaddedIdentity(5, 2, "stride")(x)
    assert y.shape == (2, 8, 2, 2)
    assert torch.equal(y[:, :3], x[:, :, [0, 2]][:, :, :, [0, 2]])
    assert not y[:, 3:].any()
    averaged = PaddedIdentity(5, 2, "avg_pool")(x)
    assert torch.equal(averaged[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    both = PaddedIdentity(4, 2, "stride", "both_sides")(x)
    assert torch.equal(both, nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    stride=st.integers(1, 3),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_option_a_subsamples_as_slices_do_and_keeps_the_layout(
    shape: tuple[int, ...], stride: int, layout: torch.memory_format
) -> None:
    x = torch.randn(shape).relu().to(memory_format=layout).requires_grad_()
    sliced = nn.functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, 4))
    y = PaddedIdentity(4, stride, "stride")(x)
    assert torch.equal(y, sliced)
    probe = torch.randn(y.shape).to(memory_format=layout)
    (found,), (wanted,) = torch.autograd.grad(y, x, probe), torch.autograd.grad(sliced, x, probe)
    assert torch.equal(found, wanted)
    assert found.is_contiguous(memory_format=layout)


def zeros_at_the_end(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Permute the channels of a CIFAR net whose option A pads on both sides, as if it padded at the end."""
    order, converted = torch.arange(16), {}
    for name, value in state.items():
        if ".0.conv2." in name and len(value) > len(order):  # the end of a block that adds channels
            middle = torch.arange(len(value)).roll(-len(value) // 4)[: len(order)]
            zeros = torch.tensor([channel for channel in range(len(value)) if channel not in middle])
            order = torch.cat([middle[order], zeros])
        if name.endswith("conv1.weight") and name.startswith("stages"):
            value = value[:, order]
        elif "conv2." in name or ("bn2." in name and value.dim()):
            value = value[order]
        elif name == "fc.weight":
            value = value[:, order]
        converted[name] = value
    return converted


@pytest.mark.parametrize("depth", [8, 20])
def test_the_places_of_option_as_zeros_differ_by_a_permutation_of_channels(depth: int) -> None:
    """Deviation D24: both are the same net up to rounding, so they train alike, but trained weights fit only one."""
    theirs = trained_net(depth, option_a="both_sides").double().eval()
    ours = trained_net(depth).double().eval()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        ours.load_state_dict(theirs.state_dict())
        assert not torch.allclose(ours(images), theirs(images), rtol=1e-2)
        ours.load_state_dict(zeros_at_the_end(theirs.state_dict()))
        assert torch.allclose(ours(images), theirs(images), rtol=1e-10)
    assert net_config(option_a="both_sides").label == "ResNet-20 both sides"


def test_a_block_adds_its_input_before_the_last_relu() -> None:
    block: Any = BasicBlock(16, 16, 1, net_config(bn_group_size=2)).eval()
    x = torch.randn(2, 16, 8, 8)
    nn.init.zeros_(block.bn2.weight)
    assert torch.equal(block(x), x.relu()), "a residual of zero leaves the identity"
    plain: Any = BasicBlock(16, 16, 1, net_config(shortcut="none")).eval()
    nn.init.zeros_(plain.bn2.weight)
    assert not plain(x).any(), "a plain block has nothing but its layers"


def test_block_agrees_with_torchvisions_with_the_same_weights() -> None:
    ours: Any = BasicBlock(16, 32, 2, net_config(shortcut="B"))
    downsample = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    theirs = torchvision.models.resnet.BasicBlock(16, 32, 2, downsample)
    state = {name.replace("shortcut", "downsample"): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(4, 16, 8, 8)
    for mode in (True, False):
        assert torch.allclose(ours.train(mode)(x), theirs.train(mode)(x), atol=1e-6)
    assert torch.allclose(ours.bn1.running_var, theirs.bn1.running_var)


@pytest.mark.parametrize(("init", "fan_of"), [("he_fan_in", 1), ("he_fan_out", 0)])
def test_initialization_is_he_gaussian(init: str, fan_of: int) -> None:
    model = net(depth=56, init=init)
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    for weight in weights[20:]:
        fan = weight.shape[fan_of] * 9
        assert weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
    assert model.fc.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.1), "its fan is the inputs with either"
    assert not model.fc.bias.any()


def test_the_fully_connected_layer_alone_begins_otherwise() -> None:
    """Deviation D26."""
    usual, uniform, small = (net(fc_init=name) for name in ("he", "torch", "normal_0.01"))
    for other in (uniform, small):
        changed = [n for (n, a), b in zip(usual.named_parameters(), other.parameters(), strict=True) if (a != b).any()]
        assert changed[0] == "fc.weight" and set(changed) <= {"fc.weight", "fc.bias"}
    theirs = nn.Linear(64, 10)
    for ours, expected in zip(uniform.fc.parameters(), theirs.parameters(), strict=True):
        assert 0.9 / 8 < ours.abs().max() <= 1 / 8 and expected.abs().max() <= 1 / 8
        assert ours.std().item() == pytest.approx(expected.std().item(), rel=0.6)
    assert small.fc.weight.std().item() == pytest.approx(0.01, rel=0.1) and not small.fc.bias.any()


def test_initialization_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = net()
    torch.manual_seed(2)
    second = net()
    other: Any = build_model(net_config(), 10, generator_for(1, "init"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_grouped_batch_norm_is_one_batch_norm_per_group() -> None:
    grouped: Any = GroupBatchNorm2d(6, 4, 1e-5, 0.1)
    nn.init.normal_(grouped.weight)
    nn.init.normal_(grouped.bias)
    x = torch.randn(12, 6, 5, 5) * 3 + 1
    x.requires_grad_(True)
    apart: list[Any] = [nn.BatchNorm2d(6) for _ in range(3)]
    for layer in apart:
        layer.load_state_dict(grouped.state_dict())
    expected = torch.cat([layer(part) for layer, part in zip(apart, x.split(4), strict=True)])
    found = grouped(x)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(grouped.running_mean, torch.stack([a.running_mean for a in apart]).mean(0), atol=1e-6)
    assert torch.allclose(grouped.running_var, torch.stack([a.running_var for a in apart]).mean(0), atol=1e-6)
    probe = torch.randn_like(found)
    (one,) = torch.autograd.grad((found * probe).sum(), x, retain_graph=True)
    (two,) = torch.autograd.grad((expected * probe).sum(), x)
    assert torch.allclose(one, two, atol=1e-5)


def test_grouped_batch_norm_refuses_a_ragged_batch_and_evaluates_as_usual() -> None:
    grouped = GroupBatchNorm2d(6, 4, 1e-5, 0.1)
    with pytest.raises(ValueError, match="does not divide"):
        grouped(torch.randn(6, 6, 2, 2))
    x = torch.randn(5, 6, 2, 2)
    assert torch.equal(grouped.eval()(x), nn.BatchNorm2d(6).eval()(x))
