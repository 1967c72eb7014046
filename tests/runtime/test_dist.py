"""1, 2, 3 and 4 ranks on the CPU train and count alike, and a run of several ranks is as safe as one of one."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repro.config.run import RunConfig
from repro.data import Split, load
from repro.data.augment import generator_for
from repro.data.in_memory import MemoryFeed, MemoryImages, to_device
from repro.engine.optim import build_optimizer, load_optimizer, set_lr
from repro.engine.run import run
from repro.engine.step import EagerStep, GraphStep, StepResult, build_step
from repro.errors import AloneError, InputError, RunError
from repro.evaluation.counts import Counts
from repro.evaluation.single_crop import Evaluator, recompute_batch_norm
from repro.models import build_model
from repro.models.blocks import BlockNet
from repro.results.read import Record, read_record
from repro.runtime import checkpoint, distributed
from repro.runtime.log import send_to
from tests.ranks import free_port, on_ranks
from tests.runs import StopAfter, config

WORDS = ("optim.batch_size=16", "data.train_images=72", "data.test_images=101", "data.image_size=8")
GROUPS = (2, 4, 8, 16)
"""Batch-norm groups: with 16 images on 2 and 4 ranks smaller than, equal to and larger than a rank's part."""

Tensors = dict[str, torch.Tensor]


def test_what_all_ranks_hear_of_is_no_longer_met_alone() -> None:
    def fail() -> None:
        raise AloneError("an image can no longer be read")

    with pytest.raises(RunError, match="an image can no longer be read") as caught:
        distributed.agreed(fail)
    assert type(caught.value) is RunError


def small(folder: Path, *words: str) -> RunConfig:
    given = dict(word.split("=") for word in ("model.depth=8", *WORDS, *words))
    return config(folder, *(f"{key}={value}" for key, value in given.items()))


def grouped(folder: Path) -> dict[int, RunConfig]:
    """Return a run for each batch-norm group size."""
    return {group: small(folder, f"model.bn_group_size={group}") for group in GROUPS}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_all_reduce_in_a_graph_sees_values_as_they_are_at_its_replay(device: str) -> None:
    """A separate process joins the group; on a CPU there is no graph."""
    command = [sys.executable, "-m", "tests.gpu.nccl_graph", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, f"on {device}: the same values" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_parameter_without_a_gradient_on_one_rank_moves_no_other(tmp_path: Path) -> None:
    for found in on_ranks(2, averaged_gradients, small(tmp_path)):
        first, *others = found
        assert first == 0.5, "the other rank's gradient and zero"
        assert others == [float(number) for number in range(2, len(found) + 1)]


def averaged_gradients(of: RunConfig) -> list[float]:
    """Average gradients by parameter; each gradient is its number, but rank 1 has none for the first parameter."""
    training = Training(of, torch.float64)
    step = GraphStep(training.model, training.optimizer, training.stream, "fp32", 1)
    parameters = list(training.model.parameters())
    for number, parameter in enumerate(parameters, 1):
        parameter.grad = torch.full_like(parameter, number)
    if distributed.rank() == 1:
        parameters[0].grad = None
    step._average()
    return [float(p.grad.flatten()[0]) for p in parameters if p.grad is not None]


class Training:
    """A net, its optimizer, its step and its evaluation, all from seed 0, on this rank."""

    def __init__(self, of: RunConfig, dtype: torch.dtype, mode: str = "eager") -> None:
        dataset = load(of.data, of.paths.data, may_fetch=False)
        assert isinstance(dataset.train, Split) and isinstance(dataset.eval, Split)
        device, batch_size = torch.device("cpu"), of.optim.batch_size
        self.model = build_model(of.model, 10, generator_for(0, "init")).to(dtype)
        self.model.recompute = of.execution.checkpoint_activations
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, of.optim)
        self.stream = MemoryFeed(dataset.train, of.data, batch_size, 0, device, distributed.rank(), distributed.size())
        more = (of.optim.precision, 20, of.execution.micro_batch)
        self.step = build_step(mode, self.model, self.optimizer, self.stream, *more)
        images, labels = to_device(dataset.eval, device)
        self.evaluate = Evaluator(self.model, MemoryImages(images, labels), self.stream.stats, 40, "fp32")
        set_lr(self.optimizer, 0.1, "torch")

    def train(self, steps: int) -> list[StepResult]:
        for step in range(steps):
            self.step.run(step)
        return self.step.read()

    def double_batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.stream.batch(step)
        return images.double(), labels

    def tensors(self) -> Tensors:
        """Return weights and running statistics, momentum, and the gradients of the last step."""
        found = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            assert p.grad is not None
            found[f"momentum of {name}"] = self.optimizer.state[p]["momentum_buffer"].clone()
            found[f"gradient of {name}"] = p.grad.clone()
        return found


