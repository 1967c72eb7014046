"""Eager, compiled and recorded steps train equally: to the bit, or up to float64 or float32 rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from repro.engine.step import EagerStep, pick_step, step_mode, step_modes
from repro.errors import InputError
from repro.models.blocks import GroupBatchNorm2d
from repro.models.count import activation_bytes
from tests.runs import config, photo_config
from tests.training import Training, assert_close, losses

OTHER_MODES = [
    pytest.param("cpu", "compile", marks=pytest.mark.slow),
    pytest.param("cuda", "graph", marks=pytest.mark.gpu),
    pytest.param("cuda", "compile", marks=[pytest.mark.gpu, pytest.mark.slow]),
]


@pytest.mark.parametrize(("device", "mode"), OTHER_MODES)
def test_20_steps_agree_to_1e_9_in_float64(tmp_path: Path, device: str, mode: str) -> None:
    words = ("model.depth=14", "data.train_images=320")
    eager = Training(tmp_path, device, "eager", *words, dtype=torch.float64)
    other = Training(tmp_path, device, mode, *words, dtype=torch.float64)
    expected, found = eager.train(20), other.train(20)
    assert losses(found) == pytest.approx(losses(expected), rel=1e-9)
    assert [r.errors for r in found] == [r.errors for r in expected]
    assert_close(other, eager, 1e-9)


@pytest.mark.parametrize(("device", "mode"), OTHER_MODES)
def test_steps_in_float32_agree(tmp_path: Path, device: str, mode: str) -> None:
    """Single steps from the same state, with their gradients, then 20 steps at a small rate."""
    eager, other = (Training(tmp_path, device, way, "model.depth=14") for way in ("eager", mode))
    for step in range(5):
        other.model.load_state_dict(eager.model.state_dict())
        for mine, theirs in zip(other.optimizer.state.values(), eager.optimizer.state.values(), strict=True):
            mine["momentum_buffer"].copy_(theirs["momentum_buffer"])
        results = []
        for training in (eager, other):
            training.step.run(step)
            results.append(training.step.read()[0].loss)
        assert results[1] == pytest.approx(results[0], rel=1e-4)
        gradients = [
            {name: p.grad.clone() for name, p in t.model.named_parameters() if p.grad is not None}
            for t in (eager, other)
        ]
        assert gradients[0].keys() == dict(eager.model.named_parameters()).keys()
        for name, gradient in gradients[0].items():
            assert (gradients[1][name] - gradient).norm() <= 1e-4 * gradient.norm(), (step, name)
    # Rounding errors grow from step to step, to 4e-4 in torch 2.11 and to less than 1e-4 in 2.15.
    assert losses(other.train(20, lr=0.001)) == pytest.approx(losses(eager.train(20, lr=0.001)), rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_eager_training_is_bit_identical_from_run_to_run(tmp_path: Path, device: str) -> None:
    first, again = (Training(tmp_path, device, "eager", "model.depth=14") for _ in range(2))
    assert first.train(8) == again.train(8)
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in first.tensors().items())


def test_results_come_oldest_first_and_once(tmp_path: Path) -> None:
    training = Training(tmp_path, "cpu", "eager")
    together = training.train(4)
    apart = Training(tmp_path, "cpu", "eager")
    apart.train(0)
    results = []
    for step in range(4):
        apart.step.run(step)
        results += apart.step.read()
    assert results == together
    assert len(together) == 4
    assert apart.step.read() == []


def test_a_step_counts_its_own_mean_loss_and_errors(tmp_path: Path) -> None:
    training = Training(tmp_path, "cpu", "eager")
    images, labels = training.stream.batch(0)
    training.model.train()
    logits = training.model(images.contiguous(memory_format=torch.channels_last)).detach()
    training.model.load_state_dict(Training(tmp_path, "cpu", "eager").model.state_dict())
    (result,) = training.train(1)
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)
    assert result.errors == int((logits.argmax(1) != labels).sum())


@pytest.mark.parametrize("words", [(), ("model.bn_group_size=8",), ("model.shortcut=B",)])
def test_recomputed_activations_change_no_bit(tmp_path: Path, words: tuple[str, ...]) -> None:
    words = ("model.depth=8", *words)
    kept = Training(tmp_path, "cpu", "eager", *words)
    again = Training(tmp_path, "cpu", "eager", "execution.checkpoint_activations=true", *words)
    assert again.train(3) == kept.train(3)
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in kept.tensors().items())
    layers = [m for m in again.model.modules() if isinstance(m, GroupBatchNorm2d)]
    assert all(layer.updates_statistics for layer in layers)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    "words", [("model.shortcut=B",), ("model.shortcut=A", "execution.checkpoint_activations=true")]
)
@pytest.mark.parametrize("micro_batch", [4, 8])
def test_pieces_of_a_batch_train_as_the_whole_of_it(
    tmp_path: Path, micro_batch: int, words: tuple[str, ...], dtype: torch.dtype, rtol: float
) -> None:
    """They agree up to the order in which gradients, losses and running statistics are added."""
    words = ("model.depth=8", "model.bn_group_size=4", "execution.threads=1", *words)
    whole = Training(tmp_path, "cpu", "eager", *words, dtype=dtype)
    pieces = Training(tmp_path, "cpu", "eager", f"execution.micro_batch={micro_batch}", *words, dtype=dtype)
    expected, found = whole.train(2), pieces.train(2)
    assert [r.errors for r in found] == [r.errors for r in expected]
    assert losses(found) == pytest.approx(losses(expected), rel=rtol)
    assert_close(pieces, whole, 10 * rtol)


def test_pieces_keep_less_for_the_backward_pass(tmp_path: Path) -> None:
    words = ("model.depth=20", "model.bn_group_size=4")
    kept = []
    for micro in ("null", "4"):
        training = Training(tmp_path, "cpu", "eager", f"execution.micro_batch={micro}", *words)
        assert isinstance(training.step, EagerStep)
        images, _ = training.stream.batch(0)
        weights = sum(4 * p.numel() for p in training.model.parameters())
        kept.append(saved_bytes(training, images[: training.step.micro_batch]) - weights)
    assert kept[1] < 0.3 * kept[0], "a quarter of the images, and what batch norm keeps of each group"


def saved_bytes(training: Training, images: torch.Tensor | None = None) -> int:
    """Count the bytes that the forward pass keeps for the backward pass, each piece of memory once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        alive = training.model(training.stream.batch(0)[0] if images is None else images)
    assert alive.requires_grad
    return sum(kept.values())


