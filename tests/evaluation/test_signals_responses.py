"""Layer responses compared with a written-out loop, and moments added up part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repro.data.augment import PixelStats, normalize
from repro.data.in_memory import MemoryImages
from repro.evaluation.layer_statistics import Moments, layer_responses, moments, var_mean
from repro.models.blocks import BasicBlock, BlockNet
from tests.nets import trained_net
from tests.ranks import on_ranks

STATS = PixelStats(torch.full((3, 1, 1), 0.4), torch.ones(3, 1, 1))


def some_images(count: int = 23, size: int = 8) -> MemoryImages:
    pixels = torch.randint(
        0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    return MemoryImages(pixels, torch.zeros(count, dtype=torch.int64))


def all_pixels(images: MemoryImages) -> Tensor:
    return torch.cat([batch for batch, _ in images.batches(1000)])


def written_out(model: BlockNet, images: Tensor) -> Iterator[tuple[str, float]]:
    """Compute a CIFAR net's forward pass in evaluation mode, written out."""
    model.eval()
    layers = dict(model.named_modules())
    y = layers["bn1"](layers["conv1"](normalize(images, STATS)))
    yield "conv1", y.double().std(correction=0).item()
    x = F.relu(y)
    for name, block in layers.items():
        if not isinstance(block, BasicBlock):
            continue
        y = block.bn1(block.conv1(x))
        yield f"{name}.conv1", y.double().std(correction=0).item()
        y = block.bn2(block.conv2(F.relu(y)))
        yield f"{name}.conv2", y.double().std(correction=0).item()
        x = F.relu(y if block.shortcut is None else y + block.shortcut(x))


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize("batch_size", [5, 23])
def test_responses_are_those_of_the_forward_pass_written_out(shortcut: str, batch_size: int) -> None:
    model, images = trained_net(14, shortcut), some_images()
    found = layer_responses(model, images, STATS, batch_size, "fp32")
    with torch.no_grad():
        expected = list(written_out(model, all_pixels(images)))
    assert len(found) == 13, "6n+1 layers"
    assert [entry["layer"] for entry in found] == [name for name, _ in expected]
    assert [entry["std"] for entry in found] == pytest.approx([std for _, std in expected], rel=1e-5)


@pytest.mark.parametrize(("depth", "shortcut", "count"), [(18, "A", 16), (50, "B", 16)])
def test_of_an_imagenet_net_the_3x3_layers_respond(depth: int, shortcut: str, count: int) -> None:
    found = layer_responses(trained_net(depth, shortcut, "imagenet_resnet"), some_images(2, 32), STATS, 2, "fp32")
    kind = ("conv1", "conv2") if depth < 50 else ("conv2",)
    assert len(found) == count
    assert all(str(entry["layer"]).startswith("stages.") and str(entry["layer"]).endswith(kind) for entry in found)


@pytest.mark.parametrize("training", [True, False])
def test_the_net_is_left_as_it_was(training: bool) -> None:
    model = trained_net(8).train(training)
    model.stages[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_responses(model, some_images(), STATS, 8, "fp32")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_error_on_the_way_leaves_no_hooks_behind() -> None:
    model = trained_net(8)
    wrong = MemoryImages(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RuntimeError):
        layer_responses(model, wrong, PixelStats(torch.zeros(1), torch.ones(1)), 2, "fp32")
    assert not any(module._forward_hooks for module in model.modules())


def test_compiled_blocks_respond_alike_and_stay_compiled() -> None:
    images = some_images()
    expected = layer_responses(trained_net(8), images, STATS, 23, "fp32")
    model, compiled = trained_net(8), []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    for block in model.blocks():
        block.compile(dynamic=False, backend=backend)
    pixels = normalize(all_pixels(images), STATS)
    with torch.no_grad():
        model.eval()(pixels)
        count = len(compiled)
        assert layer_responses(model, images, STATS, 23, "fp32") == expected
        model(pixels)
    assert len(compiled) == count > 0, "nothing was compiled anew"


def responses_on_this_rank(count: int) -> list[dict[str, str | float | None]]:
    return layer_responses(trained_net(8), some_images(count), STATS, 4, "fp32")


@pytest.mark.parametrize("count", [23, 1])
def test_two_ranks_know_what_one_knows(count: int) -> None:
    alone = responses_on_this_rank(count)
    for found in on_ranks(2, responses_on_this_rank, count):
        assert [entry["layer"] for entry in found] == [entry["layer"] for entry in alone]
        assert [entry["std"] for entry in found] == pytest.approx([entry["std"] for entry in alone], rel=1e-6)


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=20), min_size=1, max_size=6).filter(any),
    st.sampled_from([0.0, 1.0, 1e6]),
)
def test_moments_of_parts_add_up_to_those_of_the_whole(parts: list[list[float]], offset: float) -> None:
    zero = torch.zeros((), dtype=torch.float64)
    total = Moments(0, zero, zero)
    for part in parts:
        values = torch.tensor(part, dtype=torch.float64) + offset
        total += moments(var_mean(values, (0,)), len(part)) if part else Moments(0, zero, zero)
    whole = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts]) + offset
    assert total.count == len(whole)
    assert float(total.mean) == pytest.approx(whole.mean(), rel=1e-12, abs=1e-9)
    assert float(total.std) == pytest.approx(whole.std(), rel=1e-6, abs=1e-6)


def test_a_large_mean_does_not_drown_the_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.randn(50_000, generator=generator) + 1000).float() for _ in range(10)]
    total = sum(
        (moments(var_mean(p, (0,)), len(p)) for p in parts[1:]), moments(var_mean(parts[0], (0,)), len(parts[0]))
    )
    whole = torch.cat(parts).double()
    assert float(total.std) == pytest.approx(whole.std(correction=0).item(), rel=1e-6)
    squares = sum(float((p * p).sum()) for p in parts) / len(whole) - float(total.mean) ** 2
    assert not math.isclose(math.sqrt(max(squares, 0)), float(total.std), rel_tol=1e-4), "the short way does drown it"
