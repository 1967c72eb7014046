"""Bodies and tops cut from classification nets; fixed batch norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from repro.models.blocks import GroupBatchNorm2d
from repro.models.detection.body import FrozenBatchNorm, ResNetTop, cut, recompute_statistics
from repro.models.detection.images import by_shape
from repro.models.detection.roi_pool import pool_regions
from repro.models.detection.sampling import ImageDraw
from tests.detectors import detector, draws, imagenet_net, shapes_batch


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def recomputed_net(**changes):
    net = imagenet_net(**changes).eval()
    recompute_statistics(net, noise(4, 3, 64, 64))
    return net


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"shortcut": "none"}, {"shortcut": "A", "depth": 34}, {"depth": 50}, {"depth": 50, "pool_padding": 0}],
    ids=["residual", "plain", "option A", "bottleneck", "pooling of the release"],
)
def test_a_region_of_the_whole_map_has_the_classifiers_feature_to_the_bit(changes):
    net = recomputed_net(**changes)
    images = noise(1, 3, 64, 64)
    body, top = cut(net, size=4)
    with torch.no_grad():
        maps = body(images)
        # RoI pooling rounds the last pixel to its nearest cell: here pixel 48 to the last of 4 cells.
        feature = top(pool_regions(maps, torch.tensor([[0.0, 0, 49, 49]]), 4))
        expected = net.features(images).mean((2, 3))
    assert maps.shape[1:] == (body.channels, 4, 4)
    assert torch.equal(feature, expected)
    assert feature.shape == (1, top.channels)
    assert torch.isfinite(feature).all() and (feature > 0).any()


def test_the_same_at_the_size_of_classification():
    net = recomputed_net()
    body, top = cut(net)
    images = noise(1, 3, 224, 224)
    with torch.no_grad():
        feature = top(pool_regions(body(images), torch.tensor([[0.0, 0, 209, 209]]), 14))
        assert torch.equal(feature, net.features(images).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [101, 152])
def test_deep_nets_are_cut_before_conv5(depth):
    with torch.device("meta"):
        body, top = cut(imagenet_net(depth=depth))
    convolutions = [m for m in body.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    shortcuts = 3
    layers = sum(isinstance(m, nn.Conv2d) for m in body.modules()) - shortcuts
    assert (layers, body.channels, top.channels) == ({101: 91, 152: 142}[depth], 1024, 2048)
    assert len(convolutions) == (layers - 1) // 3 + 1


def test_fixed_batch_norm_stays_fixed_in_training():
    model = detector(bn_eps=1e-3)
    model.train()
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm)]
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    images, objects = shapes_batch(2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    features = model.maps(images)[0].detach()
    torch.stack(list(model.losses(images, objects, draws(2)).values())).sum().backward()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    model.eval()
    assert torch.equal(model.maps(images)[0], features)
    optimizer.step()
    assert len(norms) == 20 and len(before) == 40
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert not any("bn" in name or "shortcut.1" in name for name, _ in model.named_parameters())
    assert {norm.eps for norm in norms} == {1e-3}


def test_recomputed_statistics_normalize_the_given_images():
    net, images = imagenet_net(), noise(6, 3, 64, 64) * 3 + 1
    recompute_statistics(net, images)
    assert {m.group_size for m in net.modules() if isinstance(m, GroupBatchNorm2d)} == {2}
    net.eval()
    with torch.no_grad():
        first = net.bn1(net.conv1(images))
    assert torch.allclose(first.mean((0, 2, 3)), torch.zeros(64), atol=1e-4)
    assert torch.allclose(first.std((0, 2, 3)), torch.ones(64), atol=1e-3)


def test_the_classifier_is_left_as_it_was():
    net = imagenet_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    body, _ = cut(net)
    next(body.parameters()).data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["A", "B", "none"])
@pytest.mark.parametrize(("size", "stride", "left"), [(14, 2, 7), (7, 1, 7), (7, 2, 4)])
def test_regions_of_7_pixels_are_halved_or_not(size, stride, left, shortcut):
    _, top = cut(imagenet_net(shortcut=shortcut), size, stride)
    assert isinstance(top, ResNetTop)
    with torch.no_grad():
        assert top.stage(noise(1, 256, size, size)).shape[2:] == (left, left)


def test_layers_of_the_body_can_be_left_untrained():
    body, _ = cut(imagenet_net())
    assert body.fixed("none") == []
    assert body.fixed("conv1") == ["conv1.weight"]
    stage = [f"stages.0.{block}.{conv}.weight" for block in (0, 1) for conv in ("conv1", "conv2")]
    assert body.fixed("conv2") == ["conv1.weight", *stage]


@pytest.fixture(scope="module")
def vgg():
    with torch.device("meta"):
        return torchvision.models.vgg16(num_classes=10)


def test_vgg_keeps_its_layers_and_loses_the_last_pooling(vgg):
    body, top = cut(vgg)
    maps = body(torch.empty(1, 3, 64, 96, device="meta"))
    assert maps.shape == (1, body.channels, 4, 6)
    assert top(torch.empty(5, 512, top.size, top.size, device="meta")).shape == (5, top.channels)
    first = [f"features.{n}.{kind}" for n in (0, 2, 5, 7) for kind in ("weight", "bias")]
    assert (body.fixed("none"), body.fixed("conv1"), body.fixed("conv2")) == ([], first[:4], first)


def test_vgg_computes_the_classifiers_feature():
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    # Layers of 4096 outputs would take most of the test's time.
    net.classifier = nn.Sequential(
        nn.Linear(25088, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(True), nn.Dropout()
    )
    net = net.to_empty(device="cpu").eval()
    for number, parameter in enumerate(net.parameters()):
        nn.init.normal_(parameter, std=0.03, generator=torch.Generator().manual_seed(number))
    body, top = cut(net)
    images = noise(1, 3, 32, 32)
    with torch.no_grad():
        maps = net.features[:-1](images)
        assert torch.equal(body(images), maps)
        pooled = noise(2, 512, 7, 7)
        assert torch.equal(top(pooled), net.classifier(pooled.flatten(1)))
        # In training, an image's regions drop the same values beside other images.
        one, other = ImageDraw(0, 3, "a"), ImageDraw(0, 3, "b")
        both = top(pooled, [(other, 1), (one, 1)])
        alone = top(pooled[1:], [(one, 1)])
    assert torch.allclose(both[1:], alone, atol=1e-5)
    assert 0.3 < (F.relu(both) == 0).float().mean() < 0.9
    assert not torch.equal(both, top(pooled))


def test_images_of_one_shape_are_computed_together_and_none_is_padded():
    shapes = []

    def double(images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape))
        return 2 * images

    images = [noise(3, 8, 8), noise(3, 8, 9), noise(3, 8, 8) + 1]
    results = by_shape(double, images)
    assert shapes == [(2, 3, 8, 8), (1, 3, 8, 9)]
    assert all(torch.equal(result, 2 * image[None]) for result, image in zip(results, images, strict=True))
