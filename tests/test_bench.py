"""`repro bench`: what is measured is whole and counted right, and what fails or runs out of time takes nothing with it.

Nothing here says how fast anything is.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from repro import bench as bench_module
from repro.bench import Document, Workers, carry_out, check_step, choose
from repro.bench.ceilings import ceilings, passed_values, work_of
from repro.bench.measure import case, pairs, projected_seconds, run_together, split_sizes, threads
from repro.bench.parts import Part, all_parts, quick_parts, usual_parts
from repro.bench.rig import Rig, repeat
from repro.bench.tables import report
from repro.bench.textbook import MEAN, STD, PilImages, Textbook, torch_defaults
from repro.bench.worker import PartFailedError, Worker
from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import Split, load
from repro.errors import InputError
from repro.models.blocks import BasicBlock
from repro.runtime.openmp import spin_settings
from tests.runs import config

GPU = {"device": "cuda", "best_step": "graph", "step_modes": ["eager", "graph", "compile"]}
CPU = {"device": "cpu", "best_step": "eager", "step_modes": ["eager", "compile"]}
NUMBER_FIELDS = (
    "startup_seconds",
    "images_per_second",
    "eval_images_per_second",
    "host_loop_ms",
    "host_share",
    "flops_per_image",
    "bytes_per_image",
    "flops_per_second",
    "bytes_per_second",
    "projected_seconds",
)


def small(folder: Path) -> RunConfig:
    return config(folder, "model.depth=8", "execution.step=eager")


# --- arithmetic ---------------------------------------------------------------------------------------------------


def test_least_traffic_of_one_layer_and_one_block_by_hand() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(3, 4, 3, padding=1)
        assert passed_values(layer, torch.empty(2, 3, 8, 8)) == 6 * 2 * 4 * 8 * 8
        model = dataclasses.replace(paper_net(20), bn_group_size=2)
        block = BasicBlock(16, 16, 1, model).eval()
        plain = BasicBlock(16, 16, 1, dataclasses.replace(model, shortcut="none")).eval()
        image = torch.empty(1, 16, 8, 8)
        assert passed_values(block, image) == (2 * 6 + 4) * 16 * 8 * 8
        assert passed_values(plain, image) == 2 * 6 * 16 * 8 * 8


def paper_net(depth: int) -> Any:
    return dataclasses.replace(choose([], everything=False).configs[0].model, depth=depth)


def test_work_of_the_papers_nets() -> None:
    values = 7 * 16 * 32**2 + 6 * 32 * 16**2 + 6 * 64 * 8**2
    sums = 3 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)
    work = work_of(paper_net(20), 32, 10, "bf16")
    assert work.bytes == 2 * (6 * values + 4 * sums)
    assert work_of(paper_net(20), 32, 10, "tf32").bytes == 2 * work.bytes
    images = 64_000 * 128
    assert work.flops * images == pytest.approx(2.0e15, rel=0.01)
    assert work_of(paper_net(1202), 32, 10, "fp32").flops * images == pytest.approx(139e15, rel=0.01)


def test_the_projected_time_is_steps_and_evaluations(tmp_path: Path) -> None:
    run = config(tmp_path, "optim.steps=100", "eval.every_steps=30", "eval.train_error=false")
    assert projected_seconds(run, 20.0, 50.0, 256, 128) == pytest.approx(100 * 0.020 + 4 * 128 / 50)
    with_training = config(tmp_path, "optim.steps=100", "eval.every_steps=30")
    assert projected_seconds(with_training, 20.0, 50.0, 256, 128) == pytest.approx(2.0 + (4 * 128 + 256) / 50)


def test_made_images_stand_in_for_cifar10_but_the_schedule_is_cifar10s(tmp_path: Path) -> None:
    stored = load(config(tmp_path).data, tmp_path, may_fetch=False)
    paper = choose([], everything=False).configs[0].data
    assert split_sizes(paper, stored) == (50_000, 10_000)
    assert split_sizes(dataclasses.replace(paper, split="train45k"), stored) == (45_000, 5_000)
    assert split_sizes(config(tmp_path).data, stored) == (256, 128)


# --- measurements -------------------------------------------------------------------------------------------------


def test_a_case_has_every_field(tmp_path: Path) -> None:
    found = json.loads(json.dumps(case(small(tmp_path), 0.2)))
    assert (found["net"], found["precision"], found["arithmetic"], found["step"]) == (
        "ResNet-8",
        "tf32",
        "fp32",
        "eager",
    )
    assert (found["batch_size"], found["image_size"], found["threads"]) == (16, 8, 1)
    assert all(found[name] > 0 and math.isfinite(found[name]) for name in NUMBER_FIELDS)
    for name in ("step_ms", "loop_ms", "eval_ms_per_image"):
        times = found[name]
        assert times["min"] <= times["median"] <= times["max"]
        assert len(times["rounds"]) >= 2
    assert found["images_per_second"] == pytest.approx(1000 * 16 / found["loop_ms"]["median"])
    assert found["flops_per_second"] == pytest.approx(found["flops_per_image"] * 16e3 / found["step_ms"]["median"])
    assert found["peak_allocated_bytes"] is None, "of a GPU only"


def test_rounds_fill_the_time_and_stop_where_the_machine_slows_down() -> None:
    rounds = repeat(lambda count: 0.01 * count, 1.0)
    assert (rounds.count, len(rounds.seconds), rounds.ms) == (20, 5, pytest.approx(10))
    slow = iter([0.01, 5.0, 5.0])
    assert len(repeat(lambda count: next(slow), 1.0).seconds) == 2


def test_pairs_compare_equal_numbers_of_steps(tmp_path: Path) -> None:
    found = json.loads(json.dumps(pairs(small(tmp_path), 0.2)))
    ours, theirs, ratio = found["loop_ms"]["rounds"], found["textbook_ms"]["rounds"], found["ratio"]
    assert ratio["pairs"] == pytest.approx([t / o for o, t in zip(ours, theirs, strict=True)])
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert found["steps_per_window"] == found["loop_ms"]["count"] == found["textbook_ms"]["count"] >= 2
    assert found["textbook_workers"] >= 1


def test_runs_at_once_and_the_failure_of_one(tmp_path: Path) -> None:
    found = threads(small(tmp_path), 0.2, (1, 2))
    assert [row["runs"] for row in found["rows"]] == [1, 2]
    assert all(row["images_per_second"] > 0 for row in found["rows"])

    class Broken(Rig):
        def __init__(self) -> None:
            self.device = torch.device("cpu")

        def steps(self, count: int) -> float:
            raise ValueError("no more memory")

    with pytest.raises(ValueError, match="no more memory"):
        run_together([Broken(), Broken()], 3)


def test_ceilings_know_every_precision(tmp_path: Path) -> None:
    found = ceilings(config(tmp_path).execution, 0.1)
    assert found["copy_bytes_per_second"] > 0
    for precision in ("fp32", "tf32", "bf16"):
        product, convolution = (found[f"{name}_flops_per_second"][precision] for name in ("matmul", "conv"))
        assert found["flops_per_second"][precision] == max(product, convolution) > 0


# --- the textbook loop --------------------------------------------------------------------------------------------


def test_textbook_images_are_cropped_from_black_borders_and_normalized() -> None:
    bright = np.full((1, 32, 32, 3), 200, np.uint8)
    images = PilImages(Split("train", bright, np.array([7])), pad=4)
    inside = (200 / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    offsets = set()
    for _ in range(60):
        image, label = images[0]
        assert (tuple(image.shape), image.dtype, label) == ((3, 32, 32), torch.float32, 7)
        is_bright = (image - inside[:, None, None]).abs().amax(0) < 1e-5
        is_black = (image - black[:, None, None]).abs().amax(0) < 1e-5
        assert bool((is_bright | is_black).all())
        offsets.add((int(is_bright.any(1).sum()), int(is_bright.any(0).sum())))
    assert {rows for rows, _ in offsets} <= set(range(28, 33))
    assert len(offsets) > 10, "another crop each time"


def test_textbook_images_are_mirrored_half_the_time() -> None:
    left = np.zeros((1, 32, 32, 3), np.uint8)
    left[:, :, :8] = 255
    images = PilImages(Split("train", left, np.array([0])), pad=0)
    mirrored = sum(bool(images[0][0][0, 0, -1] > images[0][0].mean()) for _ in range(200))
    assert 60 < mirrored < 140


def test_textbook_batches_have_mean_zero_and_deviation_one_on_pixels_like_cifars() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.normal(np.array(MEAN), np.array(STD) / 2, (64, 32, 32, 3)).clip(0, 1) * 255
    images = PilImages(Split("train", pixels.astype(np.uint8), np.zeros(64, np.int64)), pad=0)
    batch = torch.stack([images[i][0] for i in range(64)])
    assert batch.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=0.03)
    assert batch.std((0, 2, 3)).tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.03)


@pytest.mark.parametrize(("older", "newer"), [("high", "tf32"), ("highest", "ieee")])
def test_the_textbook_sets_both_flags_of_a_products_precision_and_puts_them_back(older: str, newer: str) -> None:
    """torch refuses every product of a GPU where the two differ, and to tell ``allow_tf32``."""
    matmul = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), matmul.fp32_precision
    try:
        torch.set_float32_matmul_precision(older)
        matmul.fp32_precision = newer
        with torch_defaults():
            assert (torch.get_float32_matmul_precision(), matmul.fp32_precision) == ("highest", "ieee")
            assert not matmul.allow_tf32
        assert (torch.get_float32_matmul_precision(), matmul.fp32_precision) == (older, newer)
        assert matmul.allow_tf32 == (newer == "tf32")
    finally:
        torch.set_float32_matmul_precision(before[0])
        matmul.fp32_precision = before[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the state of processes")
def test_textbook_workers_stand_still_between_windows_and_end(tmp_path: Path) -> None:
    run = small(tmp_path)
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    textbook = Textbook(run, load(run.data, run.paths.data, may_fetch=False), torch.device("cpu"))
    before = [p.detach().clone() for p in textbook.model.parameters()]
    workers = list(textbook._workers)
    assert len(workers) == textbook.num_workers
    try:
        assert textbook.run(3) > 0
        assert all(wait_for_state(pid, "T") for pid in workers)
        assert any(bool((a != b).any()) for a, b in zip(before, textbook.model.parameters(), strict=True)), "it trains"
    finally:
        textbook.close()
    assert all(wait_for_state(pid, "") for pid in workers), "they ended"
    assert flags == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)


def wait_for_state(pid: int, wanted: str) -> bool:
    """Whether a process comes to a state of /proc within seconds; an empty one is having ended."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = ""
        if state.replace("Z", "") == wanted:
            return True
        time.sleep(0.01)
    return False


