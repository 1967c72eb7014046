"""Output that cannot be written: readers that close, full disks, closed streams, unencodable characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from repro.runtime.output import ERRORS, Outlet, steady

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")

RUN = (
    *("run", "data=synthetic", "scale=smoke", "model.depth=8", "seed=0,1", "device=cpu", "execution.threads=1"),
    *("eval.train_error=false", "optim.steps=2", "optim.milestones=[]"),
)


def command(folder: Path, *words: str, **settings: str) -> list[str]:
    environment = {"REPRO_DATA": "data", "REPRO_WORK": "work", "REPRO_RESULTS": "results"}
    named = [f"{name}={folder / value}" for name, value in environment.items()]
    given = [f"{name}={value}" for name, value in settings.items()]
    return ["env", *named, *given, sys.executable, "-m", "repro", *words]


def records(folder: Path) -> int:
    return len(list((folder / "work").glob("*/record.json")))


@pytest.mark.slow
@pytest.mark.parametrize("words", [("execution.parallel=2",), ("execution=ddp", "seed=0")])
def test_training_goes_on_without_a_reader(tmp_path: Path, words: tuple[str, ...]) -> None:
    given = {word.partition("=")[0] for word in words}
    all_words = [*(word for word in RUN if word.partition("=")[0] not in given), *words]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command(tmp_path, *all_words), stdout=write, stderr=write, check=False, timeout=120)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert records(tmp_path) == (1 if "seed" in given else 2)


def test_a_failed_run_is_no_success_without_a_reader(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(tmp_path, *RUN, "optim.lr=1e30"), stdout=full, check=False, timeout=120)
    assert done.returncode == 1
    assert records(tmp_path) == 0


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(("list",), ""), (("list",), "1"), (("--help",), ""), (("run", "--help"), "")]
)
def test_what_only_prints_fails_on_a_full_device_and_not_for_a_reader_that_leaves(
    tmp_path: Path, words: tuple[str, ...], unbuffered: str
) -> None:
    given = command(tmp_path, *words, PYTHONUNBUFFERED=unbuffered)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(given, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "repro: not all output could be written (No space left on device)\n")
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_streams_that_the_caller_has_closed_are_nobody_elses(tmp_path: Path) -> None:
    script = '"$@" >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *command(tmp_path, *RUN)], check=False, timeout=120)
    assert done.returncode == 0
    assert records(tmp_path) == 2


@pytest.mark.slow
def test_no_command_fails_for_a_character(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        given = command(tmp_path, *words, PYTHONIOENCODING="ascii:strict")
        done = subprocess.run(given, capture_output=True, text=True, encoding="ascii", check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder = f"paths.work={tmp_path}/w→☃"
    said(*(word for word in RUN if not word.startswith("seed=")), folder)
    assert r"w->\u2603" in said("status", f"{folder}/none")
    for words in (("list",), ("table", "6")):
        assert said(*words)


def test_signs_are_shown_by_others_that_mean_the_same() -> None:
    steady()
    assert "−0.33 ± 1 × über".encode("ascii", ERRORS) == rb"-0.33 +/- 1 x \xfcber"


def test_a_pipe_that_another_process_made_non_blocking_takes_everything() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    size = 1_000_000
    with subprocess.Popen(["wc", "-c"], stdin=read, stdout=subprocess.PIPE, text=True) as reader:
        os.close(read)
        with open(write, "wb", buffering=0) as raw:  # noqa: PTH123
            assert Outlet(raw).write(b"x" * size) == size
        assert reader.stdout is not None and int(reader.stdout.read()) == size
