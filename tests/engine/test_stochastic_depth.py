"""Stochastic depth: what survives, what a dropped block costs and keeps, on any number of ranks, through a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from repro.config.run import RunConfig
from repro.data.augment import generator_for
from repro.engine.step import EagerStep, step_mode
from repro.errors import InputError
from repro.launch.plan import check
from repro.models import build_model
from repro.models.chance import Draw, survival_probabilities, surviving
from tests.engine.test_run import go
from tests.nets import net_config, trained_net
from tests.ranks import on_ranks
from tests.runs import StopAfter, config, same_weights
from tests.runtime.test_dist import Training, assert_close, small

WORDS = ("model.survival=uniform", "model.survival_last=0.6", "model.bn_group_size=4")
RANDOM = (*WORDS, "model.shortcut_dropout=0.25")


def test_survival_falls_linearly_from_the_input_to_the_last_block() -> None:
    linear = survival_probabilities(net_config(survival="linear", survival_last=0.5), 54)
    assert linear[-1] == pytest.approx(0.5) and linear[0] == pytest.approx(1 - 0.5 / 54)
    assert linear[26] == pytest.approx(0.75)
    assert sum(linear) == pytest.approx(40.25), "of 54 blocks, the paper's three quarters"
    assert survival_probabilities(net_config(survival="uniform", survival_last=0.8), 3) == [0.8] * 3
    assert survival_probabilities(net_config(), 54) == []


def test_blocks_survive_as_often_as_they_should_by_seed_and_step_alone() -> None:
    probabilities = [0.9, 0.5, 0.1]
    draws = [surviving(probabilities, Draw(seed=0, step=step)) for step in range(400)]
    assert [sum(d[i] for d in draws) / 400 for i in range(3)] == pytest.approx(probabilities, abs=0.08)
    assert draws[7] == surviving(probabilities, Draw(seed=0, step=7, first=3, batch_size=8))
    assert draws != [surviving(probabilities, Draw(seed=1, step=step)) for step in range(400)]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "cifar_resnet"},
        {"name": "cifar_resnet", "gate": "exclusive"},
        {"name": "preact_resnet", "order": "full"},
        {"name": "preact_resnet", "order": "relu_before_addition"},
        {"name": "wide_resnet", "depth": 10, "shortcut": "B", "width": 2.0},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_a_dropped_block_passes_its_shortcut_on_and_computes_nothing_else(changes: Any) -> None:
    config = {"depth": 14, "shortcut": "A", "survival": "linear", **changes}
    model: Any = trained_net(**config)
    images, computed = torch.randn(4, 3, 16, 16), []
    for number, block in enumerate(model.blocks()):
        layer = block.convs[-1] if hasattr(block, "convs") else block.conv2
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    survived: set[int] = set()
    for step in range(6):
        with model.drawing(Draw(seed=0, step=step)):
            computed.clear()
            model(images).sum().backward()
        kept = surviving(model.survival, Draw(seed=0, step=step))
        assert computed == [number for number, survives in enumerate(kept) if survives]
        survived |= set(computed)
    assert survived == set(range(len(model.survival)))
    computed.clear()
    model(images)
    assert len(computed) == len(kept), "outside of a step all blocks are computed"


def test_in_testing_a_residual_function_counts_by_its_survival_probability() -> None:
    model: Any = trained_net(14, survival="linear", survival_last=0.4).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        x = F.relu(model.bn1(model.conv1(images)))
        for block, survival in zip(model.blocks(), (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True):
            x = F.relu(block.shortcut(x) + survival * block.residual(x))
        torch.testing.assert_close(model.features(images), x)


def test_a_dropped_block_drifts_on_and_keeps_its_statistics(tmp_path: Path) -> None:
    """Deviation D34: a gradient of zero, so that momentum moves its weights and weight decay shrinks them."""
    of = small(tmp_path, *WORDS, "optim.weight_decay=0.1")
    training = Training(of, torch.float64)
    draws = [surviving(training.model.survival, Draw(0, step)) for step in range(20)]
    step = next(s for s in range(1, 20) if draws[s - 1][0] and not draws[s][0])
    for number in range(step):
        training.step.run(number)
    block: Any = next(training.model.blocks())
    weight, statistics = block.conv1.weight, block.bn1.running_mean.clone()
    before, momentum = weight.detach().clone(), training.optimizer.state[weight]["momentum_buffer"].clone()
    training.step.run(step)
    torch.testing.assert_close(weight.detach(), before - 0.1 * (0.9 * momentum + 0.1 * before))
    assert torch.equal(block.bn1.running_mean, statistics)


def test_auto_is_eager_and_a_graph_is_refused(tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    assert step_mode(config(tmp_path), cuda) == "graph"
    for words in (["model.survival=linear"], ["model.shortcut_dropout=0.5"]):
        assert step_mode(config(tmp_path, *words), cuda) == "eager"
        for mode in ("graph", "compile"):
            refused = config(tmp_path, *words, f"execution.step={mode}")
            with pytest.raises(InputError, match=f"execution.step={mode}"):
                step_mode(refused, cuda)
            with pytest.raises(InputError, match=f"execution.step={mode}"):
                check([refused])


def training_of(of: RunConfig) -> dict[str, Any]:
    training = Training(of, torch.float64)
    steps = training.train(6)
    return {"losses": [s.loss for s in steps], "tensors": training.tensors(), "loss": training.evaluate().loss}


@pytest.mark.parametrize(
    "words", [(*RANDOM, "model.depth=14"), ("model=highway", "model.depth=11", "model.bn_group_size=4")]
)
def test_four_ranks_drop_the_same_and_agree_with_one_to_1e_9(tmp_path: Path, words: tuple[str, ...]) -> None:
    of = small(tmp_path, *words)
    (one,) = on_ranks(1, training_of, of)
    first, *others = on_ranks(4, training_of, of)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert first["loss"] == pytest.approx(one["loss"], rel=1e-9)
    assert_close(first["tensors"], one["tensors"], 1e-9)
    for other in others:
        assert all(torch.equal(other["tensors"][name], tensor) for name, tensor in first["tensors"].items())


DROPPING = [
    RANDOM,
    ("model=densenet", "model.depth=10", "model.dropout=0.2", "model.bn_group_size=4"),
    ("model=highway", "model.depth=11", "model.bn_group_size=4"),
    ("model.activation=maxout", "model.dropout=0.3", "model.bn_group_size=4"),
]


@pytest.mark.parametrize("words", DROPPING, ids=lambda words: words[0])
def test_pieces_of_a_batch_drop_the_same(tmp_path: Path, words: tuple[str, ...]) -> None:
    whole = training_of(small(tmp_path, *words))
    pieces = training_of(small(tmp_path, *words, "execution.micro_batch=4"))
    assert pieces["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    assert_close(pieces["tensors"], whole["tensors"], 1e-9)


@pytest.mark.parametrize("words", DROPPING, ids=lambda words: words[0])
def test_recomputed_activations_drop_the_same(tmp_path: Path, words: tuple[str, ...]) -> None:
    kept = training_of(small(tmp_path, *words))
    again = training_of(small(tmp_path, *words, "execution.checkpoint_activations=true"))
    assert all(torch.equal(again["tensors"][name], tensor) for name, tensor in kept["tensors"].items())


@pytest.mark.parametrize(
    "words",
    [
        RANDOM,
        ("model=wide_resnet", "model.depth=10", "model.width=1", "model.dropout=0.3"),
        ("model=densenet", "model.depth=10", "model.dropout=0.2", "data.pad=0", "data.flip=false"),
        ("model=highway", "model.depth=11"),
        ("model.activation=maxout", "model.dropout=0.3"),
    ],
    ids=lambda words: words[0],
)
def test_a_run_that_is_stopped_after_every_step_ends_with_the_same_bits(tmp_path: Path, words: tuple[str, ...]) -> None:
    words = words if any(word.startswith("model.depth=") for word in words) else ("model.depth=8", *words)
    whole, broken = config(tmp_path / "whole", *words), config(tmp_path / "broken", *words)
    assert go(whole) is not None
    pieces = 1
    while go(broken, StopAfter(0)) is None:
        pieces += 1
    assert pieces > 3
    assert same_weights(whole, broken)
    undropped = config(tmp_path / "undropped", "model.depth=8")
    assert go(undropped) is not None


def test_the_seed_of_the_run_decides_what_is_dropped(tmp_path: Path) -> None:
    from repro.engine.prepared import prepare
    from tests.engine.test_run import dataset

    of = config(tmp_path, "seed=5", "model.depth=8", *WORDS)
    net = prepare(of, dataset(of))
    assert net.model.seed == 5
    step = EagerStep(net.model, net.optimizer, net.feed, "fp32", 1)
    step.run(3)
    other = build_model(of.model, 10, generator_for(5, "init"))
    with other.drawing(Draw(5, 3)):
        kept = other.factors()
    left_out = [not any(p.grad.any() for p in b.parameters() if p.grad is not None) for b in net.model.blocks()]
    assert left_out == [factor == 0 for factor in kept] and any(left_out)
