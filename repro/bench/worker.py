"""Processes that measure, and what several of them measure together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from repro.bench.parts import Part
from repro.config.run import RunConfig
from repro.errors import InputError
from repro.runtime.openmp import BOUNDED
from repro.runtime.parent import die_with_parent

UNBOUNDED = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""The defaults of both runtimes of OpenMP (``repro.runtime.openmp``)."""


class PartFailedError(Exception):
    """A measurement failed; the message is its reason in one line."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """Measures in a process of its own, one request after the other; after a failure the next starts a new process.

    A fault of the device, a graph recorded half-way and memory that is still held end with their process. What is in
    ``environment`` is set in it before torch is imported.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._process: SpawnProcess | None = None
        self._pipe: Connection

    def send(self, kind: str, config: RunConfig, **options: Any) -> None:
        """Ask for a measurement of ``repro.bench.measure.MEASUREMENTS``."""
        if self._process is None or not self._process.is_alive():
            self.close()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, os.getpid(), self._environment))
            self._process.start()
            theirs.close()
        with contextlib.suppress(BrokenPipeError):  # receive tells of its death
            self._pipe.send((kind, config, options))

    def receive(self, limit: float) -> dict[str, Any]:
        """Return what was asked for last; end the process after ``limit`` seconds.

        Raises:
            PartFailedError: It failed, or was not done in time.
            InputError: The configuration does not fit this machine.
        """
        assert self._process is not None
        answer: dict[str, Any] | Exception = PartFailedError("not done in time")
        try:
            if self._pipe.poll(max(limit, 0)):
                answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            answer = PartFailedError(f"the measuring process died (exit code {self._process.exitcode})")
        if isinstance(answer, Exception):
            self.close()
            raise answer
        return answer

    def close(self) -> None:
        """End the process at once, with all that it started: stopped ones too, which only a kill reaches."""
        if self._process is None or self._process.pid is None:
            return
        with contextlib.suppress(OSError, AttributeError):  # it has ended, or the system has no groups
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process = None

    def __exit__(self, *failure: object) -> None:
        self.close()


def serve(pipe: Connection, parent: int, environment: Mapping[str, str]) -> None:
    """Answer requests with results or exceptions until the process ``parent`` is gone."""
    die_with_parent(parent)
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own: the parent ends it, not a key on the terminal
    os.dup2(2, 1)  # what libraries print does not belong between the tables
    os.environ.update(environment)
    # As in scripts again: a process that was spawned would spawn those of a DataLoader too.
    multiprocessing.set_start_method(None, force=True)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(answer(*pipe.recv()))


def answer(kind: str, config: RunConfig, options: dict[str, Any]) -> dict[str, Any] | Exception:
    """Return a measurement, or what went wrong with it."""
    try:
        # Here, so that the process which asks needs no torch.
        from repro.bench.measure import MEASUREMENTS, clean_up

        try:
            return MEASUREMENTS[kind](config, **options)
        finally:
            clean_up()
    except InputError as error:
        return error
    except Exception as error:  # out of memory, a fault of the device or of the code: the other parts continue
        return PartFailedError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def ask(
    workers: Sequence[Worker], deadline: float, kind: str, config: RunConfig, **options: Any
) -> list[dict[str, Any]]:
    """Let all ``workers`` measure ``kind`` at the same time, until ``deadline`` on the monotonic clock.

    Raises:
        PartFailedError: One failed or was not done in time.
        InputError: The configuration does not fit this machine.
    """
    for worker in workers:
        worker.send(kind, config, **options)
    return [worker.receive(deadline - time.monotonic()) for worker in workers]


def measure(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Measure a part as ``ask`` does, in ``worker`` unless it needs processes of its own."""
    if part.kind == "spin":
        return spin(part, deadline)
    return ask([worker], deadline, part.kind, part.config, seconds=part.seconds, **part.options)[0]


def spin(part: Part, deadline: float) -> dict[str, Any]:
    """Time a step whose threads spin for a bounded time, and one with OpenMP's default, in turns.

    Both are timed alone, then while another process uses a processor.
    """
    rows = []
    with Worker(BOUNDED) as bounded, Worker(UNBOUNDED) as default, Worker() as other:
        identity, _ = ask([bounded, default], deadline, "keep", part.config)
        for beside in ("nothing", "a busy process"):
            if beside != "nothing":
                other.send("busy", part.config)
            ms: dict[Worker, list[float]] = {bounded: [], default: []}
            for worker in (bounded, default, default, bounded):
                (found,) = ask([worker], deadline, "go", part.config, seconds=part.seconds / 8)
                ms[worker].append(1000 * identity["batch_size"] / found["images_per_second"])
            bounded_ms, default_ms = (statistics.median(ms[worker]) for worker in (bounded, default))
            rows.append({"beside": beside, "bounded_ms": bounded_ms, "default_ms": default_ms})
    return identity | {"rows": rows}
