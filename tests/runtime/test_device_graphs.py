"""Garbage collection is off while a CUDA graph is recorded (with a fake recording)."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

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


class Recording:
    """A fake CUDA device with one stream, and what recordings asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.collected: list[bool] = []
        """After each recording, whether collection was on at its start."""
        self.ended = self.emptied = 0
        self.stream = SimpleNamespace(wait_stream=lambda other: None)
        self.default_stream = self.stream
        fakes = {
            "current_stream": lambda: self.stream,
            "default_stream": lambda: self.default_stream,
            "current_device": lambda: 0,
            "stream": contextlib.nullcontext,
            "empty_cache": self.empty_cache,
            "synchronize": lambda: pytest.fail("waited for the whole device"),
            "CUDAGraph": lambda: SimpleNamespace(capture_begin=self.begin, capture_end=self.end),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(f"torch.cuda.{name}", fake)
        monkeypatch.setattr("repro.runtime.cuda_graphs._side_stream", lambda device: self.stream)

    def begin(self, *, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        self.collected.append(gc.isenabled())

    def end(self) -> None:
        self.ended += 1

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    return Recording(monkeypatch)


def test_nothing_is_collected_while_a_graph_is_recorded(recording: Recording) -> None:
    calls: list[bool] = []
    record_graph(lambda: calls.append(gc.isenabled()))
    assert recording.collected == [False]
    assert recording.ended == 1
    assert calls == [True] * WARMUP_CALLS + [False]
    assert gc.isenabled()


def test_collection_is_on_again_after_a_recording_that_fails(recording: Recording) -> None:
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        if len(calls) > WARMUP_CALLS:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="capturing"):
        record_graph(fail)
    assert recording.collected == [False]
    assert recording.ended == 1
    assert gc.isenabled()


def test_a_run_beside_others_does_not_wait_for_the_whole_device(recording: Recording) -> None:
    record_graph(lambda: None)
    assert recording.emptied == 1
    recording.default_stream = SimpleNamespace()  # the run has a stream of its own
    record_graph(lambda: None)
    assert recording.emptied == 1  # which would wait for the other runs


def test_old_garbage_goes_before_and_what_the_user_switched_off_stays_off() -> None:
    gc.disable()
    gone = weakref.ref(Cycle())
    assert gone() is not None
    with no_collection():
        assert gone() is None
    assert not gc.isenabled()
