"""Dense nets: sizes, what each layer reads, dropout, memory, and torchvision's nets for ImageNet."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from repro.data.augment import generator_for
from repro.errors import InputError
from repro.models import build_model
from repro.models.blocks import GroupBatchNorm2d
from repro.models.chance import Draw, Dropout
from repro.models.count import activation_bytes, measure
from repro.models.foreign_weights import from_torchvision_dense
from tests.nets import net_config, trained_net

SINGLE = {"name": "densenet", "shortcut": "none", "block": "single", "growth": 12}
BC = {"name": "densenet", "shortcut": "none", "block": "bottleneck", "growth": 12, "compression": 0.5}
IMAGENET = {**BC, "name": "imagenet_densenet", "growth": 32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "params", "macs", "millions"),
    [
        ({**SINGLE, "depth": 40}, 1_019_722, 264_812_928, 1.0),
        ({**SINGLE, "depth": 100}, 6_979_642, 1_769_516_448, 7.0),
        ({**SINGLE, "depth": 100, "growth": 24}, 27_249_082, 6_889_347_744, 27.2),
        ({**BC, "depth": 100}, 769_162, 287_929_692, 0.8),
        ({**BC, "depth": 250, "growth": 24}, 15_324_406, 5_418_785_724, 15.3),
        ({**BC, "depth": 190, "growth": 40}, 25_624_430, 9_301_945_740, 25.6),
    ],
)
def test_parameters_of_table_2(changes: Any, params: int, macs: int, millions: float) -> None:
    size = measure(net_config(**changes), 32, 10)
    assert (size.params, size.macs) == (params, macs)
    assert round(params / 1e6, 1) == millions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "growth", "params", "macs"),
    [
        (121, 32, 7_978_856, 2_834_161_664),
        (169, 32, 14_149_480, 3_359_843_328),
        (201, 32, 20_013_928, 4_291_365_888),
        (161, 48, 28_681_000, 7_727_907_072),
        (264, 32, 33_337_704, 5_751_653_376),
    ],
)
def test_sizes_of_the_imagenet_nets(depth: int, growth: int, params: int, macs: int) -> None:
    size = measure(net_config(**{**IMAGENET, "depth": depth, "growth": growth}), 224, 1000)
    assert (size.params, size.macs) == (params, macs)


@pytest.mark.parametrize("kind", [SINGLE, BC])
def test_a_layer_reads_all_maps_before_it_and_a_transition_halves_them(kind: Any) -> None:
    model: Any = trained_net(**{**kind, "depth": 16, "growth": 6})
    images = torch.randn(4, 3, 16, 16, generator=generator_for(1, "x"))
    model.eval()
    with torch.no_grad():
        maps = [model.conv1(images)]
        assert maps[0].shape[1] == (16 if kind is SINGLE else 12)
        for number, stage in enumerate(model.stages):
            for layer in stage:
                y = F.relu(layer.bn1(torch.cat(maps, 1)))
                y = F.relu(layer.bn2(layer.conv1(y))) if kind is BC else y
                maps.append(layer.conv2(y))
                assert maps[-1].shape[1] == 6
            if number < 2:
                transition = model.transitions[number]
                y = transition.conv(F.relu(transition.bn(torch.cat(maps, 1))))
                assert y.shape[1] == sum(m.shape[1] for m in maps) // (1 if kind is SINGLE else 2)
                maps = [F.avg_pool2d(y, 2)]
        last = F.relu(model.last(torch.cat(maps, 1)))
        torch.testing.assert_close(model.features(images), last)
        torch.testing.assert_close(model(images), model.fc(last.mean((2, 3))))
    assert last.shape[2:] == (4, 4)
    if kind is BC:
        assert layer.conv1.out_channels == 24, "four times the growth"


@pytest.mark.parametrize("kind", [SINGLE, BC])
def test_dropout_follows_every_convolution_but_the_first(kind: Any) -> None:
    """Deviation D39."""
    model: Any = build_model(net_config(**{**kind, "depth": 16, "dropout": 0.2}), 10, generator_for(0, "init"))
    after: list[str] = []
    waiting: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: waiting.append(name))
        elif isinstance(module, Dropout):
            module.register_forward_hook(lambda *_: after.append(waiting.pop()))
    with model.drawing(Draw(seed=0, step=0)):
        found = model(torch.randn(4, 3, 16, 16))
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert sorted(after) == sorted(set(convs) - {"conv1"}) and waiting == ["conv1"]
    assert found.shape == (4, 10)


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}])
@pytest.mark.parametrize("kind", [SINGLE, BC])
def test_the_memory_efficient_form_changes_no_bit(kind: Any, changes: Any) -> None:
    images = torch.randn(4, 3, 8, 8, generator=generator_for(1, "init"))
    of = {**kind, "depth": 16, **changes, "bn_group_size": 2}
    kept, recomputed = trained_net(**of), trained_net(**of)
    recomputed.recompute = True
    for model in (kept, recomputed):
        with model.drawing(Draw(seed=0, step=0)):
            model(images).square().sum().backward()
    for (name, one), two in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        assert torch.equal(one.grad, two.grad), name
    for (name, mean), same in zip(kept.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(mean, same), name
    assert all(m.updates_statistics for m in recomputed.modules() if isinstance(m, GroupBatchNorm2d))


@pytest.mark.slow
def test_the_memory_efficient_form_grows_with_the_layers_and_not_with_their_square() -> None:
    usual, efficient = (
        [activation_bytes(net_config(**{**BC, "depth": depth}), 32, 4, again) for depth in (28, 52, 100)]
        for again in (False, True)
    )
    assert efficient[2] < usual[2] / 4
    assert (efficient[2] - efficient[1]) / (efficient[1] - efficient[0]) == pytest.approx(2, abs=0.1)
    assert (usual[2] - usual[1]) / (usual[1] - usual[0]) > 3


def torchvisions(depth: int, **more: Any) -> Any:
    return getattr(torchvision.models, f"densenet{depth}")(**more)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "growth"), [(121, 32), (161, 48), (169, 32), (201, 32)])
def test_the_imagenet_nets_have_torchvisions_layers(depth: int, growth: int) -> None:
    with torch.device("meta"):
        ours = build_model(net_config(**{**IMAGENET, "depth": depth, "growth": growth}), 1000).state_dict()
        theirs = torchvisions(depth).state_dict()
    assert {n: v.shape for n, v in from_torchvision_dense(theirs).items()} == {n: v.shape for n, v in ours.items()}
    old = {re.sub(r"(denselayer.*\.(?:norm|conv))([12])\.", r"\1.\2.", name): value for name, value in theirs.items()}
    assert "features.denseblock1.denselayer2.norm.2.weight" in old
    assert from_torchvision_dense(old).keys() == ours.keys()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [121, 169, 201])
def test_the_imagenet_nets_agree_with_torchvisions(depth: int) -> None:
    theirs = torchvisions(depth, num_classes=10)
    generator = generator_for(depth, "init")
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5, generator=generator)  # type: ignore[arg-type]
            for values in (module.bias, module.running_mean):
                nn.init.uniform_(values, -0.5, 0.5, generator=generator)  # type: ignore[arg-type]
    ours = build_model(net_config(**{**IMAGENET, "depth": depth, "bn_group_size": 2}), 10)
    ours.load_state_dict(from_torchvision_dense(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64, generator=generator_for(1, "x"))
    for training in (False, True):
        with torch.no_grad():
            found, expected = ours.train(training)(images), theirs.train(training)(images)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "name", ["features.conv1.weight", "features.denseblock5.denselayer1.norm1.weight", "head.bias"]
)
def test_weights_of_another_net_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=name):
        from_torchvision_dense({name: Tensor()})
