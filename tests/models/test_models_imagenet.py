"""ImageNet nets: Table 1, shortcut options, the stride of bottlenecks, torchvision's weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from repro.config.run import IMAGENET_DEPTHS, ModelConfig
from repro.data.augment import generator_for
from repro.errors import InputError
from repro.models import build_model
from repro.models.blocks import BlockNet, Bottleneck, PaddedIdentity
from repro.models.count import activation_bytes, measure
from repro.models.foreign_weights import from_torchvision, to_torchvision

BASE = ModelConfig("imagenet_resnet", 34, "A", "stride", "he_fan_in", 2, 0.1, 1e-5)


def net_config(**changes: Any) -> ModelConfig:
    return dataclasses.replace(BASE, **changes)


def net(**changes: Any) -> Any:
    return build_model(net_config(**changes), 10, generator_for(0, "init"))


def meta_net(**changes: Any) -> BlockNet:
    with torch.device("meta"):
        return build_model(net_config(**changes), 1000)


def projections(model: nn.Module) -> int:
    return sum(name.endswith("shortcut.0") for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("depth", "shortcut", "billions", "macs"),
    [
        (18, "A", 1.8, 1_794_805_760),
        (34, "A", 3.6, 3_644_493_824),
        (50, "B", 3.8, 3_857_973_248),
        (101, "B", 7.6, 7_570_194_432),
        (152, "B", 11.3, 11_282_415_616),
    ],
)
def test_multiply_adds_of_table_1(depth: int, shortcut: str, billions: float, macs: int) -> None:
    found = measure(net_config(depth=depth, shortcut=shortcut), 224, 1000).macs
    assert found == macs
    assert found / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize(("depth", "billions"), [(50, 4.089), (101, 7.801), (152, 11.514)])
def test_the_stride_in_the_3x3_layer_costs_more_than_table_1_says(depth: int, billions: float) -> None:
    late = net_config(depth=depth, shortcut="B", stride_in="3x3")
    early = dataclasses.replace(late, stride_in="1x1")
    assert round(measure(late, 224, 1000).macs / 1e9, 3) == billions
    assert measure(late, 224, 1000).params == measure(early, 224, 1000).params


@pytest.mark.parametrize(
    ("depth", "shortcut", "params"),
    [
        (18, "A", 11_515_688),
        (18, "B", 11_689_512),
        (34, "A", 21_623_848),
        (34, "B", 21_797_672),
        (34, "C", 22_716_840),
        (50, "B", 25_557_032),
        (101, "B", 44_549_160),
        (152, "B", 60_192_808),
    ],
)
def test_parameters(depth: int, shortcut: str, params: int) -> None:
    assert measure(net_config(depth=depth, shortcut=shortcut), 224, 1000).params == params


@pytest.mark.parametrize("depth", IMAGENET_DEPTHS)
def test_a_plain_net_has_the_size_of_the_residual_one_with_option_a(depth: int) -> None:
    plain, residual = net_config(depth=depth, shortcut="none"), net_config(depth=depth)
    assert measure(plain, 64, 1000) == measure(residual, 64, 1000)
    assert sum(1 for m in meta_net(depth=depth).modules() if isinstance(m, (nn.Conv2d, nn.Linear))) == depth


@pytest.mark.parametrize(
    ("depth", "shortcut", "count"),
    [(34, "A", 0), (34, "B", 3), (34, "C", 16), (50, "A", 0), (50, "B", 4), (50, "C", 16)],
)
def test_projections(depth: int, shortcut: str, count: int) -> None:
    assert projections(meta_net(depth=depth, shortcut=shortcut)) == count


def test_a_bottleneck_net_widens_at_stride_1_in_conv2() -> None:
    first: Any = next(meta_net(depth=50).blocks())
    assert isinstance(first.shortcut, PaddedIdentity)
    assert (first.shortcut.before, first.shortcut.after, first.shortcut.stride) == (0, 192, 1)
    first = next(meta_net(depth=50, shortcut="B").blocks())
    assert (first.shortcut[0].in_channels, first.shortcut[0].out_channels) == (64, 256)
    assert first.shortcut[0].stride == (1, 1)


@pytest.mark.parametrize("depth", [34, 50])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_where_blocks_take_their_stride(depth: int, stride_in: str) -> None:
    striding: list[str] = []
    for name, module in meta_net(depth=depth, shortcut="B", stride_in=stride_in).stages.named_modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            striding.append(name)
    layer = "conv2" if depth == 50 and stride_in == "3x3" else "conv1"
    assert striding == [f"{stage}.0.{part}" for stage in (1, 2, 3) for part in (layer, "shortcut.0")]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "maps"), [(64, 2), (56, 2), (32, 1), (33, 2)])
@pytest.mark.parametrize("depth", [18, 50])
def test_the_last_map_is_a_32nd_of_the_image_rounded_up(depth: int, size: int, maps: int) -> None:
    images = torch.empty(1, 3, size, size, device="meta")
    for shortcut in ("A", "B", "C", "none"):
        for subsample in ("stride", "avg_pool"):
            model = meta_net(depth=depth, shortcut=shortcut, shortcut_subsample=subsample).eval()
            assert model.features(images).shape == (1, model.fc.in_features, maps, maps)
            assert model(images).shape == (1, 1000)
    assert model.fc.in_features == {18: 512, 50: 2048}[depth]


@pytest.mark.parametrize("size", [64, 224])
def test_the_stem_is_table_1s(size: int) -> None:
    model = net(depth=18).eval()
    taken: list[Tensor] = []
    model.stages[0].register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    model.stages[0][0].register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    nn.init.normal_(model.bn1.running_mean, generator=generator_for(1, "init"))
    images = torch.randn(1, 3, size, size, generator=generator_for(2, "init"))
    with torch.no_grad():
        model.features(images)
        expected = nn.MaxPool2d(3, 2, 1)(model.bn1(model.conv1(images)).relu())
    assert model.conv1.kernel_size == (7, 7)
    assert taken[-1].shape == (1, 64, size // 4, size // 4)
    assert torch.equal(taken[-1], expected)


@pytest.mark.parametrize("name", ["cifar_resnet", "imagenet_resnet"])
def test_logits_are_the_fully_connected_layer_on_the_mean_of_the_features(name: str) -> None:
    model = net(name=name, depth={"cifar_resnet": 20, "imagenet_resnet": 18}[name]).eval()
    images = torch.randn(2, 3, 40, 64, generator=generator_for(1, "init"))
    with torch.no_grad():
        assert torch.equal(model(images), model.fc(model.features(images).mean((2, 3))))


def test_a_bottleneck_adds_its_input_before_the_last_relu() -> None:
    x = torch.randn(2, 64, 4, 4, generator=generator_for(1, "init"))
    blocks: list[Any] = [Bottleneck(64, 64, 1, net_config(depth=50, shortcut=s)).eval() for s in ("A", "none")]
    residual, plain = blocks
    given = x.clone()
    for block in blocks:
        nn.init.zeros_(block.bn3.weight)
    assert torch.equal(residual(x), x.relu()), "a residual of zero leaves the identity"
    assert not plain(x).any(), "a plain block has nothing but its layers"
    assert torch.equal(x, given), "what is done in place is not done to the input"


def torchvisions(depth: int) -> Any:
    """Return a net of torchvision with random weights and running statistics."""
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=10)
    generator = generator_for(depth, "init")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 1.0),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                assert values is not None
                nn.init.uniform_(values, low, high, generator=generator)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    return model


def assert_agree(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_agrees_with_torchvision_with_the_same_weights(depth: int) -> None:
    theirs = torchvisions(depth)
    images = torch.randn(4, 3, 64, 64, generator=generator_for(1, "init"))
    ours = net(depth=depth, shortcut="B", stride_in="3x3", bn_group_size=4)
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    for training in (False, True):
        with torch.no_grad():
            assert_agree(ours.train(training)(images), theirs.train(training)(images))
    for name, value in from_torchvision(theirs.state_dict()).items():
        if "running" in name:
            assert_agree(ours.state_dict()[name], value)


@pytest.mark.slow
def test_the_stride_of_the_paper_is_another_net_than_torchvisions() -> None:
    theirs = torchvisions(50).eval()
    images = torch.randn(2, 3, 64, 64, generator=generator_for(1, "init"))
    ours = net(depth=50, shortcut="B").eval()
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    with torch.no_grad():
        assert not torch.allclose(ours(images), theirs(images), rtol=1e-2)


@pytest.mark.parametrize("depth", IMAGENET_DEPTHS)
def test_names_go_to_torchvisions_and_back(depth: int) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    ours = meta_net(depth=depth, shortcut="B").state_dict()
    assert set(from_torchvision(theirs)) == set(ours)
    assert {name: value.shape for name, value in to_torchvision(ours).items()} == {
        n: v.shape for n, v in theirs.items()
    }
    back = to_torchvision(from_torchvision(theirs))
    assert list(back) == list(theirs)
    assert all(back[name] is theirs[name] for name in theirs)


def test_weights_from_before_batches_were_counted_load() -> None:
    state = {n: v for n, v in torchvisions(18).state_dict().items() if not n.endswith("num_batches_tracked")}
    model = net(depth=18, shortcut="B")
    model.load_state_dict(from_torchvision(state))
    assert torch.equal(model.stages[1][0].shortcut[1].running_var, state["layer2.0.downsample.1.running_var"])
    counts = [v for n, v in model.state_dict().items() if n.endswith("num_batches_tracked")]
    assert len(counts) == 20 and not any(counts)


@pytest.mark.parametrize("name", ["features.0.weight", "layer5.0.conv1.weight", "module.conv1.weight", "conv1.bias2"])
def test_weights_of_another_net_are_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=name):
        from_torchvision({name: torch.zeros(1)})
    with pytest.raises(InputError, match="'layer1"):
        to_torchvision({"layer1.0.conv1.weight": torch.zeros(1)})


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_recomputed_activations_give_the_same_gradients(depth: int) -> None:
    images = torch.randn(4, 3, 64, 64, generator=generator_for(1, "init"))
    kept, recomputed = net(depth=depth, shortcut="B"), net(depth=depth, shortcut="B")
    recomputed.recompute = True
    for model in (kept, recomputed):
        model(images).square().sum().backward()
    for (name, one), two in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name
    for (name, one), two in zip(kept.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(one, two), name
    config = net_config(depth=depth)
    assert activation_bytes(config, 64, 4, True) < activation_bytes(config, 64, 4, False)


def test_pooling_without_a_border_is_caffes():
    """Deviation D28: windows start at the first pixel, and the last one may extend beyond the map."""
    usual, theirs = net(depth=18).eval(), net(depth=18, pool_padding=0).eval()
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), theirs.parameters(), strict=True))
    image = torch.randn(1, 3, 48, 48, generator=generator_for("image"))
    seen: list[torch.Tensor] = []
    for model in (usual, theirs):
        next(model.blocks()).register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
        with torch.no_grad():
            model(image)
    with torch.no_grad():
        first = F.relu(theirs.bn1(theirs.conv1(image)))
    for row, column in ((0, 0), (3, 5), (11, 11)):
        window = first[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        assert torch.equal(seen[1][0, :, row, column], window.amax((1, 2)))
    assert seen[0].shape == seen[1].shape == (1, 64, 12, 12) and not torch.equal(*seen)
