"""Highway nets: sizes, layers, gates, dropout and responses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repro.data.augment import PixelStats, generator_for
from repro.data.in_memory import MemoryImages
from repro.evaluation.layer_statistics import layer_responses
from repro.models import build_model
from repro.models.chance import Draw, Dropout
from repro.models.count import measure
from repro.models.joins import Gate
from tests.nets import net_config

HIGHWAY = {"name": "highway", "shortcut": "A", "gate": "exclusive", "gate_bias": -2.0}


def highway(depth: int = 11, **changes: Any) -> Any:
    return build_model(net_config(**{**HIGHWAY, "depth": depth, **changes}), 10, generator_for(0, "init"))


@pytest.mark.parametrize(
    ("depth", "params", "macs"), [(11, 236_328, 32_139_716), (19, 2_256_838, 330_826_728), (32, 1_264_502, 230_089_704)]
)
def test_sizes_beside_table_2(depth: int, params: int, macs: int) -> None:
    """Deviation D42: the paper prints 236K, 2.3M and 1.25M."""
    size = measure(net_config(**HIGHWAY, depth=depth), 32, 10)
    assert (size.params, size.macs) == (params, macs)


@pytest.mark.parametrize("depth", [11, 19, 32])
def test_layers_are_counted_without_their_gates(depth: int) -> None:
    layers = [m for m in highway(depth).modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and not isinstance(m, Gate)]
    assert len(layers) == depth
    assert not [m for m in highway(depth).modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("gate", ["exclusive", "shortcut_only"])
def test_a_layer_weighs_itself_and_its_input(gate: str) -> None:
    model = highway(gate=gate)
    layer = model.stages[0][1]
    x = torch.randn(4, 16, 8, 8, generator=generator_for(1, "x"))
    t = torch.sigmoid(F.conv2d(x, layer.join.gate.weight, layer.join.gate.bias, padding=1))
    h = F.relu(F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1))
    torch.testing.assert_close(layer(x), (t * h if gate == "exclusive" else h) + (1 - t) * x)


def test_a_stage_begins_with_a_plain_layer_after_pooling() -> None:
    model = highway()
    x = torch.randn(4, 16, 8, 8, generator=generator_for(1, "x"))
    entry = model.stages[1][0].entry
    expected = F.relu(F.conv2d(F.max_pool2d(x, 2), entry.conv.weight, entry.conv.bias, padding=1))
    torch.testing.assert_close(entry(x), expected)
    assert model.stages[0][0].entry(torch.randn(2, 3, 8, 8)).shape == (2, 16, 8, 8)
    assert model(torch.randn(4, 3, 16, 16)).shape == (4, 10)


def test_kernels_of_the_net_of_32_layers_alternate() -> None:
    model = highway(32)
    for stage in model.stages:
        sizes = [stage[0].entry.conv.kernel_size[0], *(layer.conv.kernel_size[0] for layer in stage)]
        assert sizes == [3, 1] * 5
        assert [layer.join.gate.kernel_size for layer in stage] == [layer.conv.kernel_size for layer in stage]


def test_gates_begin_with_their_bias_and_other_layers_with_zero() -> None:
    model = highway(gate_bias=-3.0)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    biases = {kind: set[float]() for kind in (True, False)}
    for conv in convs:
        assert conv.bias is not None
        biases[isinstance(conv, Gate)] |= set(conv.bias.tolist())
    assert biases == {True: {-3.0}, False: {0.0}}


def test_dropout_precedes_each_stage_and_the_last_layer() -> None:
    model = highway(dropout=0.2)
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, Dropout) and module.probability:
            module.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[1:])))
    images = torch.randn(4, 3, 16, 16)
    with model.drawing(Draw(seed=0, step=0)):
        one = model(images)
    assert seen == [(3, 16, 16), (16, 8, 8), (32, 4, 4), (250,)]
    assert not torch.equal(one, model(images))


def test_responses_are_those_of_the_layers_without_batch_norm() -> None:
    model = highway()
    pixels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator_for(1, "x"))
    images = MemoryImages(pixels, torch.zeros(4, dtype=torch.int64))
    found = layer_responses(model, images, PixelStats(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)), 4, "fp32")
    assert [row["layer"] for row in found][:4] == [
        "stages.0.0.entry.conv",
        "stages.0.0.conv",
        "stages.0.1.conv",
        "stages.1.0.entry.conv",
    ]
    first = model.stages[0][0].entry.conv(pixels.float() / 255)
    assert found[0]["std"] == pytest.approx(first.double().std(correction=0).item(), rel=1e-5)
    assert len(found) == 9
