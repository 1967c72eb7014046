"""Whole runs on the CPU: their files, and equal bits after an interruption."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from repro.config.run import RunConfig
from repro.data import Dataset, load
from repro.engine.run import run
from repro.errors import InputError, RunError
from repro.results.read import read_record
from repro.runtime import checkpoint
from repro.runtime.provenance import environment
from repro.runtime.stop import Stopper
from tests.runs import StopAfter, config, same_weights, weights


def dataset(of: RunConfig) -> Dataset:
    return load(of.data, of.paths.data, may_fetch=False)


def go(of: RunConfig, stopper: Stopper | None = None) -> dict[str, Any] | None:
    record = run(of, dataset(of), stopper or Stopper(None))
    return None if record is None else record.to_json()


def test_a_run_leaves_a_record_that_can_be_read_and_a_curve_that_agrees_with_it(tmp_path: Path) -> None:
    one = config(tmp_path)
    record = go(one)
    assert record is not None
    checked = read_record(one.work_dir / "record.json")
    assert checked.params == 269_722
    assert checked.steps == 8
    assert checked.result.final.images == 128
    assert checked.result.train is not None
    assert checked.result.train.images == 256
    assert checked.result.train_running is not None
    assert checked.result.train_running.images == 4 * 16
    rows = list(csv.DictReader((one.work_dir / "curve.csv").open()))
    assert [int(row["step"]) for row in rows] == [4, 8]
    assert float(rows[-1]["eval_error"]) == checked.result.final.top1_error
    assert [float(row["lr"]) for row in rows] == [0.02, 0.002]
    provenance = record["provenance"]
    assert provenance["precision"] == "fp32", "TF32 is a permission that a CPU cannot use"
    assert provenance["data_digests"]
    assert any(package.startswith("torch==") for package in provenance["packages"])
    assert str(tmp_path) not in json.dumps(record), "a record names no folder of this machine"


def test_curves_of_tensorboard_have_training_and_test_error(tmp_path: Path) -> None:
    one = config(tmp_path)
    go(one)
    events = EventAccumulator(str(one.work_dir)).Reload()
    assert {"error/train", "error/test", "loss/train", "schedule/lr"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("error/test")] == [4, 8]


def test_run_to_run_is_bit_identical_and_another_seed_is_not(tmp_path: Path) -> None:
    one, two, other = config(tmp_path / "1"), config(tmp_path / "2"), config(tmp_path / "1", "seed=1")
    for each in (one, two, other):
        go(each)
    assert same_weights(one, two)
    assert not same_weights(one, other)
    assert (one.work_dir / "curve.csv").read_text() == (two.work_dir / "curve.csv").read_text()


@pytest.mark.parametrize(
    "words",
    [
        *([], ["optim.momentum_form=caffe", "model.shortcut=B"], ["eval.bn_stats=recomputed"]),
        pytest.param(["device=cuda", "execution.step=graph"], marks=pytest.mark.gpu),
        pytest.param(["device=cuda", "execution.step=compile"], marks=[pytest.mark.gpu, pytest.mark.slow]),
    ],
)
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorBoard sorts the files of one second by their number in the process, as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
    whole, broken = config(tmp_path / "1", *words), config(tmp_path / "2", *words)
    expected = go(whole)
    pieces = 0
    while (found := go(broken, StopAfter(0))) is None and pieces < 20:
        pieces += 1
    assert 1 < pieces < 20, "each piece goes on where the last one ended"
    assert same_weights(whole, broken)
    assert expected is not None
    assert found is not None
    assert found["result"] == expected["result"]
    assert (whole.work_dir / "curve.csv").read_text() == (broken.work_dir / "curve.csv").read_text()
    events = EventAccumulator(str(broken.work_dir)).Reload()
    assert [e.step for e in events.Scalars("error/test")] == [4, 8], "no step is doubled or missing"


def test_going_on_under_another_setting_says_that_bits_differ(tmp_path: Path, told: list[str]) -> None:
    one, other = config(tmp_path), config(tmp_path, "execution.threads=2")
    assert go(one, StopAfter(0)) is None
    assert go(one, StopAfter(0)) is None
    assert "not to the last bit" not in " ".join(told)
    assert go(other) is not None
    assert "threads 1 → 2" in told[-1]
    assert "not to the last bit" in told[-1]


def test_the_log_interval_moves_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, slow = (config(tmp_path / name, f"execution.log_steps={n}") for name, n in (("1", 2), ("2", 7), ("3", 7)))
    expected = (go(one) or {})["result"]
    assert (go(two) or {})["result"] == expected
    monkeypatch.setattr("repro.engine.loop.READ_SECONDS", 0.0)  # read every step, as if they were slow
    assert (go(slow) or {})["result"] == expected
    assert same_weights(one, two) and same_weights(one, slow)


def test_until_80_keeps_its_step_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.engine.loop.WARMUP_ERROR", 101.0)  # the first check stops it
    words = ["optim.warmup=until_80", "optim.steps=60", "optim.milestones=[]", "optim.warmup_lr=0.05"]
    whole, broken = config(tmp_path / "1", *words), config(tmp_path / "2", *words)
    go(whole)
    while go(broken, StopAfter(4)) is None:  # also at step 50
        pass
    ends = [checkpoint.load(c.work_dir / checkpoint.FINAL)["state"]["warmup_end"] for c in (whole, broken)]
    assert ends == [50, 50]
    assert same_weights(whole, broken)


def test_a_kill_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    whole, killed = config(tmp_path / "1", "optim.steps=40"), config(tmp_path / "2", "optim.steps=40")
    go(whole)
    words = ["optim.steps=40", "data=synthetic", "scale=smoke", "execution.threads=1", "device=cpu"]
    command = [sys.executable, "-m", "repro", "run", *words, f"paths.work={killed.paths.work}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not checkpoint.checkpoints(killed.work_dir) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.checkpoints(killed.work_dir)
    assert not (killed.work_dir / "record.json").exists(), "it was to be killed before its end"
    record = go(killed)
    assert record is not None
    assert record["provenance"]["resumed_at"]
    assert same_weights(whole, killed)


def test_a_record_tells_of_every_process_that_made_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    one = dataclasses.replace(config(tmp_path), scale="paper")
    for commit, dirty, stopper in (("1" * 40, "1", StopAfter(0)), ("2" * 40, "0", Stopper(None))):
        monkeypatch.setenv("REPRO_COMMIT", commit)
        monkeypatch.setenv("REPRO_DIRTY", dirty)
        environment.cache_clear()
        record = go(one, stopper)
    environment.cache_clear()
    assert any("1111111" in line and "2222222" in line for line in told)
    assert any(f"not count as measured; move {one.work_dir}" in line for line in told)
    assert record is not None
    made = record["provenance"]
    assert [(p["commit"][0], p["dirty"], p["from_step"] > 0) for p in made["parts"]] == [
        ("1", True, False),
        ("2", False, True),
    ]
    assert made["dirty"] is True, "steps of a changed tree are among them"
    assert made["resumed_at"] == made["parts"][1]["from_step"]
    assert made["started"] == made["parts"][0]["started"] <= made["finished"]


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    # No checkpoint is due by time, so the one that exists afterwards was written on the signal.
    words = ["model.depth=8", "optim.steps=400", "execution.checkpoint_seconds=1e6"]
    one = config(tmp_path, *words)
    settings = [*words, "data=synthetic", "scale=smoke", "execution.threads=1", "device=cpu"]
    command = [sys.executable, "-m", "repro", "run", *settings, f"paths.work={one.paths.work}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 300
    while not (one.work_dir / "progress.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert not checkpoint.checkpoints(one.work_dir)
    process.terminate()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "the same command resumes" in said
    (saved,) = checkpoint.checkpoints(one.work_dir)
    record = go(one)
    assert record is not None
    assert saved.name == f"step_{record['provenance']['resumed_at']:08d}.pt"


def test_another_runs_folder_is_not_touched(tmp_path: Path) -> None:
    one = config(tmp_path)
    go(one)
    stored = one.work_dir / "config.json"
    stored.write_text(stored.read_text().replace(one.fingerprint, "0123456789abcdef"))
    before = sorted(p.name for p in one.work_dir.iterdir())
    with pytest.raises(InputError, match="holds another run"):
        go(one)
    assert sorted(p.name for p in one.work_dir.iterdir()) == before


def test_a_loss_that_is_not_finite_ends_the_run_with_its_last_good_checkpoint(tmp_path: Path) -> None:
    good = config(tmp_path, "optim.steps=40", "optim.milestones=[]", "execution.log_steps=1")
    assert go(good, StopAfter(3)) is None
    (saved,) = checkpoint.checkpoints(good.work_dir)[-1:]
    payload = checkpoint.load(saved)
    payload["model"]["fc.bias"].fill_(float("nan"))
    checkpoint.save(saved, payload)
    with pytest.raises(RunError, match=rf"the loss is nan at step \d+, learning rate 0\.02; .*{saved.name}"):
        go(good)
    assert not (good.work_dir / "record.json").exists()


def test_a_full_disk_ends_the_run_and_the_same_command_resumes(tmp_path: Path) -> None:
    whole, full = config(tmp_path / "1", "optim.steps=40"), config(tmp_path / "2", "optim.steps=40")
    go(whole)
    assert go(full, StopAfter(2)) is None
    kept = [p.name for p in checkpoint.checkpoints(full.work_dir)]
    # With a limit on the size of files, writing fails as on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(RunError, match=r"cannot be written \(.*is kept"):
            go(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in checkpoint.checkpoints(full.work_dir)] == kept
    assert not list(full.work_dir.glob("*.tmp"))
    go(full)
    assert same_weights(whole, full)


def test_answers_that_overflow_are_no_reason_to_lose_a_run(tmp_path: Path) -> None:
    """A deep plain net trains well while its running averages are still far from the true statistics."""
    one = config(tmp_path, "model.depth=110", "model.shortcut=none", "optim.steps=2", "optim.milestones=[]")
    assert go(one) is not None
    record = read_record(one.work_dir / "record.json")
    assert record.result.final.loss is None and record.result.final.errors > 0
    assert len(record.responses) == 109 and None in [response.std for response in record.responses]


def test_training_learns(tmp_path: Path) -> None:
    """Eighty steps on the built-in images are much better than chance, which a broken gradient, label or crop would not
    be."""
    words = ["optim.steps=80", "optim.milestones=[]", "optim.batch_size=32", "data.image_size=16"]
    one = config(tmp_path, *words, "data.train_images=1000", "data.test_images=500", "eval.every_steps=40")
    record = go(one)
    assert record is not None
    assert record["result"]["train"]["top1_error"] < 70
    assert record["result"]["final"]["top1_error"] < 75


def test_images_that_are_asked_for_are_counted_whatever_the_batch(tmp_path: Path) -> None:
    one = config(tmp_path, "data.test_images=101", "execution.eval_batch_size=16")
    two = config(tmp_path / "2", "data.test_images=101", "execution.eval_batch_size=101")
    counts = [(go(each) or {})["result"]["final"] for each in (one, two)]
    assert [c["images"] for c in counts] == [101, 101]
    assert counts[0]["errors"] == counts[1]["errors"]


def test_bf16_keeps_float32_weights(tmp_path: Path) -> None:
    one = config(tmp_path, "optim.precision=bf16")
    record = go(one)
    assert record is not None
    assert record["provenance"]["precision"] == "bf16"
    assert {w.dtype for w in weights(one).values()} == {torch.float32, torch.int64}


def test_val5k_is_the_evaluated_split_of_train45k(tmp_path: Path) -> None:
    one = config(tmp_path, "data.split=train45k")
    record = go(one)
    assert record is not None
    assert record["result"]["final"]["split"] == "val5k"
    assert dataclasses.asdict(read_record(one.work_dir / "record.json").result.final)["split"] == "val5k"


def test_signals_and_gradients_are_kept_once_an_evaluation_through_stops(tmp_path: Path) -> None:
    words = ("model.depth=8", "eval.gradient_flow=true")
    whole, broken = config(tmp_path / "1", *words), config(tmp_path / "2", *words)
    expected = go(whole)
    while (found := go(broken, StopAfter(0))) is None:
        pass
    assert expected is not None
    assert [entry["step"] for entry in expected["flow"]] == [0, 4, 8]
    assert found["flow"] == expected["flow"]
    checked = read_record(whole.work_dir / "record.json")
    assert [len(flow.layers) for flow in checked.flow] == [7, 7, 7], "6n+1 layers"


def test_a_run_made_from_a_shallow_one_ends_with_the_same_bits_wherever_it_was_stopped(tmp_path: Path) -> None:
    words = ("model.depth=14", "model.shortcut=A", "model.constructed_from=8")
    whole, broken = config(tmp_path / "1", *words), config(tmp_path / "2", *words)
    assert go(whole) is not None
    pieces = 0
    while go(broken, StopAfter(0)) is None:
        pieces += 1
        assert pieces < 30
    assert pieces > 4, "within the shallow run, and within the deep one"
    assert same_weights(whole, broken)
    for of in (whole, broken):
        begun = read_record(of.work_dir / "record.json").construction
        (shallow,) = (of.work_dir / "shallow").glob("*/record.json")
        assert begun is not None
        assert begun.from_run == shallow.parent.name
        assert (begun.deep_errors, begun.changed, begun.images) == (begun.shallow_errors, 0, 128)
