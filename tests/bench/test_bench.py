"""`repro bench`: complete and correct measurements, with failures and the end of the time costing one part each.

No test asserts a speed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from repro.bench import Document, bench, carried_out, choose
from repro.bench.measure import data_of
from repro.bench.parts import Choice, Part, all_parts, quick_parts, usual_parts
from repro.bench.roofline import passed_values, work_of
from repro.bench.tables import report
from repro.bench.textbook import MEAN, STD, PilImages, Textbook, torch_defaults
from repro.bench.timing import alternate, repeat
from repro.bench.worker import UNBOUNDED, PartFailedError, Worker, ask, measure_part
from repro.cli.main import main
from repro.config.run import RunConfig
from repro.data import Split
from repro.data.batches import train_feed
from repro.models.blocks import BasicBlock, Bottleneck
from repro.runtime.log import LOGGER, Lines
from repro.runtime.openmp import BOUNDED
from tests.runs import config

GPU = {"device": "cuda", "best_step": "graph", "step_modes": ["eager", "graph", "compile"], "bf16": True, "threads": 8}
CPU = {"device": "cpu", "best_step": "eager", "step_modes": ["eager", "compile"], "bf16": False, "threads": 2}


def small(folder: Path, *words: str) -> RunConfig:
    return config(folder, "model.depth=8", "execution.step=eager", *words)


# --- the least work -----------------------------------------------------------------------------------------------


def test_least_traffic_of_one_layer_and_of_blocks_by_hand() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(3, 4, 3, padding=1)
        assert passed_values(layer, torch.empty(2, 3, 8, 8)) == 6 * 2 * 4 * 8 * 8
        model = dataclasses.replace(paper_net(20), bn_group_size=2)
        image = torch.empty(1, 16, 8, 8)
        plain = BasicBlock(16, 16, 1, dataclasses.replace(model, shortcut="none")).eval()
        assert passed_values(BasicBlock(16, 16, 1, model).eval(), image) == (2 * 6 + 4) * 16 * 8 * 8
        assert passed_values(plain, image) == 2 * 6 * 16 * 8 * 8
        assert passed_values(Bottleneck(16, 16, 1, model).eval(), image) == (6 * (4 + 4 + 16) + 4 * 16) * 8 * 8


def paper_net(depth: int) -> Any:
    return dataclasses.replace(choose([], everything=False).configs[0].model, depth=depth)


def test_work_of_the_papers_nets() -> None:
    values = 7 * 16 * 32**2 + 6 * 32 * 16**2 + 6 * 64 * 8**2
    sums = 3 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)
    flops, traffic = work_of(paper_net(20), 32, 10, "bf16")
    assert traffic == 2 * (6 * values + 4 * sums)
    assert work_of(paper_net(20), 32, 10, "tf32")[1] == 2 * traffic
    images = 64_000 * 128
    assert flops * images == pytest.approx(2.0e15, rel=0.01)
    assert work_of(paper_net(110), 32, 10, "fp32")[0] * images == pytest.approx(12.4e15, rel=0.01)


# --- timing -------------------------------------------------------------------------------------------------------


def test_rounds_fill_the_time_and_stop_where_the_machine_slows_down() -> None:
    found = repeat(lambda count: 0.01 * count, 1.0)
    assert (found["count"], len(found["rounds"]), found["median"]) == (20, 5, pytest.approx(10))
    slow = iter([0.01, 5.0, 5.0])
    assert len(repeat(lambda count: next(slow), 1.0)["rounds"]) == 2


def test_pairs_take_turns_in_who_begins() -> None:
    log = []

    def action(name: str, seconds: float) -> Any:
        def run(count: int) -> float:
            log.append(name)
            return seconds * count

        return run

    found = alternate(action("ours", 0.01), action("theirs", 0.02), 3.0, 2)
    assert "".join(name[0] for name in log) == "ot" + "ot" + "to" + "ot" + "to" + "ot"
    assert found["ours_ms"]["count"] == found["theirs_ms"]["count"] == 20
    assert found["ratio"]["median"] == pytest.approx(2)


# --- a whole bench ------------------------------------------------------------------------------------------------


def shortened(choice: Choice, device: Document) -> list[Part]:
    first = choice.configs[0]
    return [
        *(dataclasses.replace(part, seconds=0.2) for part in quick_parts(choice, device)),
        Part("threads", "together", first, 0.2, {"counts": (1, 2)}),
        Part("nonsense", "nonsense", first, 0.2),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, str]:
    """Run a bench with several kinds of part, one of which fails; return its document and the lines for its user."""
    folder, lines = tmp_path_factory.mktemp("bench"), list[str]()
    handler, level = Lines(lines.append), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    path = folder / "bench.json"
    try:
        assert bench(Choice([small(folder)], {"model.depth"}), "short", 5, "a command", path, shortened) == 1
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
    assert not list(folder.glob("*.tmp"))
    return json.loads(path.read_text()), "\n".join(lines)


def result(document: Document, kind: str) -> Document:
    (found,) = [part["result"] for part in document["parts"] if part["kind"] == kind]
    return dict(found)


def test_a_bench_keeps_what_was_measured_where_and_how(whole: tuple[Document, str]) -> None:
    document, _ = whole
    kept = (document["schema"], document["extent"], document["command"], document["minutes"])
    assert kept == (2, "short", "a command", 5)
    assert document["started"] <= document["finished"]
    assert document["environment"]["commit"]
    device = document["device"]
    assert (device["device"], device["threads"], device["torch"]) == ("cpu", 1, torch.__version__)
    assert (device["data"], device["data_stands_in"]) == ("synthetic", False)
    assert isinstance(device["spin"], dict)


def test_a_failing_part_does_not_cost_the_others(whole: tuple[Document, str]) -> None:
    document, said = whole
    states = {part["kind"]: part["state"] for part in document["parts"]}
    assert states.pop("nonsense") == "failed"
    assert states == dict.fromkeys(("pairs", "ceilings", "case", "threads"), "done")
    assert "[5/5] nonsense: failed, KeyError: 'nonsense'" in said
    assert report(document) in said
    assert "failed: nonsense (KeyError: 'nonsense')" in report(document)


def test_a_case_has_every_figure(whole: tuple[Document, str]) -> None:
    found, highest = result(whole[0], "case"), result(whole[0], "ceilings")
    assert (found["net"], found["arithmetic"], found["step"]) == ("ResNet-8", "fp32", "eager")
    assert (found["batch_size"], found["image_size"]) == (16, 8)
    for name in ("startup_seconds", "images_per_second", "flops_per_second", "bytes_per_second", "projected_seconds"):
        assert 0 < found[name] < math.inf
    for times in (found["step_ms"], found["loop_ms"]):
        assert 0 < times["min"] <= times["median"] <= times["max"] < math.inf
        assert len(times["rounds"]) >= 2
    assert found["images_per_second"] == pytest.approx(1000 * 16 / found["loop_ms"]["median"])
    assert found["peak_reserved_bytes"] is None, "of a GPU only"
    assert set(highest["flops_per_second"]) == {"fp32", "tf32", "bf16"}
    share = 100 * found["flops_per_second"] / highest["flops_per_second"]["fp32"]
    assert f" {share:.0f} % " in report(whole[0])


def test_pairs_compare_equal_numbers_of_steps(whole: tuple[Document, str]) -> None:
    found = result(whole[0], "pairs")
    ours, theirs, ratio = found["ours_ms"], found["theirs_ms"], found["ratio"]
    assert ratio["pairs"] == pytest.approx([t / o for o, t in zip(ours["rounds"], theirs["rounds"], strict=True)])
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert ours["count"] == theirs["count"] >= 1
    assert f"({multiprocessing.get_start_method()})" in found["beside"], "the system's way, as in scripts"


def test_runs_at_once_add_up(whole: tuple[Document, str]) -> None:
    rows = result(whole[0], "threads")["rows"]
    assert [row["runs"] for row in rows] == [len(row["each"]) for row in rows] == [1, 2]
    assert all(row["images_per_second"] == pytest.approx(sum(row["each"])) for row in rows)
    assert f"{rows[1]['images_per_second'] / rows[0]['images_per_second']:.2f}" in report(whole[0])


def test_made_images_stand_in_for_cifar10(tmp_path: Path) -> None:
    paper = choose([], everything=False).configs[0].data
    assert data_of(dataclasses.replace(paper, image_size=8), tmp_path).name == "synthetic"


# --- processes ----------------------------------------------------------------------------------------------------


def test_a_process_that_hangs_or_dies_ends_its_part_alone(tmp_path: Path) -> None:
    with Worker() as worker:
        with pytest.raises(PartFailedError, match="not done in time"):
            ask([worker], time.monotonic(), "busy", small(tmp_path))
        worker.send("busy", small(tmp_path))
        worker._process.kill()
        with pytest.raises(PartFailedError, match="the measuring process died"):
            worker.receive(60)


@pytest.mark.slow
def test_the_bounded_spin_is_timed_alone_and_beside_a_busy_process(tmp_path: Path) -> None:
    part = Part("spin", "spin", small(tmp_path, "execution.threads=2"), 0.4)
    with Worker(UNBOUNDED) as worker:
        found = measure_part(worker, part, time.monotonic() + 120)
        (device,) = ask([worker], time.monotonic() + 120, "device", part.config)
    assert [row["beside"] for row in found["rows"]] == ["nothing", "a busy process"]
    assert all(row["bounded_ms"] > 0 and row["default_ms"] > 0 for row in found["rows"])
    assert device["spin"] == UNBOUNDED != BOUNDED, "settings reach a process before it imports torch"
    document = {"parts": [{"kind": "spin", "label": "spin", "state": "done", "result": found}]}
    assert "a busy process" in report(document)


@pytest.mark.slow
def test_the_ways_to_run_several_at_once_are_compared_and_one_that_fails_is_named(tmp_path: Path) -> None:
    ways = ("threads", "processes", "branches")
    part = Part("together", "at once", small(tmp_path), 0.6, {"ways": ways, "counts": (1, 2)})
    with Worker() as worker:
        found = measure_part(worker, part, time.monotonic() + 300)
    rows = [(row["how"], row["runs"]) for row in found["rows"]]
    assert rows == [(how, runs) for how in ("threads", "processes, no MPS") for runs in (1, 2)]
    assert all(row["images_per_second"] == pytest.approx(sum(row["each"])) for row in found["rows"])
    assert found["failed"].keys() == {"branches"}, "a CPU has no graph"
    document = {"parts": [{"kind": "together", "label": "at once", "state": "done", "result": found}]}
    assert "processes, no MPS" in report(document)
    assert "failed: at once in branches" in report(document)


def test_what_the_time_is_too_short_for_is_left_out(tmp_path: Path) -> None:
    part, deadlines = Part("pairs", "pairs", small(tmp_path), 1), list[float]()

    def measured(part: Part, deadline: float) -> Document:
        deadlines.append(deadline)
        return {"ratio": {}}

    now = time.monotonic()
    states = [carried_out(part, now + left, measured)["state"] for left in (6, 1)]
    assert states == ["done", "left out"]
    assert deadlines == [now + 6], "not the part's own limit"


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


def test_textbook_images_are_flipped_half_the_time() -> None:
    left = np.zeros((1, 32, 32, 3), np.uint8)
    left[:, :, :8] = 255
    images = PilImages(Split("train", left, np.array([0])), pad=0)
    flipped = sum(bool(images[0][0][0, 0, -1] > images[0][0].mean()) for _ in range(200))
    assert 60 < flipped < 140


def test_textbook_batches_have_mean_zero_and_deviation_one_on_pixels_like_cifars() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.normal(np.array(MEAN), np.array(STD) / 2, (64, 32, 32, 3)).clip(0, 1) * 255
    images = PilImages(Split("train", pixels.astype(np.uint8), np.zeros(64, np.int64)), pad=0)
    batch = torch.stack([images[i][0] for i in range(64)])
    assert batch.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=0.03)
    assert batch.std((0, 2, 3)).tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.03)


@pytest.mark.parametrize(("older", "newer"), [("high", "tf32"), ("highest", "ieee")])
def test_the_textbook_sets_both_flags_of_a_products_precision_and_puts_them_back(older: str, newer: str) -> None:
    """If the two flags differ, torch refuses all products on a GPU and cannot report ``allow_tf32``."""
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
    dataset = data_of(run.data, run.paths.data)
    textbook = Textbook(run, dataset, train_feed(dataset, run, torch.device("cpu")))
    before = [p.detach().clone() for p in textbook.model.parameters()]
    workers = list(textbook._workers)
    assert workers
    try:
        assert textbook.run(3) > 0
        assert all(wait_for_state(pid, "T") for pid in workers)
        assert any(bool((a != b).any()) for a, b in zip(before, textbook.model.parameters(), strict=True)), "it trains"
    finally:
        textbook.close()
    assert all(wait_for_state(pid, "") for pid in workers), "they ended"
    assert flags == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)


def wait_for_state(pid: int, wanted: str) -> bool:
    """Return whether a process reaches a state of /proc within seconds; the empty state is its end."""
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
    assert "model.depth" in choice.said
    assert len(choice.configs) == 8
    assert {c.execution.step for c in choice.configs} == {"eager", "compile"}
    assert {c.seed for c in choice.configs} == {0}


def cases(parts: list[Part]) -> list[tuple[int, str, str]]:
    configs = [part.config for part in parts if part.kind == "case"]
    return [(c.model.depth, c.optim.precision, c.execution.step) for c in configs]


def test_what_is_measured_where_no_net_is_named() -> None:
    choice = choose([], everything=False)
    cpu, gpu = usual_parts(choice, CPU), usual_parts(choice, GPU)
    assert cases(cpu) == [(20, "tf32", "eager"), (20, "tf32", "compile")]
    assert [p.kind for p in cpu] == ["ceilings", "case", "pairs", "spin", "case"]
    assert cases(gpu)[:4] == [*((depth, "tf32", "graph") for depth in (20, 56, 110)), (20, "bf16", "graph")]
    assert set(cases(gpu)[4:]) == {(depth, "tf32", mode) for depth in (20, 56, 110) for mode in ("eager", "compile")}
    assert [p.config.model.depth for p in gpu if p.kind == "pairs"] == [20, 56, 110]
    assert [p.options["ways"] for p in gpu if p.kind == "together"] == [("threads", "processes", "branches")]
    eager = usual_parts(choose(["execution.step=eager"], everything=False), GPU)
    assert [p.options["ways"] for p in eager if p.kind == "together"] == [("threads", "processes")]
    quick = quick_parts(choice, CPU)
    assert [p.kind for p in quick] == ["pairs", "ceilings", "case"]
    assert {p.config.execution.step for p in quick} == {"eager"}, "compiling takes too long"


def test_a_cpu_with_bfloat16_shows_it_beside_single_precision() -> None:
    parts = usual_parts(choose([], everything=False), CPU | {"bf16": True, "threads": 1})
    assert cases(parts)[:2] == [(20, "tf32", "eager"), (20, "bf16", "eager")]
    assert "spin" not in {p.kind for p in parts}, "one thread waits for none"
    said = usual_parts(choose(["optim.precision=fp32"], everything=False), CPU | {"bf16": True})
    assert {precision for _, precision, _ in cases(said)} == {"fp32"}


def test_all_covers_the_targets_in_eight_minutes_the_first_first() -> None:
    parts = all_parts(choose([], everything=True), GPU)
    seen = set(cases(parts))
    assert {(d, "tf32", "graph") for d in (20, 110, 1202)} <= seen
    assert {(d, p, "graph") for d in (20, 110) for p in ("tf32", "bf16", "fp32")} <= seen
    assert {(d, "tf32", s) for d in (20, 110) for s in ("eager", "graph", "compile")} <= seen
    modes = [mode for _, _, mode in cases(parts)]
    assert modes.index("compile") < modes.index("eager"), "it may be the faster one"
    configs = [p.config for p in parts if p.kind == "case"]
    assert {c.model.depth for c in configs if not c.execution.deterministic} == {20, 110}
    assert [c.model.depth for c in configs if c.execution.checkpoint_activations] == [1202]
    assert [p.kind for p in parts][:5] == ["ceilings", "case", "pairs", "together", "case"]
    assert sum(p.seconds for p in parts) < 0.6 * 8 * 60, "the rest is for starting up"


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_is_kept_with_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[tuple[Any, ...]]()

    def taken(*arguments: Any) -> int:
        given.append(arguments)
        return 0

    monkeypatch.setattr("repro.bench.bench", taken)
    monkeypatch.setenv("REPRO_WORK", str(tmp_path))
    words, path = ["data=synthetic", "scale=smoke", "model.depth=8"], tmp_path / "bench.json"
    assert main(["bench", "--quick", "--minutes", "2", "--json", str(path), *words]) == 0
    ((choice, *others),) = given
    assert [config.model.depth for config in choice.configs] == [8]
    assert others == ["quick", 2, "repro bench --quick " + " ".join(words), path]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["execution.step=graph", "device=cpu"], "execution.step=graph cannot run on device=cpu"),
        (["modle.depth=20"], "did you mean 'model.depth'?"),
        (["model.depth=20", "model.depth=32"], "model.depth is given twice"),
        (["--all", "model.depth=20"], "--all measures a list of its own; leave out model.depth="),
        (["--all", "--quick"], "not allowed with argument"),
        (["--minutes", "0"], "--minutes 0 must be above 0"),
        (["--minutes", "nan"], "must be above 0"),
        (["--json", "nowhere/bench.json"], "--json nowhere/bench.json"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
