"""A process that measures: what fails there, hangs or breaks the device's context takes nothing else with it."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from typing import IO, Any

from repro.config.run import RunConfig
from repro.errors import InputError
from repro.runtime.output import steady
from repro.runtime.parent import die_with_parent

DEVICE_LIMIT = 120.0
"""Seconds for a process to start, import torch and wake the device."""

Answer = tuple[str, Any]


class PartFailedError(Exception):
    """A measurement that did not come about; the message is its reason in one line."""


class Worker:
    """Measures in a process of its own, one request after the other. After a failure that it does not outlive, the
    next request starts a new process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[Answer] = queue.Queue()

    def call(self, kind: str, config: RunConfig, limit: float, **options: Any) -> dict[str, Any]:
        """What ``repro.bench.measure`` finds under ``kind``.

        Args:
            limit: Seconds after which the process is ended.

        Raises:
            PartFailedError: It failed, or was not done in time.
            InputError: The configuration does not fit this machine.
        """
        self.send(kind, config, **options)
        return self.receive(limit)

    def send(self, kind: str, config: RunConfig, **options: Any) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # receive tells of its death
            pickle.dump((kind, config, options), self._process.stdin)
            self._process.stdin.flush()

    def receive(self, limit: float) -> dict[str, Any]:
        """The answer to what was sent last; see ``call``."""
        try:
            state, value = self._answers.get(timeout=max(limit, 0))
        except queue.Empty:
            self.close()
            raise PartFailedError(f"not done after {limit:.0f} s") from None
        if state == "input":
            raise InputError(value)
        if state != "done":
            # A fault of the device, a graph recorded half-way and what the part still held end with their process.
            self.close()
            raise PartFailedError(value)
        result: dict[str, Any] = value
        return result

    def close(self) -> None:
        """Ends the process at once, with all that it started: stopped ones too, which only a kill reaches."""
        if self._process is None:
            return
        with contextlib.suppress(OSError, AttributeError):  # it has ended, or the system has no groups
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._listener.join(5)  # it sees the end of what the process said
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        self._process = None

    def _start(self) -> None:
        self.close()
        # A group of its own: what asks ends it, not a key on the terminal.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from repro.bench.worker import serve; serve({os.getpid()})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._answers = queue.Queue()
        self._listener = threading.Thread(target=listen, args=(self._process, self._answers), daemon=True)
        self._listener.start()


def listen(process: subprocess.Popen[bytes], answers: queue.Queue[Answer]) -> None:
    """Puts the answers of ``process`` into ``answers``, and word of its death at the end."""
    assert process.stdout is not None
    try:
        while True:
            answers.put(pickle.load(process.stdout))
    except (EOFError, OSError, pickle.UnpicklingError):
        answers.put(("died", f"the measuring process died (exit code {process.wait()})"))


def serve(parent: int) -> None:
    """Answers requests on standard input until the other side, the process ``parent``, is gone."""
    die_with_parent(parent)
    replies: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    steady()
    while True:
        try:
            kind, config, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            pickle.dump(answer(kind, config, options), replies)
            replies.flush()
        except BrokenPipeError:
            return


def answer(kind: str, config: RunConfig, options: dict[str, Any]) -> Answer:
    """``("done", result)``, ``("input", sentence)`` or ``("failed", reason)``."""
    try:
        # Here, so that the process which asks gets along without torch.
        from repro.bench.measure import MEASUREMENTS, clean_up

        try:
            return "done", MEASUREMENTS[kind](config, **options)
        finally:
            clean_up()
    except InputError as error:
        return "input", str(error)
    except Exception as error:  # out of memory, a fault of the device or of the code: the other parts go on
        return "failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