def difference(found: Tensors, expected: Tensors) -> dict[str, float]:
    """Return the relative difference of each whole tensor: a single small value may lose its digits to cancellation."""
    assert found.keys() == expected.keys()
    return {
        name: float((found[name] - tensor).double().norm() / tensor.double().norm().clamp_min(1e-6))
        for name, tensor in expected.items()
    }


def assert_close(found: Tensors, expected: Tensors, rtol: float) -> None:
    assert {name: off for name, off in difference(found, expected).items() if off > rtol} == {}


def long_training(configs: dict[int, RunConfig]) -> dict[int, dict[str, Any]]:
    """Train 10 steps in float64 for every group size."""
    results = {}
    for group, of in configs.items():
        training = Training(of, torch.float64)
        steps = training.train(10)
        results[group] = {"steps": steps, "tensors": training.tensors(), "counts": training.evaluate()}
        recompute_batch_norm(training.model, training.double_batch, 3)
        results[group] |= {"recomputed": dict(training.model.state_dict())}
    return results


@pytest.fixture(scope="module")
def long_trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[int, dict[str, Any]]]]:
    """Return the results of each rank, by number of ranks."""
    configs = grouped(tmp_path_factory.mktemp("long"))
    return {n: on_ranks(n, long_training, configs) for n in (1, 2, 4)}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_10_steps_in_float64_agree_with_one_rank_to_1e_9(
    long_trainings: dict[int, list[dict[int, dict[str, Any]]]], num_ranks: int, group: int
) -> None:
    expected, found = long_trainings[1][0][group], long_trainings[num_ranks][0][group]
    assert [r.loss for r in found["steps"]] == pytest.approx([r.loss for r in expected["steps"]], rel=1e-9)
    assert [r.errors for r in found["steps"]] == [r.errors for r in expected["steps"]]
    assert_close(found["tensors"], expected["tensors"], 1e-9)
    assert found["counts"].errors == expected["counts"].errors
    assert found["counts"].images == 101
    assert found["counts"].loss == pytest.approx(expected["counts"].loss, rel=1e-9)
    assert_close(found["recomputed"], expected["recomputed"], 1e-9)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_all_ranks_hold_the_same_bits(
    long_trainings: dict[int, list[dict[int, dict[str, Any]]]], num_ranks: int
) -> None:
    first, *others = long_trainings[num_ranks]
    for other in others:
        for group in GROUPS:
            assert other[group]["steps"] == first[group]["steps"]
            assert other[group]["counts"] == first[group]["counts"]
            for name, tensor in first[group]["tensors"].items():
                assert torch.equal(other[group]["tensors"][name], tensor), name


def test_the_group_size_is_science(long_trainings: dict[int, list[dict[int, dict[str, Any]]]]) -> None:
    """If it were ignored, ranks could agree on a wrong one."""
    weights = [long_trainings[4][0][group]["tensors"]["fc.weight"] for group in GROUPS]
    assert all(not torch.allclose(a, b, rtol=1e-3) for i, a in enumerate(weights) for b in weights[:i])


