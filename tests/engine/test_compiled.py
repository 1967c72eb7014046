"""Compiled code is kept for each device, and what cannot be compiled is no error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.engine.compiled import CACHE, builds, cache_folder, is_kept, keep_compiled

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, "")
    monkeypatch.delenv(CACHE)


def test_compiled_code_is_kept_in_the_work_folder_or_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_compiled(tmp_path, CPU)
    assert Path(os.environ[CACHE]) == cache_folder(tmp_path, CPU)
    assert cache_folder(tmp_path, CPU).parent == tmp_path / ".compiled"
    monkeypatch.setenv(CACHE, str(tmp_path / "own"))
    keep_compiled(tmp_path, CPU)
    assert cache_folder(tmp_path, CPU) == tmp_path / "own"
    assert not is_kept(tmp_path, CPU)


@pytest.mark.parametrize("error", [RuntimeError("no compiler"), ImportError("no triton")])
def test_what_cannot_be_compiled_is_false(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(function: Any) -> Any:
        raise error

    monkeypatch.setattr("torch.compile", fail)
    assert not builds.__wrapped__(CPU)


@pytest.mark.slow
def test_what_was_compiled_is_found_again(tmp_path: Path) -> None:
    torch._dynamo.reset()
    keep_compiled(tmp_path, CPU)
    assert not is_kept(tmp_path, CPU)
    assert builds.__wrapped__(CPU)
    assert is_kept(tmp_path, CPU)
