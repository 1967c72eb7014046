"""Maxout and dropout in the first paper's nets, and blocks of a single layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from repro.data.augment import generator_for
from repro.models import build_model
from repro.models.blocks import BasicBlock
from repro.models.chance import Draw
from repro.models.count import measure
from tests.nets import net_config, trained_net


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "params"), [(20, 392_970), (110, 2_580_330), (1202, 29_120_298)])
def test_maxout_adds_half_of_the_parameters(depth: int, params: int) -> None:
    """Deviation D45."""
    assert measure(net_config(depth=depth, activation="maxout"), 32, 10).params == params


@pytest.mark.parametrize("shortcut", ["A", "none"])
def test_maxout_takes_the_larger_of_two_pieces(shortcut: str) -> None:
    model: Any = trained_net(8, shortcut, activation="maxout").eval()
    block, x = model.stages[0][0], torch.randn(2, 16, 8, 8, generator=generator_for(1, "x"))
    assert isinstance(block, BasicBlock)
    with torch.no_grad():
        pieces = block.bn1(block.conv1(x))
        assert pieces.shape[1] == 32
        y = block.bn2(block.conv2(torch.maximum(pieces[:, :16], pieces[:, 16:])))
        torch.testing.assert_close(block(x), F.relu(y + x if shortcut == "A" else y))
        stem = model.bn1(model.conv1(torch.ones(1, 3, 8, 8)))
        seen: list[torch.Tensor] = []
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        model(torch.ones(1, 3, 8, 8))
        torch.testing.assert_close(seen[0], torch.maximum(stem[:, :16], stem[:, 16:]))


def test_dropout_stands_between_the_layers_of_a_block() -> None:
    """Deviation D46."""
    model: Any = trained_net(8, dropout=0.3, bn_group_size=2)
    block, x = model.stages[0][0], torch.randn(2, 16, 8, 8, generator=generator_for(1, "x"))
    entered: list[torch.Tensor] = []
    block.conv2.register_forward_pre_hook(lambda _, given: entered.append(given[0].clone()))
    with model.drawing(Draw(seed=0, step=0)):
        block(x)
    block(x)
    dropped, whole = entered
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)
    assert (whole[~kept] > 0).float().mean() > 0.2


def test_a_net_without_dropout_drops_on_its_shortcuts_as_before() -> None:
    """Layers that drop nothing must not change the numbers by which the others draw."""
    model = build_model(net_config(depth=8, shortcut_dropout=0.5), 10)
    with model.drawing(Draw(seed=0, step=0)):
        numbers = [block.join.dropout.number for block in model.blocks()]  # type: ignore[union-attr]
    assert numbers == [0, 1, 2]


def test_a_block_of_a_single_layer_adds_its_input_to_it() -> None:
    """The remark after Eqn. 1: y = W1 x + x, here with batch norm before and ReLU after the addition."""
    model: Any = trained_net(8, name="preact_resnet", block="single").eval()
    block, x = model.stages[0][1], torch.randn(2, 16, 8, 8, generator=generator_for(1, "x"))
    (conv,), (norm,) = block.convs, block.bns
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.relu(norm(conv(x)) + x))
    one, plain = (
        measure(net_config(**c), 32, 10)
        for c in ({"name": "preact_resnet", "block": "single", "depth": 20}, {"depth": 20, "shortcut": "none"})
    )
    assert one == plain