def single_steps(folder: Path, configs: dict[int, RunConfig]) -> dict[int, list[dict[str, Any]]]:
    """Train five steps in fp32 for every group size, each from the state that one rank had before."""
    found: dict[int, list[dict[str, Any]]] = {}
    for group, of in configs.items():
        training = Training(of, torch.float32)
        found[group] = []
        for step in range(5):
            path = folder / f"{group}_{step}.pt"
            if distributed.size() == 1:
                torch.save([training.model.state_dict(), training.optimizer.state_dict()], path)
            else:
                model, optimizer = torch.load(path)
                training.model.load_state_dict(model)
                load_optimizer(training.optimizer, optimizer)
            training.step.run(step)
            (result,) = training.step.read()
            tensors, gradients = training.tensors(), {}
            for name in list(tensors):
                if name.startswith(("gradient of", "momentum of")):
                    gradients[name] = tensors.pop(name)
            found[group].append({"loss": result.loss, "state": tensors, "gradients": gradients})
            found[group][-1]["counts"] = training.evaluate()
    return found


def test_single_steps_in_float32_from_the_same_state_agree_to_1e_4(tmp_path: Path) -> None:
    configs = grouped(tmp_path)
    (expected,) = on_ranks(1, single_steps, tmp_path, configs)
    for num_ranks in (2, 4):
        found = on_ranks(num_ranks, single_steps, tmp_path, configs)[0]
        for group in GROUPS:
            off = []
            for mine, one in zip(found[group], expected[group], strict=True):
                assert mine["loss"] == pytest.approx(one["loss"], rel=1e-4)
                assert mine["counts"].loss == pytest.approx(one["counts"].loss, rel=1e-4)
                assert_close(mine["state"], one["state"], 1e-4)
                off.append(max(difference(mine["gradients"], one["gradients"]).values()))
            # Rarely, a value so close to zero that rounding decides its ReLU changes all gradients below it.
            assert sorted(off)[2] <= 1e-4


def six_steps(of: RunConfig, kind: str, saved: Path, first: int, dies_at: int | None) -> dict[str, Any]:
    """Train from step ``first`` to 6, from the checkpoint of step 3; all ranks are killed after ``dies_at``."""
    distributed.BUCKET_MB = 0.05
    training = Training(of, torch.float32)
    if kind == "one all-reduce":
        training.step = AllReduceStep(training.model, training.optimizer, training.stream, "fp32", 6)
    if first:
        model, optimizer = torch.load(saved)
        training.model.load_state_dict(model)
        load_optimizer(training.optimizer, optimizer)
    for step in range(first, 6):
        training.step.run(step)
        if step == 2 and not first and distributed.is_first():
            torch.save([training.model.state_dict(), training.optimizer.state_dict()], saved)
        if step + 1 == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
    wrapped = training.step._wrapped if isinstance(training.step, EagerStep) else None
    buckets = {} if wrapped is None else wrapped._get_ddp_logging_data()
    sizes = {name: buckets.get(name) for name in ("bucket_sizes", "rebuilt_bucket_sizes")}
    return {"tensors": training.tensors(), **sizes}


class AllReduceStep(GraphStep):
    """The operations that a CUDA graph records, executed one by one."""

    _execute = GraphStep._step


@pytest.mark.parametrize("kind", ["torch's wrapper", "one all-reduce", "stochastic depth"])
def test_four_ranks_that_are_killed_end_with_the_bits_of_an_undisturbed_run(tmp_path: Path, kind: str) -> None:
    """With two ranks no order of addition shows, since a + b = b + a."""
    survival = ("model.survival=uniform", "model.shortcut_dropout=0.25") if kind == "stochastic depth" else ()
    of = small(tmp_path, "model.bn_group_size=2", *survival)
    undisturbed, *_ = on_ranks(4, six_steps, of, kind, tmp_path / "undisturbed.pt", 0, None)
    with pytest.raises(AssertionError, match="without a result"):
        on_ranks(4, six_steps, of, kind, tmp_path / "saved.pt", 0, 3)
    resumed, *_ = on_ranks(4, six_steps, of, kind, tmp_path / "saved.pt", 3, None)
    different = [name for name, t in undisturbed["tensors"].items() if not torch.equal(resumed["tensors"][name], t)]
    assert different == []
    if kind == "torch's wrapper":
        assert "," not in undisturbed["bucket_sizes"], "one at first"
        assert undisturbed["rebuilt_bucket_sizes"].count(",") > 2, "several, in another order, after the first pass"