# --- choice and order ---------------------------------------------------------------------------------------------


def test_words_choose_and_seeds_are_no_different_case() -> None:
    words = ["model.depth=20,32", "optim.precision=tf32,bf16", "execution.step=eager,compile", "seed=0,1"]
    choice = choose(words, everything=False)
    assert choice.names_nets
    assert len(choice.configs) == 8
    assert {c.execution.step for c in choice.configs} == {"eager", "compile"}
    assert {c.seed for c in choice.configs} == {0}


def test_a_step_mode_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="graph cannot run on cpu; it can be eager or compile"):
        check_step(config(tmp_path, "execution.step=graph"), CPU)
    check_step(config(tmp_path, "execution.step=graph"), GPU)


def test_what_is_measured_where_no_net_is_named() -> None:
    choice = choose([], everything=False)
    cpu, gpu = usual_parts(choice, CPU), usual_parts(choice, GPU)
    assert {p.config.model.depth for p in cpu} == {20}
    assert {p.config.model.depth for p in gpu} == {20, 56, 110}
    for parts, device in ((cpu, CPU), (gpu, GPU)):
        modes = [p.config.execution.step for p in parts if p.kind == "case" and p.config.model.depth == 20]
        assert sorted(modes) == sorted(device["step_modes"])
        assert modes[0] == device["best_step"]
        assert "pairs" in {p.kind for p in parts}
    assert {p.config.execution.step for p in quick_parts(choice, CPU)} == {"eager"}, "compiling takes too long"


