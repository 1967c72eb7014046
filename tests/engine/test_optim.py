"""Learning rates at the paper's steps, decay groups, forms of momentum."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repro.config.compose import plan
from repro.config.run import RunConfig
from repro.data.augment import generator_for
from repro.engine.optim import (
    build_optimizer,
    count_plateaus,
    first_warmup_end,
    load_optimizer,
    lr_at,
    set_lr,
    warmup_kind,
)
from repro.models import build_model


def run(*words: str) -> RunConfig:
    return plan(list(words)).runs[0]


PLATEAU = run("optim.schedule=plateau").optim


def rate(config: RunConfig, step: int) -> float:
    return lr_at(config.optim, step, first_warmup_end(config.optim, config.model))


@pytest.mark.parametrize(
    ("step", "lr"),
    [(0, 0.1), (399, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
)
def test_the_papers_schedule(step: int, lr: float) -> None:
    assert rate(run("model.depth=20"), step) == lr


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01), (48_000, 0.001)]
)
@pytest.mark.parametrize("depth", [110, 1202])
def test_deep_residual_nets_warm_up_within_the_schedule(depth: int, step: int, lr: float) -> None:
    assert rate(run(f"model.depth={depth}"), step) == lr


def test_plain_and_shallower_nets_do_not_warm_up_by_themselves() -> None:
    for words in (["model.depth=110", "model.shortcut=none"], ["model.depth=104"]):
        config = run(*words)
        assert warmup_kind(config.optim, config.model) == "none"
        assert rate(config, 0) == 0.1
    assert rate(run("model.depth=20", "optim.warmup=fixed"), 0) == 0.01


def test_until_80_warms_up_until_it_is_told() -> None:
    config = run("model.depth=110", "optim.warmup=until_80")
    assert first_warmup_end(config.optim, config.model) is None
    assert lr_at(config.optim, 5000, None) == 0.01
    assert lr_at(config.optim, 450, 450) == 0.1
    assert lr_at(config.optim, 449, 450) == 0.01


@pytest.mark.parametrize(("scope", "decayed"), [("weights", 20), ("convolutions", 19), ("all", 20 + 1 + 2 * 19)])
def test_weight_decay_falls_on_weights_only_unless_told(scope: str, decayed: int) -> None:
    config = run(f"optim.decay_scope={scope}")
    model = build_model(config.model, 10)
    groups = build_optimizer(model, config.optim).param_groups
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert sum(len(g["params"]) for g in groups if g["weight_decay"] == 1e-4) == decayed
    assert {g["weight_decay"] for g in groups} <= {0.0, 1e-4}


@pytest.mark.parametrize("form", ["torch", "caffe"])
def test_momentum_forms_written_out(form: str) -> None:
    """Compare v = m v + g, p -= lr v (torch) with v = m v + lr g, p -= v (caffe) over changes of the learning rate."""
    config = run("optim.decay_scope=all", f"optim.momentum_form={form}").optim
    model = nn.Linear(3, 2).double()
    nn.init.normal_(model.weight, generator=generator_for(0))
    optimizer = build_optimizer(model, config)
    weight, velocity = model.weight.detach().clone(), torch.zeros(2, 3, dtype=torch.float64)
    x = torch.randn(5, 3, generator=generator_for(1), dtype=torch.float64)
    for lr in (0.1, 0.1, 0.01, 0.01, 0.1, 0.001):
        set_lr(optimizer, lr, form)
        optimizer.zero_grad()
        model(x).pow(2).sum().backward()
        assert model.weight.grad is not None
        gradient = model.weight.grad + 1e-4 * weight
        velocity = 0.9 * velocity + (gradient if form == "torch" else lr * gradient)
        weight = weight - (lr * velocity if form == "torch" else velocity)
        optimizer.step()
        assert torch.allclose(model.weight, weight, atol=1e-12)


def test_the_momentum_of_another_layout_goes_on_as_it_was() -> None:
    """The checkpoint comes from a device with another layout, but the fused kernel reads both memories side by side."""
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    weights: list[torch.Tensor] = []
    states = [None, torch.contiguous_format, torch.channels_last]
    for layout in states:
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 2)).double()
        model.to(memory_format=torch.contiguous_format)
        optimizer = build_optimizer(model, run().optim)
        for step in range(4):
            if step == 2 and layout is not None:
                stored = optimizer.state_dict()
                model.to(memory_format=layout)
                optimizer = build_optimizer(model, run().optim)
                load_optimizer(optimizer, stored)
            optimizer.zero_grad()
            model(images.double()).pow(2).mean().backward()
            optimizer.step()
        weights.append(model.state_dict()["0.weight"].clone(memory_format=torch.contiguous_format))
    assert torch.allclose(weights[0], weights[1], atol=1e-12)
    assert torch.allclose(weights[0], weights[2], atol=1e-12)


def test_a_plateau_is_counted_once_and_only_where_nothing_was_better():
    plan = run("optim.schedule=plateau", "optim.plateau_evals=3").optim
    assert count_plateaus(plan, [50, 40, 30, 20]) == 0
    assert count_plateaus(plan, [50, 40, 40, 41]) == 0, "two evaluations without a better one are not three"
    assert count_plateaus(plan, [50, 40, 40, 41, 40]) == 1
    # After a drop the count starts again, and the previous best error is forgotten.
    assert count_plateaus(plan, [50, 40, 40, 41, 40, 45, 44, 46]) == 1
    assert count_plateaus(plan, [50, 40, 40, 41, 40, 45, 44, 46, 44, 47]) == 2
    assert count_plateaus(plan, [50] * 100) == 2, "no more than plateau_drops"


@given(errors=st.lists(st.floats(0, 100), max_size=40), patience=st.integers(1, 5))
def test_plateaus_never_become_fewer(errors, patience):
    plan = dataclasses.replace(PLATEAU, plateau_evals=patience)
    counts = [count_plateaus(plan, errors[:end]) for end in range(len(errors) + 1)]
    assert counts == sorted(counts) and all(after - before <= 1 for before, after in itertools.pairwise(counts))


def test_the_schedule_decides_what_divides_the_learning_rate():
    by_step, by_plateau = run().optim, PLATEAU
    assert lr_at(by_step, 33000, 0, plateaus=2) == 0.01
    assert lr_at(by_plateau, 33000, 0, plateaus=0) == 0.1 and lr_at(by_plateau, 5, 0, plateaus=2) == 0.001


@pytest.mark.parametrize("nesterov", ["true", "false"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_an_update_has_the_bits_of_torchs_own_and_copies_no_gradient(shortcut: str, nesterov: str) -> None:
    words = ("model.depth=8", "model.bn_group_size=4", "optim.batch_size=4", f"optim.nesterov={nesterov}")
    config = run(f"model.shortcut={shortcut}", *words)
    nets = []
    for _ in range(2):
        model = build_model(config.model, 10, generator_for(0, "init"))
        nets.append(model.to(memory_format=torch.channels_last))
    ours, theirs = (build_optimizer(net, config.optim) for net in nets)
    images = torch.randn(4, 3, 8, 8, generator=generator_for(0)).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            net(images).square().mean().backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            ours.step()
        torch.optim.SGD.step(theirs)
        assert "aten::contiguous" not in {event.key for event in seen.key_averages()}
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(ours.state[p]["momentum_buffer"], theirs.state[q]["momentum_buffer"])
