"""Signals and gradients of a batch, compared with a written-out step; measuring changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from repro.data import load
from repro.data.augment import generator_for
from repro.data.batches import train_feed
from repro.engine.hooks import RankHooks
from repro.engine.optim import build_optimizer
from repro.engine.prepared import prepare
from repro.engine.step import EagerStep
from repro.evaluation.layer_statistics import measure_flow
from repro.models import build_model
from repro.models.blocks import BlockNet, GroupBatchNorm2d
from repro.models.forward import forward
from repro.runtime.stop import Stopper
from tests.nets import net_config, trained_net
from tests.ranks import on_ranks
from tests.runs import config


def batch(size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(0, 10, (size,), generator=generator)


def test_gradients_and_deviations_are_those_of_a_step() -> None:
    model = trained_net(8, "none")
    found = {entry["layer"]: entry for entry in measure_flow(model, *batch(4), "fp32")}
    images, labels = batch(4)
    model.train()
    F.cross_entropy(model(images), labels).backward()
    layers: dict[str, Any] = dict(model.named_modules())
    assert len(found) == 7
    for name, entry in found.items():
        assert entry["gradient_norm"] == pytest.approx(layers[str(name)].weight.grad.norm().item(), rel=1e-5)
    first = layers["bn1"](layers["conv1"](images))
    assert found["conv1"]["forward_std"] == pytest.approx(first.double().std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("shortcut", ["none", "A"])
@pytest.mark.parametrize("recompute", [True, False])
def test_the_signal_that_comes_back_is_by_the_value_that_is_written_over(shortcut: str, recompute: bool) -> None:
    model = trained_net(8, shortcut)
    model.recompute = recompute
    found = {entry["layer"]: entry["activation_gradient_norm"] for entry in measure_flow(model, *batch(4), "fp32")}
    kept: dict[str, Tensor] = {}
    model = trained_net(8, shortcut)

    def keep_of(layer: str) -> Any:
        def keep(_: object, __: object, output: Tensor) -> Tensor:
            output.retain_grad()
            kept[layer] = output
            return output.clone()  # these are overwritten

        return keep

    for name, layer in model.named_modules():
        if isinstance(layer, GroupBatchNorm2d) and "shortcut" not in name:
            layer.register_forward_hook(keep_of(name.replace("bn", "conv")))
    images, labels = batch(4)
    F.cross_entropy(model.train()(images), labels).backward()
    assert found.keys() == kept.keys()
    for name, output in kept.items():
        assert output.grad is not None
        assert found[name] == pytest.approx(output.grad.norm().item(), rel=1e-5)


def test_a_run_measures_the_loss_that_it_trains(tmp_path: Path) -> None:
    found = {}
    for smoothing in (0.0, 0.1):
        of = config(tmp_path, "model.depth=8", "eval.gradient_flow=true", f"optim.label_smoothing={smoothing}")
        net = prepare(of, load(of.data, of.paths.data, may_fetch=False))
        RankHooks(net, Stopper(None)).begin()
        found[smoothing] = [layer["activation_gradient_norm"] for layer in net.state.flow[0]["layers"]]
    kept: list[Tensor] = []

    def keep(_: object, __: object, output: Tensor) -> Tensor:
        output.retain_grad()
        kept.append(output)
        return output.clone()

    net.model.train().get_submodule("bn1").register_forward_hook(keep)
    images, labels = net.feed.batch(0)
    F.cross_entropy(forward(net.model, images, "fp32"), labels, label_smoothing=0.1).backward()
    assert kept[0].grad is not None
    assert found[0.1][0] == pytest.approx(kept[0].grad.norm().item(), rel=1e-5)
    assert found[0.1][0] != pytest.approx(found[0.0][0], rel=1e-5)


def test_larger_weights_have_smaller_gradients_for_the_same_signal() -> None:
    small, large = trained_net(8, "none"), trained_net(8, "none")
    with torch.no_grad():
        for layer in large.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight *= 10
    for ours, theirs in zip(*(measure_flow(model, *batch(4), "fp32") for model in (large, small)), strict=True):
        assert ours["activation_gradient_norm"] == pytest.approx(theirs["activation_gradient_norm"], rel=1e-2)
        assert ours["gradient_norm"] == pytest.approx(float(theirs["gradient_norm"]) / 10, rel=1e-2)


def test_the_sum_of_a_residual_block_is_not_its_layer() -> None:
    """Batch norm with scale 1 and shift 0 gives a deviation of 1 in training mode; the addition gives another."""
    model = build_model(net_config(depth=14, bn_group_size=16), 10, generator_for(0, "init"))
    entries = measure_flow(model, *batch(), "fp32")
    assert [entry["forward_std"] for entry in entries] == pytest.approx([1.0] * len(entries), rel=1e-3)


class Training:
    """A few steps with momentum, with or without measurements in between."""

    def __init__(self, folder: Path, *words: str) -> None:
        run = config(folder, *words)
        dataset = load(run.data, run.paths.data, may_fetch=False)
        self.model: BlockNet = build_model(run.model, 10, generator_for(0, "init"))
        self.model.recompute = run.execution.checkpoint_activations
        self.optimizer = build_optimizer(self.model, run.optim)
        self.stream = train_feed(dataset, run, torch.device("cpu"))
        self.step = EagerStep(self.model, self.optimizer, self.stream, "fp32", 10)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.stream.augment(self.stream.load(step))

    def train(self, *, measured: bool) -> list[Any]:
        for step in range(4):
            if measured:
                measure_flow(self.model, *self.batch(step), "fp32")
            self.step.run(step)
        return self.step.read()

    def state(self) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "weights": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "gradients": {name: p.grad for name, p in self.model.named_parameters()},
                "modes": [m.training for m in self.model.modules()],
                "hooks": [len(m._forward_hooks) for m in self.model.modules()],
                "counting": [m.updates_statistics for m in self.model.modules() if isinstance(m, GroupBatchNorm2d)],
            }
        )


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert_equal(mine, theirs)
    else:
        assert found == expected


WAYS = [(), ("model.bn_group_size=4", "model.shortcut=B"), ("execution.checkpoint_activations=true",)]


@pytest.mark.parametrize("words", WAYS)
def test_measuring_changes_no_bit_of_anything(tmp_path: Path, words: tuple[str, ...]) -> None:
    training = Training(tmp_path, "model.depth=8", *words)
    training.train(measured=False)
    before = training.state()
    assert any(gradient is not None for gradient in before["gradients"].values())
    measure_flow(training.model, *training.batch(4), "fp32")
    assert_equal(training.state(), before)


@pytest.mark.parametrize("words", WAYS)
def test_training_is_the_same_with_and_without_measuring(tmp_path: Path, words: tuple[str, ...]) -> None:
    without, measured = (Training(tmp_path, "model.depth=8", *words) for _ in range(2))
    assert measured.train(measured=True) == without.train(measured=False)
    assert_equal(measured.state(), without.state())


def test_recomputed_activations_give_the_same_figures(tmp_path: Path) -> None:
    kept = Training(tmp_path, "model.depth=8")
    again = Training(tmp_path, "model.depth=8", "execution.checkpoint_activations=true")
    assert measure_flow(again.model, *again.batch(0), "fp32") == measure_flow(kept.model, *kept.batch(0), "fp32")


def flow_on_this_rank(num_ranks: int, group_size: int) -> list[dict[str, str | float]]:
    from repro.runtime import distributed

    model = trained_net(8)
    for layer in model.modules():
        if isinstance(layer, GroupBatchNorm2d):
            layer.group_size = group_size
    images, labels = batch(16)
    part = 16 // num_ranks
    here = slice(distributed.rank() * part, (distributed.rank() + 1) * part)
    return measure_flow(model, images[here], labels[here], "fp32")


@pytest.mark.parametrize("group_size", [4, 16])
def test_two_ranks_measure_the_whole_batch(group_size: int) -> None:
    alone = flow_on_this_rank(1, group_size)
    for found in on_ranks(2, flow_on_this_rank, 2, group_size):
        for mine, theirs in zip(found, alone, strict=True):
            assert mine["layer"] == theirs["layer"]
            assert mine["forward_std"] == pytest.approx(theirs["forward_std"], rel=1e-5)
            assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-3)
            assert mine["activation_gradient_norm"] == pytest.approx(theirs["activation_gradient_norm"], rel=1e-3)
