"""Nets of Identity Mappings: sizes, orders of activation, and shortcuts other than the identity."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.data.augment import generator_for
from repro.models import build_model
from repro.models.blocks import BasicBlock, Bottleneck
from repro.models.chance import Draw
from repro.models.count import measure
from repro.models.preact import OrderedBlock, layers_of
from tests.nets import net_config, trained_net

ORDERS = ("original", "bn_after_addition", "relu_before_addition", "relu_only", "full")
BOTTLENECK = {"name": "preact_resnet", "block": "bottleneck", "shortcut": "B"}


@pytest.mark.parametrize(
    ("changes", "params", "macs"),
    [
        ({"depth": 110, "block": "basic", "order": "full"}, 1_727_962, 252_887_680),
        ({"depth": 110, "block": "single", "order": "full"}, 1_727_962, 252_887_680),
        ({"depth": 164, **BOTTLENECK, "order": "original"}, 1_704_154, 244_500_992),
        ({"depth": 164, **BOTTLENECK, "order": "relu_only"}, 1_704_154, 244_500_992),
        ({"depth": 164, **BOTTLENECK, "order": "full"}, 1_703_258, 244_500_992),
    ],
)
def test_the_nets_of_tables_2_to_4_have_1_7_million_parameters(changes: Any, params: int, macs: int) -> None:
    size = measure(net_config(**{"name": "preact_resnet", **changes}), 32, 10)
    assert (size.params, round(size.params / 1e6, 1), size.macs) == (params, 1.7, macs)


@pytest.mark.slow
def test_1001_layers_have_a_tenth_of_a_million_more_parameters_than_is_printed() -> None:
    """Table 4 prints 10.2 million. 333 blocks and two layers are what the paper says, and what is counted here."""
    with torch.device("meta"):
        model = build_model(net_config(**BOTTLENECK, depth=1001, order="full"), 10)
    assert sum(p.numel() for p in model.parameters()) == 10_327_706
    assert [len(list(stage.children())) for stage in model.stages] == [111, 111, 111]


def of_two_layers(order: str, is_first: bool, shortcut: str = "B", out_channels: int = 6) -> Any:
    config = net_config(name="preact_resnet", order=order, shortcut=shortcut, bn_group_size=4)
    layers = layers_of(config, out_channels, 1 if out_channels == 6 else 2)
    block = OrderedBlock(6, layers, config, order, is_first=is_first)
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0, 0.5, generator=generator_for(parameter.shape, "init"))
    return block


def by_the_paper(block: Any, x: Tensor, order: str, is_first: bool) -> Tensor:
    """Figure 4 of the paper, a path at a time."""
    (conv1, conv2), (bn1, bn2), relu = block.convs, block.bns, F.relu
    match order:
        case "original":
            return relu(x + bn2(conv2(relu(bn1(conv1(x))))))
        case "bn_after_addition":
            return relu(bn2(x + conv2(relu(bn1(conv1(x))))))
        case "relu_before_addition":
            return x + relu(bn2(conv2(relu(bn1(conv1(x))))))
        case "relu_only":
            return x + bn2(conv2(relu(bn1(conv1(x if is_first else relu(x))))))
    return x + conv2(relu(bn2(conv1(x if is_first else relu(bn1(x))))))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_a_block_computes_in_the_order_of_figure_4(order: str, is_first: bool) -> None:
    block, x = of_two_layers(order, is_first), torch.randn(4, 6, 5, 5, generator=generator_for(1, "x"))
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, wanted = block(found), by_the_paper(block, expected, order, is_first)
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-6)
    probe = torch.randn(y.shape, generator=generator_for(2, "x"))
    torch.testing.assert_close(
        torch.autograd.grad(y, found, probe), torch.autograd.grad(wanted, expected, probe), rtol=1e-5, atol=1e-5
    )


def test_a_projection_takes_the_activated_input_and_has_no_batch_norm_before_full_pre_activation() -> None:
    """Deviation D29."""
    block, x = of_two_layers("full", False, out_channels=8), torch.randn(4, 6, 4, 4)
    assert isinstance(block.shortcut, nn.Conv2d) and block.shortcut.stride == (2, 2)
    a = F.relu(block.bns[0](x))
    wanted = block.shortcut(a) + block.convs[1](F.relu(block.bns[1](block.convs[0](a))))
    torch.testing.assert_close(block(x), wanted, rtol=1e-6, atol=1e-6)
    padded = of_two_layers("full", False, shortcut="A", out_channels=8)
    wanted = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2)) + padded.residual(x)
    torch.testing.assert_close(padded(x), wanted, rtol=1e-6, atol=1e-6)


def convolutions(model: nn.Module) -> list[Tensor]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_original_order_is_the_first_papers_net(shortcut: str) -> None:
    one = build_model(net_config(depth=14, shortcut=shortcut), 10, generator_for(0, "init"))
    two = build_model(net_config(name="preact_resnet", depth=14, shortcut=shortcut), 10, generator_for(0, "init"))
    assert all(torch.equal(a, b) for a, b in zip(convolutions(one), convolutions(two), strict=True))
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(one(images), two(images))


def test_the_original_bottleneck_is_the_first_papers() -> None:
    config = net_config(**BOTTLENECK, depth=20)
    ours = OrderedBlock(16, layers_of(config, 8, 2), config, "original", is_first=False)
    theirs = Bottleneck(16, 32, 2, config)
    for weight, value in zip(convolutions(theirs), convolutions(ours), strict=True):
        weight.data.copy_(value)
    x = torch.randn(4, 16, 8, 8)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("order", ORDERS)
def test_nets_begin_and_end_with_an_activation(order: str) -> None:
    model: Any = trained_net(14, name="preact_resnet", order=order).eval()
    images = torch.randn(2, 3, 16, 16)
    entered: list[Tensor] = []
    model.stages[0][0].register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    with torch.no_grad():
        features = model.features(images)
        assert torch.equal(entered[0], F.relu(model.bn1(model.conv1(images))))
        assert features.min() >= 0
        if order in ("relu_only", "full"):
            assert model.body(entered[0]).min() < 0, "the identity path is never activated in between"


def on_the_shortcut(**changes: Any) -> tuple[Any, Tensor]:
    block = BasicBlock(6, 6, 1, net_config(**changes)).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0, 0.5, generator=generator_for(parameter.shape, "init"))
    return block, torch.randn(4, 6, 5, 5, generator=generator_for(1, "x"))


def test_constant_scaling_weighs_both_paths() -> None:
    block, x = on_the_shortcut(shortcut_scale=0.5, residual_scale=0.25)
    torch.testing.assert_close(block(x), F.relu(0.5 * x + 0.25 * block.residual(x)))
    block, x = on_the_shortcut(shortcut_scale=0.0)
    torch.testing.assert_close(block(x), F.relu(block.residual(x)))


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
def test_gates_weigh_the_shortcut_or_both_paths(gate: str) -> None:
    block, x = on_the_shortcut(gate=gate)
    g = torch.sigmoid(F.conv2d(x, block.join.gate.weight, block.join.gate.bias))
    residual = block.residual(x)
    torch.testing.assert_close(block(x), F.relu((1 - g) * x + (g * residual if gate == "exclusive" else residual)))


def test_gates_begin_with_their_bias() -> None:
    model = build_model(net_config(depth=8, gate="exclusive", gate_bias=-6.0), 10, generator_for(0, "init"))
    gates = [m for n, m in model.named_modules() if n.endswith("gate")]
    assert len(gates) == 3
    for gate in gates:
        assert isinstance(gate, nn.Conv2d) and gate.bias is not None
        assert set(gate.bias.tolist()) == {-6.0}
    assert gates[1].stride == (2, 2) and gates[1].out_channels == 32
    assert model(torch.randn(4, 3, 8, 8)).shape == (4, 10)


def test_dropout_on_the_shortcut_drops_in_training_steps_alone() -> None:
    block, x = on_the_shortcut(shortcut_dropout=0.5)
    plain = block(x)
    torch.testing.assert_close(plain, F.relu(x + block.residual(x)))
    model = build_model(net_config(depth=8, shortcut_dropout=0.5), 10, generator_for(0, "init"))
    images = torch.randn(4, 3, 8, 8)
    with model.drawing(Draw(seed=0, step=3)):
        one, again = model(images), model(images)
    with model.drawing(Draw(seed=0, step=4)):
        other = model(images)
    assert torch.equal(one, again)
    assert not torch.equal(one, other) and not torch.equal(one, model(images))
