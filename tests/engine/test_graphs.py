"""A graph trains, resumes and evaluates with the bits of its kernels one by one.

On a CPU the recording is only pretended: what warms up is taken back, and a replay computes it again.
"""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.data.in_memory import MemoryImages
from repro.engine.branches import record_branches
from repro.engine.optim import load_optimizer
from repro.engine.step import GraphStep
from repro.evaluation.single_crop import Evaluator
from repro.runtime.cuda_graphs import WARMUP_CALLS, record_graph
from tests.training import WINDOW, Training

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

STEPS = {
    "fp32": "",
    "tf32": "optim.precision=tf32",
    "bf16": "optim.precision=bf16",
    "in groups": "model.bn_group_size=8",
    "recomputed": "execution.checkpoint_activations=true",
    "in pieces": "model.bn_group_size=8 execution.micro_batch=8",
    "all of it": "optim.precision=bf16 model.shortcut=B model.bn_group_size=4 execution.checkpoint_activations=true "
    "execution.micro_batch=8",
}


def pretend(function: Any, undo: Any = lambda: None) -> tuple[Any, Any]:
    """Stand in for ``record_graph`` on a CPU; a replay fills the result, as that of a real graph does."""
    for _ in range(WARMUP_CALLS):
        function()
    undo()
    result = function()
    undo()  # for recording computes nothing

    def replay() -> None:
        for place, value in zip(result or [], function() or [], strict=True):
            place.copy_(value)

    return SimpleNamespace(replay=replay), result


@pytest.fixture(autouse=True)
def recording(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("engine.step", "engine.branches", "evaluation.single_crop"):
        monkeypatch.setattr(f"repro.{module}.record_graph", pretend if device == "cpu" else record_graph)


def both(folder: Path, device: str, words: str) -> tuple[Training, Training]:
    """Return the same training twice, eager and as a graph."""
    given = ("model.depth=8", "execution.threads=1", *words.split())
    eager, graph = (Training(folder, device, "eager", *given) for _ in range(2))
    return eager, as_graph(graph)


def as_graph(training: Training) -> Training:
    precision, micro_batch = training.run.optim.precision, training.run.execution.micro_batch
    training.step = GraphStep(training.model, training.optimizer, training.stream, precision, WINDOW, micro_batch)
    return training


def assert_same_bits(found: Training, expected: Training) -> None:
    assert all(torch.equal(found.tensors()[name], tensor) for name, tensor in expected.tensors().items())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("words", STEPS.values(), ids=STEPS)
def test_a_graph_trains_the_bits_of_its_kernels_one_by_one(tmp_path: Path, device: str, words: str) -> None:
    eager, graph = both(tmp_path, device, words)
    assert graph.train(4) == eager.train(4)
    assert_same_bits(graph, eager)


@pytest.mark.parametrize("device", DEVICES)
def test_a_graph_takes_up_a_change_of_the_learning_rate(tmp_path: Path, device: str) -> None:
    eager, graph = both(tmp_path, device, "")
    for training in (eager, graph):
        training.train(5, lr=0.1)
    assert graph.train(5, lr=0.01) == eager.train(5, lr=0.01)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("words", [STEPS["tf32"], STEPS["all of it"]], ids=["tf32", "all of it"])
def test_a_graph_recorded_anew_continues_with_the_same_bits(tmp_path: Path, device: str, words: str) -> None:
    """As a run does that resumes: another net and optimizer, filled before the first step."""
    broken, whole = both(tmp_path, device, words)
    resumed = as_graph(both(tmp_path, device, words)[0])
    as_graph(broken).train(3)
    resumed.model.load_state_dict(copy.deepcopy(broken.model.state_dict()))
    load_optimizer(resumed.optimizer, copy.deepcopy(broken.optimizer.state_dict()))
    for step in range(3, 6):
        resumed.step.run(step)
    assert resumed.step.read() == whole.train(6)[3:]
    assert_same_bits(resumed, whole)


@pytest.mark.parametrize("device", DEVICES)
def test_branches_of_one_graph_each_train_their_own_bits(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu":
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr("torch.cuda.current_stream", lambda: stream)
        monkeypatch.setattr("torch.cuda.stream", contextlib.nullcontext)
    streams: list[Any] = [stream if device == "cpu" else torch.cuda.Stream() for _ in range(2)]
    pairs = [both(tmp_path, device, f"model.shortcut={shortcut}") for shortcut in "AB"]
    graphs = [graph for _, graph in pairs]
    expected = [eager.train(4) for eager, _ in pairs]
    found = [graph.train(1) for graph in graphs]
    record_branches([graph.step for graph in graphs if isinstance(graph.step, GraphStep)], streams)
    for step in range(1, 4):
        for graph in graphs:
            graph.step.run(step)
    assert [first + graph.step.read() for first, graph in zip(found, graphs, strict=True)] == expected
    for eager, graph in pairs:
        assert_same_bits(graph, eager)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("top5", [False, True])
@pytest.mark.parametrize("batch_size", [64, 24])
def test_evaluation_through_a_graph_counts_the_same(tmp_path: Path, device: str, batch_size: int, top5: bool) -> None:
    training = Training(tmp_path, device, "eager", "model.depth=8")
    images = MemoryImages(training.stream.images, training.stream.labels)
    arguments = (training.model, images, training.stream.stats, batch_size, "fp32")
    eager, graph = (Evaluator(*arguments, mode, top5) for mode in ("eager", "graph"))
    graph._wants_graph = True
    first = graph()
    assert first == eager()
    assert (first.top5_errors is not None) == top5
    training.train(5)
    again = graph()
    assert again == eager(), "the graph sees weights as they are now"
    assert again != first
