"""The failure of one run, as one sentence and a file in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
import torch

from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.launch.attempts import attempt
from repro.launch.outcome import Outcome
from repro.runtime.lock import hold
from repro.runtime.stop import Stopper
from tests.runs import config


def go(run: RunConfig, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("repro.launch.attempts.run_any", fail)
    monkeypatch.setattr("repro.launch.attempts.torchrun.train", fail)
    return attempt(run, lambda _: None, Stopper(None))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("error", "reason", "sound"),
    [
        (RunError("the loss is nan"), "the loss is nan", True),
        (InputError("the folder holds another run"), "the folder holds another run", True),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "out of memory (CUDA out of memory.): ", True),
        (RuntimeError("CUDA error: an illegal access\nmore"), "RuntimeError: CUDA error: an illegal access (", False),
    ],
)
def test_an_error_is_a_reason_and_only_a_fault_spoils_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, sound: bool
) -> None:
    run = config(tmp_path)
    outcome = go(run, error, monkeypatch)
    assert (outcome.state, outcome.sound) == ("failed", sound)
    assert outcome.reason.startswith(reason) and "\n" not in outcome.reason
    assert str(error) in (run.work_dir / "failure.txt").read_text()


def test_a_run_on_several_devices_takes_its_own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rank takes the lock, so the launcher must leave it free."""
    run = config(tmp_path, "execution=ddp", "model.bn_group_size=8")

    def train(*_: object) -> Outcome:
        with hold(run.work_dir):
            return Outcome("done")

    monkeypatch.setattr("repro.launch.attempts.torchrun.train", train)
    assert attempt(run, lambda _: None, Stopper(None)) == Outcome("done")  # type: ignore[arg-type, return-value]
    assert go(run, RunError("rank 1 was killed"), monkeypatch).reason == "rank 1 was killed"