def left_out_blocks(of: RunConfig) -> dict[str, float]:
    """Return the distance of two steps' gradients from the mean of the ranks; in one step rank 1 skips a block."""
    BlockNet.skips_blocks = property(lambda net: True)  # type: ignore[method-assign, assignment]
    training, alone = Training(of, torch.float64), build_model(of.model, 10, generator_for(0, "init")).double()
    assert isinstance(training.step, EagerStep)
    torch.manual_seed(distributed.rank())
    images, labels = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(10, (4,))
    found = {}
    for leaves_out in (True, False):
        for model in (alone, training.model):
            if leaves_out and distributed.rank() == 1:
                model.get_submodule("stages.0.1").forward = lambda x: x
            else:
                vars(model.get_submodule("stages.0.1")).pop("forward", None)
            model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(alone(images), labels).backward()
        means = [torch.zeros_like(p) if p.grad is None else p.grad for p in alone.parameters()]
        distributed.average(means)
        training.step._pass(images, labels)
        for (name, p), mean in zip(training.model.named_parameters(), means, strict=True):
            assert p.grad is not None
            found[f"{name} {leaves_out}"] = float((p.grad - mean).norm() / mean.norm())
    return found


def test_a_block_may_be_left_out_on_one_rank(tmp_path: Path) -> None:
    of = small(tmp_path, "model.depth=14", "model.bn_group_size=2")
    for found in on_ranks(2, left_out_blocks, of):
        assert {name: off for name, off in found.items() if off > 1e-12} == {}


def evaluations(configs: list[RunConfig]) -> list[Counts]:
    return [Training(of, torch.float64).evaluate() for of in configs]


def test_every_image_is_counted_once_on_any_number_of_ranks(tmp_path: Path) -> None:
    """With 1,001 images, and with 2, which leave one of three ranks without any."""
    configs = [small(tmp_path, f"data.test_images={number}") for number in (1001, 2)]
    (expected,) = on_ranks(1, evaluations, configs)
    assert [counts.images for counts in expected] == [1001, 2]
    for num_ranks in (2, 3):
        for found in on_ranks(num_ranks, evaluations, configs):
            assert [(c.images, c.errors) for c in found] == [(c.images, c.errors) for c in expected]
            assert [c.loss for c in found] == pytest.approx([c.loss for c in expected], rel=1e-12)


def few_steps(configs: list[RunConfig], modes: list[str], dtype: torch.dtype) -> list[Tensors]:
    found = []
    for of, mode in zip(configs, modes, strict=True):
        training = Training(of, dtype, mode)
        training.train(3)
        found.append(training.tensors())
    return found


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_pieces_of_the_parts_of_four_ranks_train_as_the_whole(tmp_path: Path, dtype: torch.dtype, rtol: float) -> None:
    words = ("execution=ddp", "execution.devices=4", "optim.batch_size=32", "model.bn_group_size=2")
    configs = [small(tmp_path, *words, f"execution.micro_batch={micro}") for micro in ("null", "4", "2")]
    whole, *others = on_ranks(4, few_steps, configs, ["eager"] * 3, dtype)[0]
    for pieces in others:
        assert_close(pieces, whole, rtol)


def test_recomputed_activations_of_a_spanning_group_change_no_bit(tmp_path: Path) -> None:
    configs = [
        small(tmp_path, "model.bn_group_size=16", f"execution.checkpoint_activations={again}")
        for again in ("false", "true")
    ]
    kept, again = on_ranks(2, few_steps, configs, ["eager", "eager"], torch.float32)[0]
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())


@pytest.mark.slow
def test_compiled_blocks_take_groups_that_span_ranks(tmp_path: Path) -> None:
    configs = [small(tmp_path, "model.bn_group_size=16")] * 2
    eager, compiled = on_ranks(2, few_steps, configs, ["eager", "compile"], torch.float64)[0]
    assert_close(compiled, eager, 1e-9)


