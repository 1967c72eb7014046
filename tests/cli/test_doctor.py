"""What `repro doctor` finds odd."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repro.cli.doctor import MARK
from repro.cli.main import main


def line(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    (found,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} "))
    return found


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "WORK", "RESULTS"):
        monkeypatch.setenv(f"REPRO_{name}", str(tmp_path / name.lower()))


def test_all_that_a_report_of_a_fault_needs_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in ("repro", "python", "processor", "torch", "gpus", "apple mps", "nvidia mps", "triton", "cifar10"):
        assert f"\n{name:<11} " in f"\n{said}"
    assert f"{tmp_path / 'work'}, " in said and f"REPRO_WORK={tmp_path / 'work'}" in said


@pytest.mark.parametrize(("present", "is_odd"), [("2.15.0", False), ("2.15.0+cpu", False), ("2.14.0", True)])
def test_versions_unlike_the_constraints_are_named(
    present: str, is_odd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "constraints.txt").write_text("# made with\ntorch==2.15.0\n")
    monkeypatch.setattr("repro.cli.doctor.shared_dir", lambda name: tmp_path / name)
    monkeypatch.setattr("repro.cli.doctor.installed", lambda name: present)
    assert main(["doctor"]) == 0
    said = line("versions", capsys)
    assert (MARK.strip() in said) == (present in said) == is_odd


def test_a_folder_that_cannot_be_written_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "work", Path("/proc/work")):
        if folder.parent.exists():
            assert main(["doctor", f"paths.work={folder}"]) == 0
            assert MARK in line("work", capsys), "permissions alone do not tell it of /proc"
    assert main(["doctor", f"paths.work={tmp_path / 'new' / 'work'}"]) == 0
    assert MARK not in line("work", capsys)


def test_a_torch_that_cannot_be_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 0
    assert MARK in line("torch", capsys)