def test_all_covers_the_targets_in_eight_minutes() -> None:
    parts = all_parts(choose([], everything=True), GPU)
    cases = [p.config for p in parts if p.kind == "case"]
    seen = {(c.model.depth, c.optim.precision, c.execution.step) for c in cases}
    assert {(d, "tf32", "graph") for d in (20, 32, 44, 56, 110, 1202)} <= seen
    assert {(d, p, "graph") for d in (20, 110) for p in ("tf32", "bf16", "fp32")} <= seen
    assert {(d, "tf32", s) for d in (20, 110) for s in ("eager", "graph", "compile")} <= seen
    assert {c.model.depth for c in cases if not c.execution.deterministic} == {20, 110}
    assert [c.model.depth for c in cases if c.execution.checkpoint_activations] == [1202]
    assert {p.kind for p in parts} == {"ceilings", "case", "pairs", "threads", "processes"}
    assert [p.config.model.depth for p in parts if p.kind == "pairs"] == [20, 110]
    assert sum(p.seconds for p in parts) < 0.6 * 8 * 60, "the rest is for starting up"


# --- failures and time --------------------------------------------------------------------------------------------


class Answers:
    """Stands in for the measuring processes."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.limits: list[float] = []

    def measure(self, part: Part, limit: float) -> dict[str, Any]:
        self.limits.append(limit)
        answer = self.answers[part.label]
        if isinstance(answer, Exception):
            raise answer
        result: dict[str, Any] = answer
        return result


def planned(folder: Path, *kinds: str) -> list[Part]:
    return [Part(kind, kind, small(folder), 1, 10) for kind in kinds]


def test_a_failing_part_does_not_lose_the_others_and_each_is_saved_at_once(tmp_path: Path) -> None:
    document: Document = {"parts": []}
    saved: list[str] = []
    said: list[str] = []
    row = {"runs": 1, "images_per_second": 10.0}
    together = {"net": "ResNet-8", "how": "threads", "rows": [row, row | {"runs": 2, "images_per_second": 25.0}]}
    answers = Answers(
        {"threads": together, "pairs": PartFailedError("OutOfMemoryError: no more"), "processes": together}
    )
    parts = planned(tmp_path, "threads", "pairs", "processes")
    deadline = time.monotonic() + 1000
    carry_out(parts, answers.measure, deadline, document, lambda: saved.append(json.dumps(document)), said.append)
    assert [part["state"] for part in document["parts"]] == ["done", "failed", "done"]
    assert [len(json.loads(text)["parts"]) for text in saved] == [1, 2, 3]
    assert said[1] == "[2/3] pairs: failed, OutOfMemoryError: no more"
    text = report(document)
    assert "failed: pairs (OutOfMemoryError: no more)" in text
    assert text.count("2.50") == 2, "two runs at once are 2.5 times one alone"


def test_what_the_time_is_too_short_for_is_left_out(tmp_path: Path) -> None:
    document: Document = {"parts": []}
    answers = Answers({"pairs": {"ratio": {"median": 1.0, "min": 1.0, "max": 1.0}}})
    parts = planned(tmp_path, "pairs")
    carry_out(parts, answers.measure, time.monotonic() + 6, document, lambda: None, lambda text: None)
    carry_out(parts, answers.measure, time.monotonic() + 1, document, lambda: None, lambda text: None)
    assert [part["state"] for part in document["parts"]] == ["done", "left out"]
    assert len(answers.limits) == 1 and answers.limits[0] < 6.01, "not the part's own ten seconds"


def test_shares_of_the_ceilings_come_in_either_order(tmp_path: Path) -> None:
    measured = {"arithmetic": "fp32", "flops_per_second": 50.0, "bytes_per_second": 30.0, "loop_ms": {"median": 1.0}}
    limits = {"copy_bytes_per_second": 120.0, "flops_per_second": {"fp32": 200.0, "tf32": 1.0, "bf16": 1.0}}
    for order in (("case", "ceilings"), ("ceilings", "case")):
        document: Document = {"parts": []}
        answers = Answers({"case": measured | {"images_per_second": 1.0}, "ceilings": limits})
        carry_out(
            planned(tmp_path, *order), answers.measure, time.monotonic() + 99, document, lambda: None, lambda text: None
        )
        (found,) = [part["result"] for part in document["parts"] if part["kind"] == "case"]
        assert (found["flops_share"], found["bytes_share"]) == (0.25, 0.25)


@pytest.mark.slow
def test_a_process_that_fails_hangs_or_dies_is_replaced(tmp_path: Path) -> None:
    worker, run = Worker(), small(tmp_path)
    try:
        with pytest.raises(PartFailedError, match="KeyError: 'nonsense'"):
            worker.call("nonsense", run, 60)
        assert worker.call("device", run, 60)["device"] == "cpu", "a new one answers"
        with pytest.raises(PartFailedError, match="not done after 1 s"):
            worker.call("threads", run, 1, seconds=60, counts=(1,))
        assert worker._process is None
        assert worker.call("device", run, 60)["step_modes"], "a new one answers"
        worker.send("threads", run, seconds=60, counts=(1,))
        assert worker._process is not None
        worker._process.kill()
        with pytest.raises(PartFailedError, match="the measuring process died"):
            worker.receive(60)
    finally:
        worker.close()


def test_runs_at_once_in_processes_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    class Member(Worker):
        def send(self, kind: str, config: RunConfig, **options: Any) -> None:
            self.answer = {"net": "ResNet-8"} if kind == "prepare" else {"images_per_second": 7.0}

        def receive(self, limit: float) -> dict[str, Any]:
            assert 0 < limit <= 10
            return self.answer

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(bench_module, "Worker", Member)
    (part,) = planned(tmp_path, "processes")
    found = Workers().measure(dataclasses.replace(part, options={"counts": (1, 3)}), 10)
    assert [(row["runs"], row["images_per_second"]) for row in found["rows"]] == [(1, 7.0), (3, 21.0)]
    assert (found["net"], found["how"], len(closed)) == ("ResNet-8", "processes", 3)


# --- the command --------------------------------------------------------------------------------------------------

SMOKE = ["data=synthetic", "scale=smoke", "execution.threads=1", "device=cpu", "model.depth=8"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))
    return tmp_path


def test_quick_prints_tables_and_keeps_every_round(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shortened(*arguments: Any) -> list[Part]:
        return [dataclasses.replace(part, seconds=0.2) for part in quick_parts(*arguments)]

    monkeypatch.setattr(bench_module, "quick_parts", shortened)
    path = folders / "bench.json"
    assert main(["bench", "--quick", "--minutes", "3", "--json", str(path), *SMOKE]) == 0
    said = capsys.readouterr().out
    assert "ResNet-8" in said and "textbook" in said and "schedule" in said
    document = json.loads(path.read_text())
    assert {"schema", "extent", "command", "minutes", "started", "finished", "environment", "device", "parts"} <= set(
        document
    )
    assert document["schema"] == 1
    assert document["finished"]
    assert document["environment"]["commit"]
    assert document["command"] == "repro bench --quick " + " ".join(SMOKE)
    device = document["device"]
    assert (device["device"], device["threads"], device["torch"]) == ("cpu", 1, torch.__version__)
    assert (device["data"], device["data_stands_in"]) == ("synthetic", False)
    assert device["spin"] == spin_settings() != {}
    assert [part["state"] for part in document["parts"]] == ["done"] * 3
    (measured,) = [part["result"] for part in document["parts"] if part["kind"] == "case"]
    assert measured["flops_share"] > 0
    assert not list(folders.glob("*.tmp"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["modle.depth=20"], "did you mean 'model.depth'?"),
        (["model.depth=21"], "for example 20 or 26"),
        (["model.depth=20", "model.depth=32"], "model.depth is given twice"),
        (["execution.step=grph"], "did you mean 'graph'?"),
        (["--all", "model.depth=20"], "--all measures a list of its own; leave out model.depth="),
        (["--all", "--quick"], "not allowed with argument"),
        (["--minutes", "0"], "--minutes 0 must be above 0"),
        (["--minutes", "nan"], "must be above 0"),
        (["--json", "nowhere/bench.json"], "is not there"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
