"""Constructed nets: a copied shallow net plus identity blocks, exact in evaluation and approximate in training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.config.parse import build
from repro.config.run import RunConfig
from repro.data import load
from repro.data.augment import generator_for
from repro.engine.identity_construction import (
    begin_constructed,
    compare,
    construct,
    kept_report,
    shallow_config,
    shallow_run,
    training_logits,
)
from repro.engine.optim import build_optimizer
from repro.engine.prepared import prepare
from repro.engine.step import EagerStep
from repro.errors import RunError
from repro.models import build_model
from repro.models.blocks import BasicBlock, BlockNet
from repro.results.record import Construction
from repro.runtime import checkpoint
from tests.ranks import on_ranks
from tests.runs import config

WORDS = ("model.constructed_from=8", "optim.batch_size=32", "data.train_images=320", "optim.lr=0.05")


class Toy:
    """A shallow net trained for some steps, and a deep net with its initial weights."""

    def __init__(self, folder: Path, *words: str, depth: int = 14, steps: int = 20) -> None:
        self.config: RunConfig = config(folder, f"model.depth={depth}", *WORDS, *words)
        self.net = prepare(self.config, load(self.config.data, self.config.paths.data, may_fetch=False))
        self.feed, self.deep = self.net.feed, self.net.model
        self.shallow = build_model(shallow_config(self.config).model, 10, generator_for(0, "init"))
        optimizer = build_optimizer(self.shallow, self.config.optim)
        execute = EagerStep(self.shallow, optimizer, self.feed, "fp32", steps + 1)
        for step in range(steps):
            execute.run(step)

    def batches(self, *steps: int) -> list[tuple[Tensor, Tensor]]:
        return [self.feed.augment(self.feed.load(step)) for step in steps]

    def construct(self) -> None:
        construct(self.deep, self.shallow, self.batches(0, 1, 2, 3), "fp32")

    def compare(self) -> dict[str, Any]:
        return compare(self.net, self.shallow, self.batches(4, 5))


def added(model: BlockNet, of: BlockNet) -> list[BasicBlock]:
    blocks = [
        block
        for stage, kept in zip(model.stages, of.stages, strict=True)
        for block in list(stage.children())[len(list(kept.children())) :]
    ]
    assert all(isinstance(block, BasicBlock) for block in blocks)
    return blocks  # type: ignore[return-value]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize("depth", [14, 32])
def test_the_deep_net_answers_as_the_shallow_one_does(tmp_path: Path, shortcut: str, depth: int) -> None:
    toy = Toy(tmp_path, f"model.shortcut={shortcut}", depth=depth)
    before = toy.compare()
    assert before["gap"] > 0.1 and before["changed"] > 0, "as initialized it does not"
    kept = state(toy.shallow)
    toy.construct()
    found = toy.compare()
    assert found["gap"] <= (0 if shortcut in ("A", "B") else 1e-4)
    assert found["changed"] == 0
    assert found["deep_errors"] == found["shallow_errors"]
    assert found["images"] == 128
    assert is_unchanged(toy.shallow, kept)


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_in_training_mode_it_answers_nearly_so(tmp_path: Path, shortcut: str) -> None:
    toy = Toy(tmp_path, f"model.shortcut={shortcut}")
    toy.construct()
    batches = toy.batches(4, 5, 6)
    deep, shallow = (torch.cat(training_logits(net, batches, "fp32")) for net in (toy.deep, toy.shallow))
    assert (deep - shallow).abs().mean() < 0.1 * shallow.std()
    found = toy.compare()
    assert found["deep_batch_error"] == pytest.approx(found["shallow_batch_error"], abs=10)
    seen = sum(len(labels) for _, labels in toy.batches(4, 5))
    assert (found["shallow_batch_error"] * seen / 100) == pytest.approx(
        round(found["shallow_batch_error"] * seen / 100)
    )


def test_the_size_of_the_added_layers_is_what_keeps_training_mode_near(tmp_path: Path) -> None:
    toy = Toy(tmp_path, "model.shortcut=none")
    toy.construct()
    batches = toy.batches(4, 5, 6)
    shallow = torch.cat(training_logits(toy.shallow, batches, "fp32"))
    near = (torch.cat(training_logits(toy.deep, batches, "fp32")) - shallow).abs().mean()
    for block in added(toy.deep, toy.shallow):
        for layer in (block.bn1, block.bn2):
            assert isinstance(layer, nn.BatchNorm2d)
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    assert (torch.cat(training_logits(toy.deep, batches, "fp32")) - shallow).abs().mean() > 10 * near


def test_a_channel_that_never_answers_stays_silent(tmp_path: Path) -> None:
    toy = Toy(tmp_path, "model.shortcut=none")
    for stage in toy.shallow.stages:
        norm = list(stage.children())[-1].bn2
        with torch.no_grad():
            norm.weight[:3] = 0  # type: ignore[operator, union-attr]
            norm.bias[:3] = torch.tensor([-1.0, 0.0, 1.0])  # type: ignore[operator, union-attr]
    toy.construct()
    for block in added(toy.deep, toy.shallow):
        assert isinstance(block.bn1, nn.BatchNorm2d) and block.bn1.running_var is not None
        assert block.bn1.running_var[:3].tolist() == [0, 0, 0]
        assert block.bn1.running_mean is not None and block.bn1.running_mean[:3].tolist() == [0, 0, 1]
    found = toy.compare()
    assert found["gap"] < 1e-4
    batches = toy.batches(4)
    deep, shallow = (training_logits(net, batches, "fp32")[0] for net in (toy.deep, toy.shallow))
    assert torch.isfinite(deep).all()
    assert (deep - shallow).abs().mean() < 0.1 * shallow.std()


@pytest.mark.parametrize("shortcut", ["none", "A"])
def test_the_added_layers_can_be_trained(tmp_path: Path, shortcut: str) -> None:
    toy = Toy(tmp_path, f"model.shortcut={shortcut}", steps=100)
    toy.construct()
    before = state(toy.deep)
    execute = EagerStep(toy.deep, build_optimizer(toy.deep, toy.config.optim), toy.feed, "fp32", 10)
    for step in range(3):
        execute.run(step)
    losses = [result.loss for result in execute.read()]
    assert all(loss < 2.1 for loss in losses), "it goes on from what the shallow net has learned: chance is 2.3"
    changed = {name for name, value in toy.deep.state_dict().items() if not torch.equal(value, before[name])}
    assert {"stages.0.1.conv1.weight", "stages.2.1.conv2.weight", "stages.1.1.bn2.weight"} <= changed


def test_comparing_changes_neither_net(tmp_path: Path) -> None:
    toy = Toy(tmp_path, steps=2)
    toy.deep.train()
    before = state(toy.deep), state(toy.shallow)
    assert toy.compare() == toy.compare()
    assert is_unchanged(toy.deep, before[0]) and is_unchanged(toy.shallow, before[1])
    assert toy.deep.training


def test_a_net_of_another_family_is_refused(tmp_path: Path) -> None:
    toy, other = Toy(tmp_path, steps=0), Toy(tmp_path, "model.shortcut=B", steps=0)
    with pytest.raises(ValueError, match="another family"):
        construct(toy.deep, other.shallow, toy.batches(0), "fp32")


def test_the_shallow_run_is_the_same_science_but_for_its_depth(tmp_path: Path) -> None:
    deep = config(tmp_path, "model.depth=14", *WORDS)
    shallow = shallow_config(deep)
    assert shallow.run_id == config(tmp_path, "model.depth=8", *WORDS[1:]).run_id
    assert shallow.work_dir.parent.parent == deep.work_dir
    shallow.validate()


def leave_shallow(toy: Toy, run: RunConfig, *, fingerprint: str | None = None) -> None:
    """Write the files that a finished run of the toy's shallow net leaves in its folder."""
    run.work_dir.mkdir(parents=True)
    checkpoint.save(run.work_dir / checkpoint.FINAL, {"model": toy.shallow.state_dict()})
    record = {"fingerprint": fingerprint or run.fingerprint}
    (run.work_dir / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_run_begins_from_the_shallow_run_that_it_trains(tmp_path: Path) -> None:
    toy = Toy(tmp_path, "model.shortcut=none")
    asked: list[RunConfig] = []

    def train(run: RunConfig) -> object:
        asked.append(run)
        leave_shallow(toy, run)
        return {}

    toy.config.work_dir.mkdir(parents=True)
    report = begin_constructed(toy.net, train)
    assert report is not None
    assert [run.model.depth for run in asked] == [8]
    assert report["from_run"] == asked[0].run_id
    assert report["changed"] == 0
    known = {field.name for field in dataclasses.fields(Construction)}
    build(Construction, {name: value for name, value in report.items() if name in known})
    assert kept_report(toy.config) == report | {"from_dirty": None}, "its record says nothing of its tree"
    again = begin_constructed(toy.net, lambda run: pytest.fail("trained twice"))
    assert again == report


def test_a_finished_shallow_run_of_the_same_science_is_used(tmp_path: Path) -> None:
    toy = Toy(tmp_path, steps=0)
    elsewhere = dataclasses.replace(shallow_config(toy.config), paths=toy.config.paths)
    leave_shallow(toy, elsewhere)
    assert shallow_run(toy.config, lambda run: pytest.fail("trained")) == elsewhere.work_dir
    (elsewhere.work_dir / checkpoint.FINAL).unlink()
    assert shallow_run(toy.config, lambda run: {}) == shallow_config(toy.config).work_dir


def test_a_folder_of_another_science_is_not(tmp_path: Path) -> None:
    toy = Toy(tmp_path, steps=0)
    leave_shallow(toy, dataclasses.replace(shallow_config(toy.config), paths=toy.config.paths), fingerprint="0" * 16)
    assert shallow_run(toy.config, lambda run: None) is None, "it was asked for, and asked to stop"


def test_a_shallow_net_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    toy = Toy(tmp_path, steps=0)
    shallow = shallow_config(toy.config)
    leave_shallow(toy, shallow)
    final = shallow.work_dir / checkpoint.FINAL
    final.write_bytes(final.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"final\.pt cannot be read"):
        begin_constructed(toy.net, lambda run: pytest.fail("trained"))


def begin_on_this_rank(folder: str) -> tuple[dict[str, Any] | None, float]:
    toy = Toy(Path(folder), "model.shortcut=none", steps=0)
    report = begin_constructed(toy.net, lambda run: None)
    return report, float(sum(value.double().sum() for value in toy.deep.state_dict().values()))


def test_two_ranks_begin_alike(tmp_path: Path) -> None:
    toy = Toy(tmp_path, "model.shortcut=none")
    leave_shallow(toy, dataclasses.replace(shallow_config(toy.config), paths=toy.config.paths))
    toy.config.work_dir.mkdir(parents=True)
    alone, sums = begin_on_this_rank(str(tmp_path))
    assert alone is not None
    results = on_ranks(2, begin_on_this_rank, str(tmp_path))
    assert results[0] == results[1]
    report, sums_on_two = results[0]
    assert report is not None
    assert report["deep_errors"] == alone["deep_errors"] and report["images"] == alone["images"]
    assert report["deep_batch_error"] == pytest.approx(alone["deep_batch_error"], abs=3)
    assert sums_on_two == pytest.approx(sums, rel=1e-4)
