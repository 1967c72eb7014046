"""Residual nets rewritten as plain nets, and back: the same function, its cost, and where no identity exists."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from repro.errors import InputError
from repro.models import resnet
from repro.models.blocks import BlockNet
from repro.models.conversion.cost import cost_of
from repro.models.conversion.fold import fold, obstacle
from repro.models.conversion.forms import Conv, Form, PlainForm, ResidualForm
from repro.models.conversion.plain import to_plain
from repro.models.conversion.residual import to_residual
from repro.models.conversion.stored import form_of, structure_of, tensors_of
from repro.models.count import measure
from repro.models.resnet import ImageNetResNet
from tests.nets import net_config, trained_net

ORDERED: dict[str, Any] = {"name": "preact_resnet", "depth": 14}
BOTTLENECK: dict[str, Any] = {"name": "preact_resnet", "depth": 11, "block": "bottleneck"}
SINGLE: dict[str, Any] = {"name": "preact_resnet", "depth": 8, "block": "single"}


def images(size: int = 8) -> Tensor:
    return torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def logits(net: Form | BlockNet, size: int = 8) -> Tensor:
    with torch.no_grad():
        found: Tensor = net(images(size))
    return found


def net_of(**changes: Any) -> BlockNet:
    return trained_net(**{"depth": 8, **changes}).double().eval()


def check_alike(one: Form | BlockNet, other: Form | BlockNet, size: int = 8) -> None:
    wanted = logits(one, size)
    torch.testing.assert_close(logits(other, size), wanted, rtol=0, atol=1e-12 * float(wanted.abs().max()))


def there_and_back(net: BlockNet, size: int = 8) -> tuple[ResidualForm, PlainForm, ResidualForm]:
    """Convert a net both ways, and check that all of its forms compute the same."""
    folded = fold(net)
    plain = to_plain(folded, size)
    back, _ = to_residual(plain)
    for form in (folded, plain, back):
        check_alike(net, form, size)
    return folded, plain, back


# --- the same function ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        *({"shortcut": shortcut} for shortcut in "ABC"),
        {"option_a": "both_sides"},
        {"shortcut_subsample": "avg_pool"},
        {"survival": "linear"},
        {"shortcut_scale": 0.5},
        {"shortcut_scale": 0.5, "residual_scale": -0.3},
        *({**BOTTLENECK, "shortcut": shortcut} for shortcut in "ABC"),
        {**BOTTLENECK, "stride_in": "3x3"},
        {**BOTTLENECK, "shortcut_subsample": "avg_pool"},
        {**BOTTLENECK, "order": "full", "shortcut": "B"},
        *({**ORDERED, "order": "full", "shortcut": shortcut} for shortcut in "ABC"),
        *({**ORDERED, "order": "relu_only", "shortcut": shortcut} for shortcut in "AB"),
        *({**ORDERED, "order": "relu_before_addition", "shortcut": shortcut} for shortcut in "AB"),
        {**ORDERED, "order": "bn_after_addition", "shortcut": "B"},
        {"name": "wide_resnet", "depth": 13, "width": 2, "shortcut": "B", "kernels": (1, 3, 1)},
    ],
    ids=str,
)
def test_a_plain_net_computes_the_same_and_its_blocks_come_back(changes: dict[str, Any]) -> None:
    folded, _, back = there_and_back(net_of(**changes))
    assert all(block.shortcut is not None for block in folded.blocks)
    # A factor before a ReLU may come back in the layer before it.
    if all(entry is None or entry.is_identity for entry in (*(block.entry for block in folded.blocks), folded.last)):
        wanted, found = tensors_of(folded), tensors_of(back)
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)
    assert cost_of(back, 8).params <= cost_of(folded, 8).params


@pytest.mark.parametrize("order", ["original", "bn_after_addition", "relu_before_addition", "relu_only", "full"])
@pytest.mark.parametrize("shortcut", ["A", "C"])
def test_blocks_of_one_layer_convert_as_well(order: str, shortcut: str) -> None:
    folded, plain, _ = there_and_back(net_of(**SINGLE, order=order, shortcut=shortcut))
    if order == "original":
        assert cost_of(plain, 8).params == sum(conv.weight.numel() + conv.bias.numel() for conv in plain.layers) + 650
        assert [layer.weight.shape for layer in plain.layers[1:]] == [b.convs[0].weight.shape for b in folded.blocks]


@pytest.mark.parametrize("padding", [0, 1])
def test_the_max_pooling_of_an_imagenet_net_is_kept(padding: int) -> None:
    net = net_of(name="imagenet_resnet", depth=18, shortcut="B", pool_padding=padding)
    assert isinstance(net, ImageNetResNet)
    net.stages, net.fc = net.stages[:1], nn.Linear(64, 10).double()
    there_and_back(net, 24)


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_the_bottlenecks_and_projections_of_an_imagenet_net_come_back(
    stride_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resnet, "STAGE_CHANNELS", (8, 12))
    monkeypatch.setitem(resnet.STAGE_BLOCKS, 50, (2, 2))
    net = net_of(name="imagenet_resnet", depth=50, shortcut="B", block="bottleneck", stride_in=stride_in)
    folded, plain, back = there_and_back(net, 24)
    projections = [block for block in folded.blocks if block.shortcut and block.shortcut.zeros_before is None]
    assert [block.stride for block in projections] == [1, 2]
    assert len(plain.layers) == 1 + 3 * 4
    for before, after in zip(folded.blocks, back.blocks, strict=True):
        assert before.shortcut and after.shortcut
        torch.testing.assert_close(after.shortcut.weight, before.shortcut.weight, rtol=1e-12, atol=1e-12)


GAMMAS = st.sampled_from((1.0, -1.0, 0.0, 1e-3))


@settings(max_examples=15, deadline=None)
@given(
    order=st.sampled_from(("original", "bn_after_addition", "relu_before_addition", "relu_only", "full")),
    shape=st.sampled_from((SINGLE, {**ORDERED, "depth": 8}, BOTTLENECK)),
    shortcut=st.sampled_from("ABC"),
    subsample=st.sampled_from(("stride", "avg_pool")),
    scale=st.sampled_from((1.0, 0.5, -1.0)),
    gammas=st.lists(GAMMAS, min_size=4, max_size=4),
)
def test_any_signs_and_zeros_of_batch_norms_are_kept(
    order: str, shape: dict[str, Any], shortcut: str, subsample: str, scale: float, gammas: list[float]
) -> None:
    settings_of_net = {**shape, "order": order, "shortcut": shortcut, "shortcut_subsample": subsample}
    net = net_of(**settings_of_net, shortcut_scale=scale)
    with torch.no_grad():
        for norm in (layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)):
            norm.weight.mul_(torch.tensor(gammas, dtype=torch.float64).repeat(len(norm.weight) // 4))
    there_and_back(net)


# --- what it costs --------------------------------------------------------------------------------------------------


def test_the_price_of_the_papers_net_is_its_carried_channels() -> None:
    net = net_of(depth=20)
    nn.init.ones_(net.fc.bias)
    plain = to_plain(fold(net), 32)
    before, after = measure(net_config(depth=20), 32, 10), cost_of(plain, 32)
    # Two layers of each block have as many channels again, of which the first layer writes and the second one reads.
    blocks = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
    extra = sum(9 * (one * one + one * two) for one, two in blocks)
    biases = 16 + sum(2 * two + one for one, two in blocks)
    weights = before.params - 2 * (16 + sum(2 * two for _, two in blocks))
    assert after.params == weights + extra + biases == 502_026
    assert (before.macs, after.macs) == (40_551_040, 77_120_128)
    # Each block has a one for each channel that it carries, and one for each that it adds.
    ones = sum(2 * one for one, _ in blocks)
    assert after.nonzero == weights + ones + sum(int(layer.bias.count_nonzero()) for layer in plain.layers)


def test_only_values_that_may_be_negative_are_carried_in_two_channels() -> None:
    def widths(**changes: Any) -> list[int]:
        return [len(layer.weight) for layer in to_plain(fold(net_of(**changes)), 8).layers]

    assert widths() == [16, 32, 16, 48, 32, 96, 64]
    pre = {"name": "preact_resnet", "depth": 14, "shortcut": "A"}
    # Three groups: activated, positive and negative; the last block is read only activated.
    assert widths(**pre, order="full")[:5] == [16, 32, 3 * 16, 3 * 16, 3 * 16]
    assert widths(**pre, order="full")[-1] == 64
    assert widths(**pre, order="relu_only")[:5] == [16, 32, 2 * 16, 3 * 16, 2 * 16]
    assert widths(**pre, order="relu_before_addition")[:4] == [16, 32, 32, 16]


def test_a_block_of_one_layer_adds_the_identity_to_its_kernel() -> None:
    folded = fold(net_of(**SINGLE))
    plain = to_plain(folded, 8)
    before, after = folded.blocks[0].convs[0].weight, plain.layers[1].weight
    expected = before.clone()
    expected[range(16), range(16), 1, 1] += 1
    assert torch.equal(after, expected)
    assert cost_of(plain, 8).macs == cost_of(folded, 8).macs


# --- plain nets, and what cannot be converted -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["original", "relu_before_addition", "relu_only", "full"])
def test_a_trained_plain_net_becomes_residual_where_an_identity_exists(order: str) -> None:
    net = net_of(**{**ORDERED, "order": order, "shortcut": "none"})
    plain = to_plain(fold(net), 8)
    assert not plain.cut
    back, notes = to_residual(plain)
    check_alike(net, back)
    assert [block.shortcut is not None for block in back.blocks] == [True] * 4 + [False] + [True] * 3 + [False] + [
        True
    ] * 3
    assert [note.split()[1] for note in notes] == ["6", "10"]
    assert all("stride 2" in note for note in notes)
    one, other = plain.layers[1], back.blocks[0].convs[0]
    expected = one.weight.clone()
    expected[range(16), range(16), 1, 1] -= 1
    assert torch.equal(other.weight, expected)
    assert cost_of(back, 8) == cost_of(plain, 8)


def test_a_shortcut_that_averages_a_map_of_odd_size_is_refused() -> None:
    net = fold(net_of(shortcut_subsample="avg_pool"))
    with pytest.raises(InputError, match=r"block 2 .*14x14|block 3 .*7x7"):
        to_plain(net, 14)
    check_alike(net, to_plain(net, 16), 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "densenet", "shortcut": "none", "growth": 12}, "nothing is added"),
        ({"name": "highway", "gate": "exclusive"}, "gates"),
        ({"gate": "shortcut_only"}, "gates"),
        ({"activation": "maxout"}, "maxout"),
        ({}, ""),
        ({"shortcut": "none"}, ""),
    ],
)
def test_nets_of_other_operations_are_refused(changes: dict[str, Any], said: str) -> None:
    found = obstacle(net_config(**changes))
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize("changes", [{"shortcut": "B"}, {**ORDERED, "order": "full"}, {"shortcut": "none"}])
def test_a_form_is_the_same_after_storing(changes: dict[str, Any]) -> None:
    plain = to_plain(fold(net_of(**changes)), 8)
    for form in (plain, to_residual(plain)[0]):
        structure = json.loads(json.dumps(structure_of(form)))
        again = form_of(structure, tensors_of(form))
        assert torch.equal(logits(again), logits(form))
        assert structure_of(again) == structure_of(form)
        assert isinstance(again, type(form))


def test_a_plain_net_is_a_chain_of_convolutions() -> None:
    plain = to_plain(fold(net_of()), 8)
    assert all(isinstance(layer, Conv) for layer in plain.layers)
    x = images()
    for layer in plain.layers:
        x = torch.relu(torch.conv2d(x, layer.weight, layer.bias, layer.stride, layer.weight.shape[-1] // 2))
    torch.testing.assert_close(x.mean((2, 3)) @ plain.fc_weight.T + plain.fc_bias, logits(plain))
