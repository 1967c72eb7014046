"""Garbage collection is off while a CUDA graph is recorded (with a fake recording)."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from repro.runtime.cuda_graphs import WARMUP_CALLS, no_collection, record_graph


class Cycle:
    """Garbage that only a collection finds, like graphs referred to by compiled code."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collection_as_it_was() -> Iterator[None]:
    yield
    gc.enable()


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Fake a CUDA device; the list says after each recording whether collection was on at its start."""
    seen: list[bool] = []

    @contextlib.contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        seen.append(gc.isenabled())
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("current_stream", "default_stream"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda: stream)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.stream", contextlib.nullcontext)
    monkeypatch.setattr("torch.cuda.CUDAGraph", object)
    monkeypatch.setattr("torch.cuda.graph", graph)
    monkeypatch.setattr("repro.runtime.cuda_graphs._side_stream", lambda device: stream)
    return seen


def test_nothing_is_collected_while_a_graph_is_recorded(recording: list[bool]) -> None:
    calls: list[bool] = []
    record_graph(lambda: calls.append(gc.isenabled()))
    assert recording == [False]
    assert calls == [True] * WARMUP_CALLS + [False]
    assert gc.isenabled()


def test_collection_is_on_again_after_a_recording_that_fails(recording: list[bool]) -> None:
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        if len(calls) > WARMUP_CALLS:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capturing"):
        record_graph(fail)
    assert recording == [False]
    assert gc.isenabled()


def test_old_garbage_goes_before_and_what_the_user_switched_off_stays_off() -> None:
    gc.disable()
    gone = weakref.ref(Cycle())
    assert gone() is not None
    with no_collection():
        assert gone() is None
    assert not gc.isenabled()