def test_recomputing_activations_keeps_less(tmp_path: Path) -> None:
    kept = saved_bytes(Training(tmp_path, "cpu", "eager", "model.depth=20"))
    again = saved_bytes(Training(tmp_path, "cpu", "eager", "model.depth=20", "execution.checkpoint_activations=true"))
    assert again < kept / 2


@pytest.mark.parametrize("recompute", ["true", "false"])
def test_what_a_step_keeps_is_what_is_counted_beforehand(tmp_path: Path, recompute: str) -> None:
    words = ("model.depth=14", "model.shortcut=B", f"execution.checkpoint_activations={recompute}")
    run = config(tmp_path, *words)
    counted = activation_bytes(run.model, run.data.image_size, run.optim.batch_size, recompute == "true")
    training = Training(tmp_path, "cpu", "eager", *words)
    weights = sum(4 * p.numel() for p in training.model.parameters())
    assert counted <= saved_bytes(training) <= counted + weights


@pytest.mark.slow
def test_one_compilation_serves_all_depths_seeds_and_runs(tmp_path: Path) -> None:
    counters: Any = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    Training(tmp_path, "cpu", "compile", "model.depth=14").train(1)
    before = counters["stats"]["unique_graphs"]
    Training(tmp_path, "cpu", "compile", "model.depth=14").train(1)
    Training(tmp_path, "cpu", "compile", "model.depth=26").train(1)
    kinds = "one kind of block in the first stage, two in each other, and the augmentation"
    assert counters["stats"]["unique_graphs"] == before == 6, kinds


def test_the_modes_of_a_device() -> None:
    cpu, cuda, mps = (torch.device(name) for name in ("cpu", "cuda", "mps"))
    assert pick_step("auto", cpu) == "eager"
    assert pick_step("auto", cuda) == "graph"
    assert pick_step("auto", mps) == "eager"
    assert [pick_step("auto", cuda, size * 2**20) for size in (1, 97)] == ["graph", "eager"]
    assert step_modes(cpu)[0] == "eager"
    with pytest.raises(InputError, match=r"execution\.step=graph .*device=cpu: .*eager or compile"):
        pick_step("graph", cpu)


def test_a_net_with_large_gradients_is_a_graph_on_one_gpu_alone(tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    assert step_mode(photo_config(tmp_path, "model.depth=50"), cuda) == "graph"
    assert step_mode(photo_config(tmp_path, "model.depth=50", "execution=ddp"), cuda) == "eager"
    assert step_mode(config(tmp_path, "execution=ddp"), cuda) == "graph"


def test_compiling_on_a_gpu_needs_what_triton_is_built_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sysconfig.get_path", lambda name, scheme: str(tmp_path))
    with pytest.raises(InputError, match=r"execution\.step=compile .*Python\.h"):
        pick_step("compile", cuda)
    (tmp_path / "Python.h").touch()
    assert pick_step("compile", cuda) == "compile"
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/c++" if name == "c++" else None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(InputError, match="needs a C compiler"):
        pick_step("compile", cuda)


def test_compiling_without_a_compiler_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        pick_step("compile", torch.device("cpu"))
