"""Trains several runs at the same time, each in a worker process, and outlives the death of any of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from repro.config.run import RunConfig
from repro.launch.attempts import Outcome, note_failure
from repro.launch.slots import Place
from repro.runtime.stop import Stopper

LOOK_SECONDS = 0.2
"""Between two looks at requests to stop and at the progress."""

Event = tuple["Worker", dict[str, Any] | None]
"""A message of a worker, or None after its last."""


class Worker:
    """One place, and the process there: started with its first run, replaced after it was lost."""

    def __init__(self, place: Place, environment: dict[str, str], events: queue.SimpleQueue[Event]) -> None:
        self.place = place
        self.runs: dict[str, RunConfig] = {}
        self.process: subprocess.Popen[str] | None = None
        self._environment = environment | ({} if place.gpu is None else {"CUDA_VISIBLE_DEVICES": place.gpu})
        self._events = events
        self._closing = self._alone = False

    def takes(self, config: RunConfig, alone: bool) -> bool:
        """Whether the run can start here now; ``alone``: without neighbours in its process."""
        if self._closing or len(self.runs) >= self.place.width:
            return False
        return not self.runs or not (alone or self._alone or any(differ(config, r) for r in self.runs.values()))

    def give(self, config: RunConfig, command: str, alone: bool) -> None:
        self.process = self.process or self._start(config)
        self.runs[config.run_id], self._alone = config, alone
        execution = dataclasses.replace(config.execution, progress="none")  # shown for all runs in one place
        values = dataclasses.replace(config, execution=execution).to_dict()
        job = {"run_id": config.run_id, "config": values, "command": command}
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: the end of its messages says so
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()

    def _start(self, config: RunConfig) -> subprocess.Popen[str]:
        words = ["-m", "repro.launch.worker", "--parent", str(os.getpid()), "--width", str(self.place.width)]
        process = subprocess.Popen(
            [sys.executable, *words, str(config.paths.work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | self._environment,
            start_new_session=True,  # Ctrl-C is for the launcher, which asks the workers to save
        )
        assert process.stdout is not None
        threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        return process

    def _listen(self, messages: IO[str]) -> None:
        try:
            with messages, contextlib.suppress(ValueError):  # of a last line that a kill cut off
                for line in messages:
                    self._events.put((self, json.loads(line)))
        finally:
            self._events.put((self, None))

    def close(self) -> None:
        """Asks the process to save what it trains and to end."""
        if self.process is not None and not self._closing:
            self._closing = True
            assert self.process.stdin is not None
            with contextlib.suppress(OSError):  # a job that could not be written is in its buffer
                self.process.stdin.close()

    def kill(self) -> None:
        """Without waiting: a signal's handler may call it while another wait is under way."""
        if self.process is not None:
            self.process.kill()

    def wait(self) -> None:
        if self.process is not None:
            self.close()
            self.process.wait()

    def gone(self) -> tuple[str, list[RunConfig]]:
        """After the last message: how the process ended, and the runs that it leaves. Another can take its place."""
        assert self.process is not None
        self.close()
        code = self.process.wait()
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        left = list(self.runs.values())
        self.runs, self.process, self._closing, self._alone = {}, None, False, False
        return how, left


def differ(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs cannot share a process: threads, precision and determinism are settings of all of it."""

    def setting(config: RunConfig) -> tuple[object, ...]:
        execution = config.execution
        return config.optim.precision, execution.device, execution.threads, execution.deterministic, execution.step

    return setting(one) != setting(other)


class Pool:
    """The workers, and the runs that wait for them.

    Args:
        say: Takes lines for the user.
        ended: Called with every run that ended in some way, other than by a request to stop.
        look: Called several times a second with the runs under way and those that wait.
    """

    def __init__(
        self,
        places: Sequence[Place],
        environment: dict[str, str],
        command: str,
        say: Callable[[str], None],
        ended: Callable[[RunConfig, Outcome], None],
        look: Callable[[list[RunConfig], list[RunConfig]], None],
    ) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._workers = [Worker(place, environment, self._events) for place in places]
        self._command, self._say, self._ended, self._look = command, say, ended, look
        self._waiting: list[RunConfig] = []
        self._lost: set[str] = set()
        """Runs whose process was killed once: tried again, without neighbours, as one of them may be the reason."""
        self._begun: set[str] = set()
        self._planned = 0

    def train(self, configs: Sequence[RunConfig], stopper: Stopper) -> None:
        """Trains ``configs`` in their order, until all have ended or ``stopper`` was asked and what runs is saved."""
        self._waiting, self._planned = list(configs), len(configs)
        stopper.end_children = self._kill
        try:
            self._hand_out()
            while (running := self._running()) or (self._waiting and not stopper.asked()):
                self._look(running, self._waiting)
                with contextlib.suppress(queue.Empty):
                    self._take(*self._events.get(timeout=LOOK_SECONDS), stopper)
                if stopper.asked():
                    self._close()
                else:
                    self._hand_out()
            self._close()
            self._wait()
        finally:
            self._kill()
            self._wait()
            stopper.end_children = None

    def _running(self) -> list[RunConfig]:
        return [config for worker in self._workers for config in worker.runs.values()]

    def _hand_out(self) -> None:
        for config in list(self._waiting):
            alone = config.run_id in self._lost
            free = [worker for worker in self._workers if worker.takes(config, alone)]
            if free:
                min(free, key=lambda worker: len(worker.runs)).give(config, self._command, alone)
                self._waiting.remove(config)
                if config.run_id not in self._begun:
                    self._begun.add(config.run_id)
                    self._say(f"[{len(self._begun)}/{self._planned}] {config.run_id}")

    def _take(self, worker: Worker, message: dict[str, Any] | None, stopper: Stopper) -> None:
        if message is None:
            self._gone(worker, stopper)
        elif message["state"] == "says":
            self._say(f"{message['run_id']}: {message['reason'].strip()}")
        else:
            config = worker.runs.pop(message["run_id"])
            outcome = Outcome(message["state"], message["reason"], message["sound"])
            if outcome.state != "stopped":
                self._ended(config, outcome)
            elif not stopper.asked():
                self._go_on(config, "its process had a fault")
            if not outcome.sound:
                worker.close()  # which its neighbours leave too, to go on in another

    def _gone(self, worker: Worker, stopper: Stopper) -> None:
        """A process that was killed: once its runs go on from their checkpoints, in another."""
        how, left = worker.gone()
        hint = "; out of memory?" if "SIGKILL" in how else ""
        for config in left:
            if stopper.asked():
                continue
            if config.run_id in self._lost:
                reason = f"its process {how} twice{hint}"
                note_failure(config, reason)
                self._ended(config, Outcome("failed", reason))
            else:
                self._lost.add(config.run_id)
                self._go_on(config, f"its process {how}{hint}")

    def _go_on(self, config: RunConfig, why: str) -> None:
        self._waiting.insert(0, config)
        self._say(f"{config.run_id}: {why}; the run goes on from what it saved")

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _wait(self) -> None:
        for worker in self._workers:
            worker.wait()