def test_the_parts_of_the_ranks_are_the_batch_of_one(tmp_path: Path) -> None:
    one = config(tmp_path, *WORDS)
    dataset = load(one.data, one.paths.data, may_fetch=False)
    assert isinstance(dataset.train, Split)
    cpu = torch.device("cpu")
    whole, *parts = (
        MemoryFeed(dataset.train, one.data, 16, 0, cpu, rank, num_ranks)
        for rank, num_ranks in [(0, 1), (0, 4), (1, 4), (2, 4), (3, 4)]
    )
    for step in range(10):  # step 4 ends one epoch of 72 images and begins the next
        images, labels = zip(*(part.batch(step) for part in parts), strict=True)
        assert torch.equal(torch.cat(images), whole.batch(step)[0])
        assert torch.equal(torch.cat(labels), whole.batch(step)[1])


def test_hosts_wait_for_each_other_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank alone may prepare a large set of images on a slow disk."""
    environment = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    with distributed.joined("cpu"):
        world = torch.distributed.group.WORLD
        assert world is not None
        assert world._get_backend(torch.device("cpu")).options._timeout.total_seconds() >= 12 * 3600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["execution.devices=3"],
            "optim.batch_size=16 does not divide evenly over the 3 devices of execution.devices=3",
        ),
        (["execution.devices=4", "execution.nodes=3"], r"the 12 devices of execution.devices=4 × execution.nodes=3"),
        (
            ["execution.devices=2", "optim.batch_size=12", "model.bn_group_size=4"],
            r"model\.bn_group_size=4 .* 6 images",
        ),
        (["execution.devices=0"], "execution.devices=0 must be above 0"),
        (["execution.micro_batch=0"], "execution.micro_batch=0 must be above 0, or null"),
        (
            ["execution.devices=1", "optim.batch_size=256", "model.bn_group_size=32", "execution.micro_batch=48"],
            r"execution\.micro_batch=48 .* model\.bn_group_size=32 .* 256 images .*: use 32, 64, 128, 256 or null",
        ),
        (
            ["execution.devices=2", "execution.micro_batch=4"],
            r"execution\.micro_batch=4 .* model\.bn_group_size=16 .*: use 8 or null",
        ),
        (
            ["execution.devices=1", "model.bn_group_size=8", "execution.micro_batch=8", "eval.gradient_flow=true"],
            r"eval\.gradient_flow=true .* execution\.micro_batch=8",
        ),
        (["execution.devices=2", "device=mps"], "not mps"),
    ],
)
def test_what_does_not_come_out_even_is_said_before(tmp_path: Path, words: list[str], message: str) -> None:
    given = ["optim.batch_size=16", "model.bn_group_size=16"]
    given = [w for w in given if w.partition("=")[0] not in {x.partition("=")[0] for x in words}]
    with pytest.raises(InputError, match=message):
        config(tmp_path, "execution=ddp", *given, *words)


def test_devices_are_not_science(tmp_path: Path) -> None:
    assert config(tmp_path, "execution=ddp").run_id == config(tmp_path).run_id


def go(of: RunConfig, times: int | None) -> Record | None:
    """Train one run; only the last rank is asked to stop."""
    dataset = load(of.data, of.paths.data, may_fetch=False)
    stopper = StopAfter(times if distributed.rank() == distributed.size() - 1 else None)
    return run(of, dataset, stopper)


def whole_runs(folder: Path) -> dict[str, Any]:
    words = ["execution=ddp", "execution.devices=2"]
    whole, broken, bad = (config(folder / name, *words) for name in ("whole", "broken", "bad"))
    said: list[str] = []
    send_to(said.append)
    found: dict[str, Any] = {"record": go(whole, None), "pieces": 0}
    while go(broken, 0) is None:
        found["pieces"] += 1
    go(bad, 0)
    distributed.on_first(lambda: spoil(bad))
    with pytest.raises(RunError) as error:
        go(bad, None)
    return found | {"said": said, "error": str(error.value)}


def spoil(bad: RunConfig) -> None:
    (saved,) = checkpoint.checkpoints(bad.work_dir)
    stored = checkpoint.load(saved)
    stored["model"]["fc.bias"].fill_(float("nan"))
    checkpoint.save(saved, stored)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("runs")
    return folder, on_ranks(2, whole_runs, folder)


def test_a_run_on_two_ranks_leaves_what_one_rank_leaves(tmp_path: Path, two_ranks: tuple[Path, Any]) -> None:
    folder, found = two_ranks
    one = config(tmp_path)
    assert go(one, None) is not None
    expected = read_record(one.work_dir / "record.json").result
    work = folder / "whole" / "work" / one.run_id
    result = read_record(work / "record.json").result
    assert result.final.images == expected.final.images
    assert result.final.loss == pytest.approx(expected.final.loss, rel=1e-3)
    assert result.train is not None and expected.train is not None
    assert result.train.images == expected.train.images
    assert found[0]["record"].execution.items() >= {"world_size": 2, "devices": 2}.items()
    assert {p.name.split(".")[0] for p in work.iterdir()} == {p.name.split(".")[0] for p in one.work_dir.iterdir()}
    events = EventAccumulator(str(work)).Reload()
    assert [e.step for e in events.Scalars("error/test")] == [4, 8], "the first rank alone writes"
    assert len(list(work.glob("events*"))) == 1


def test_a_stop_on_one_rank_stops_all_and_the_run_ends_with_the_same_bits(two_ranks: tuple[Path, Any]) -> None:
    folder, found = two_ranks
    run_id = config(folder).run_id
    assert [f["pieces"] for f in found] == [found[0]["pieces"]] * 2
    assert found[0]["pieces"] > 0
    finals = [checkpoint.load(folder / name / "work" / run_id / checkpoint.FINAL) for name in ("whole", "broken")]
    assert all(torch.equal(finals[1]["model"][name], tensor) for name, tensor in finals[0]["model"].items())
    curves = [(folder / name / "work" / run_id / "curve.csv").read_text() for name in ("whole", "broken")]
    assert curves[0] == curves[1]
    assert [row["step"] for row in csv.DictReader(curves[0].splitlines())] == ["4", "8"]
    assert any("resumes at step" in line for line in found[0]["said"])
    assert found[1]["said"] == []


def test_a_loss_that_is_not_finite_ends_all_ranks_with_the_same_sentence(two_ranks: tuple[Path, Any]) -> None:
    first, second = (f["error"] for f in two_ranks[1])
    assert first == second
    assert first.startswith("the loss is nan at step")


def test_going_on_with_another_number_of_ranks_says_that_bits_differ(
    two_ranks: tuple[Path, Any], told: list[str]
) -> None:
    folder, _ = two_ranks
    one = config(folder / "broken")
    (one.work_dir / "record.json").unlink()
    go(one, None)
    assert "ranks 2 → 1" in told[-1]
    assert "not to the last bit" in told[-1]


def test_one_process_does_not_pass_for_several(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 processes"):
        go(config(tmp_path, "execution=ddp"), None)


def agreements() -> dict[str, Any]:
    def fail() -> None:
        if distributed.rank() == 1:
            raise InputError("no room on rank 1")

    done: list[int] = []
    distributed.on_first(lambda: done.append(distributed.rank()))
    with pytest.raises(InputError, match="no room on rank 1"):
        distributed.agreed(fail)
    tensor = torch.full((2, 3, 4, 4), float(distributed.rank())).contiguous(memory_format=torch.channels_last)
    distributed.copy_from_first([tensor])
    mean = torch.tensor([float(distributed.rank()), 4.0])
    distributed.average([mean])
    return {
        "done": done,
        "any": [distributed.on_any(distributed.rank() == 1), distributed.on_any(False)],
        "shared": distributed.shared({"from": distributed.rank()}),
        "total": distributed.total([1, 2**50, distributed.rank()]),
        "copied": tensor.unique().tolist(),
        "mean": mean.tolist(),
    }


def test_ranks_agree_on_errors_requests_and_values() -> None:
    first, *others = on_ranks(3, agreements)
    assert first.pop("done") == [0]
    assert [other.pop("done") for other in others] == [[], []]
    expected = {"any": [True, False], "shared": {"from": 0}, "total": [3, 3 * 2**50, 3], "copied": [0], "mean": [1, 4]}
    assert [first, *others] == [expected] * 3
