"""Checkpoints: written atomically, two kept, and a damaged one replaced by the previous one."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.errors import RunError
from repro.runtime import checkpoint


def fill(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(checkpoint.step_path(folder, step), {"model": {"w": torch.full((3,), float(step))}})


def test_the_last_two_are_kept_and_the_final_one_is_last(tmp_path: Path) -> None:
    fill(tmp_path, 5, 10, 15)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step_00000010.pt", "step_00000015.pt"]
    checkpoint.save(tmp_path / checkpoint.FINAL, {"model": {}})
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step_00000015.pt", "final.pt"]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered", "foreign"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: str, told: list[str]
) -> None:
    fill(tmp_path, 5, 10)
    newest = checkpoint.step_path(tmp_path, 10)
    whole = newest.read_bytes()
    middle = len(whole) // 2
    newest.write_bytes(
        {
            "truncated": whole[:middle],
            "empty": b"",
            "altered": b"garbage" + whole[7:],
            "foreign": b"not a checkpoint at all",
        }[damage]
    )
    found = checkpoint.load_latest(tmp_path)
    assert found is not None
    assert found[0].name == "step_00000005.pt"
    assert torch.equal(found[1]["model"]["w"], torch.full((3,), 5.0))
    assert len(told) == 1
    assert newest.name in told[0]


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(where: float, bit: int) -> None:
    values = {"model": {"w": torch.arange(64.0), "n": torch.tensor(3)}, "state": {"step": 5, "curve": [(1, 0.5)]}}
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.step_path(Path(folder), 5)
        checkpoint.save(path, values)
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        path.write_bytes(content)
        try:
            found = checkpoint.load(path)
        except RunError as error:
            assert path.name in str(error)
        else:
            assert checkpoint.digest(found) == checkpoint.digest(values)


def test_a_flipped_bit_of_a_weight_is_seen(tmp_path: Path) -> None:
    """PyTorch itself loads the file."""
    path = checkpoint.step_path(tmp_path, 5)
    checkpoint.save(path, {"model": {"w": torch.full((64,), 3.0)}})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 3.0).numpy().tobytes()) + 1] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["model"]["w"][0] != 3.0
    with pytest.raises(RunError, match="damaged"):
        checkpoint.load(path)


def test_nothing_that_can_be_read_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    checkpoint.step_path(tmp_path, 1).write_bytes(b"")
    assert checkpoint.load_latest(tmp_path) is None


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "step_00000001.pt")
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(tmp_path / "step_00000001.pt")
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_keeps_what_was_there_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, 5)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"No space left on device.*step_00000005\.pt, is kept"):
        fill(tmp_path, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000005.pt"]


def test_a_fault_of_the_device_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(payload: object) -> str:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(checkpoint, "digest", fault)
    with pytest.raises(RuntimeError, match="CUDA error") as raised:
        checkpoint.save(tmp_path / "step_00000001.pt", {"model": {}})
    assert type(raised.value) is RuntimeError, "not the RunError of a process that can go on"


def test_a_checkpoint_is_flushed_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, there = os.fsync, list[list[str]]()

    def fsync(handle: int) -> None:
        there.append([p.name for p in tmp_path.iterdir()])
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    fill(tmp_path, 5)
    ((name,),) = there
    assert name.startswith("step_00000005.pt.") and name.endswith(".tmp")


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "step_00000003.pt.1.tmp").write_bytes(b"half of it")
    fill(tmp_path, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000005.pt"]
