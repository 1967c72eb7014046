"""A pool of worker processes for parallel runs."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
from collections.abc import Callable, Sequence

from repro.config.run import RunConfig
from repro.launch.failure import note_failure
from repro.launch.lacking import starts
from repro.launch.outcome import Outcome
from repro.launch.process import Process
from repro.launch.slots import Slot
from repro.runtime.stop import Stopper

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.2  # between checks for stop requests and updates of the progress

Message = tuple[str, str | Outcome]  # the id of a run, and a line for the user or the run's outcome


class Worker:
    """A slot and its process, which starts with the first run and is replaced if it dies."""

    def __init__(
        self, slot: Slot, environment: dict[str, str], events: queue.SimpleQueue[tuple[Worker, Message | None]]
    ) -> None:
        self.slot = slot
        self.runs: dict[str, RunConfig] = {}
        self.process: Process | None = None
        self._environment = environment | ({} if slot.gpu is None else {"CUDA_VISIBLE_DEVICES": slot.gpu})
        self._events = events
        self._closing = self._alone = False

    def takes(self, config: RunConfig, alone: bool) -> bool:
        """Return whether the run can start here now; ``alone`` means without other runs in its process."""
        if self._closing or len(self.runs) >= self.slot.width:
            return False
        fits = all(shared_settings(config) == shared_settings(run) for run in self.runs.values())
        return not self.runs or (fits and not alone and not self._alone)

    def give(self, config: RunConfig, alone: bool) -> None:
        if self.process is None:
            words = [str(self.slot.width), str(config.paths.work)]
            self.process = Process(
                "repro.launch.worker", words, self._environment, lambda message: self._events.put((self, message))
            )
        self.runs[config.run_id], self._alone = config, alone
        self.process.send(config.with_execution(progress="none"))  # the pool's own display shows all runs

    def close(self) -> None:
        """Ask the process to save what it trains and to end."""
        if self.process is not None:
            self._closing = True
            self.process.close()

    def gone(self) -> tuple[str, list[RunConfig]]:
        """Return how the process ended and its unfinished runs, and free the slot."""
        assert self.process is not None
        code = self.process.wait()
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        left = list(self.runs.values())
        self.runs, self.process, self._closing, self._alone = {}, None, False, False
        return how, left


def shared_settings(config: RunConfig) -> tuple[object, ...]:
    """Return the settings that all runs of a process must share: they apply to the whole process."""
    execution = config.execution
    return config.optim.precision, execution.device, execution.threads, execution.deterministic, execution.step


class Pool:
    """The workers and the queue of runs.

    Args:
        ended: Called with every run that ended, except by a stop request.
        look: Called several times a second with the running and the waiting runs.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        environment: dict[str, str],
        ended: Callable[[RunConfig, Outcome], None],
        look: Callable[[list[RunConfig], list[RunConfig]], None],
    ) -> None:
        self._events: queue.SimpleQueue[tuple[Worker, Message | None]] = queue.SimpleQueue()
        self._workers = [Worker(slot, environment, self._events) for slot in slots]
        self._ended, self._look = ended, look
        self._queue: list[RunConfig] = []
        self._lost: set[str] = set()  # runs whose process died: each is tried again alone, since it may be the cause
        self._begun: set[str] = set()
        self._planned = 0

    def train(self, configs: Sequence[RunConfig], stopper: Stopper) -> None:
        """Train ``configs`` in order, until all have ended or, after a stop request, the running ones are saved."""
        self._queue, self._planned = list(configs), len(configs)
        stopper.end_children = self._kill
        try:
            self._hand_out()
            while (running := self._running()) or (self._queue and not stopper.asked()):
                self._look(running, self._queue)
                with contextlib.suppress(queue.Empty):
                    self._take(*self._events.get(timeout=LOOK_SECONDS), stopper)
                if stopper.asked():
                    self._each(Process.close)
                else:
                    self._hand_out()
            self._each(Process.close)
            self._each(Process.wait)
        finally:
            self._kill()
            self._each(Process.wait)
            stopper.end_children = None

    def _running(self) -> list[RunConfig]:
        return [config for worker in self._workers for config in worker.runs.values()]

    def _hand_out(self) -> None:
        open_runs = {config.run_id for config in (*self._queue, *self._running())}
        for config in list(self._queue):
            if open_runs & set(starts(config)):
                continue  # it needs the weights of a run that has not ended
            alone = config.run_id in self._lost
            free = [worker for worker in self._workers if worker.takes(config, alone)]
            if free:
                min(free, key=lambda worker: len(worker.runs)).give(config, alone)
                self._queue.remove(config)
                if config.run_id not in self._begun:
                    self._begun.add(config.run_id)
                    log.info(f"[{len(self._begun)}/{self._planned}] {config.run_id}")

    def _take(self, worker: Worker, message: Message | None, stopper: Stopper) -> None:
        if message is None:
            self._gone(worker, stopper)
            return
        run_id, told = message
        if isinstance(told, str):
            log.info(f"{run_id}: {told.strip()}" if run_id else told)
            return
        config = worker.runs.pop(run_id)
        if told.state != "stopped":
            self._ended(config, told)
        elif not stopper.asked():
            self._resume(config, "its process had a fault")
        if not told.sound:
            worker.close()  # its other runs stop too, and resume in another process

    def _gone(self, worker: Worker, stopper: Stopper) -> None:
        """Resume the runs of a dead process from their checkpoints, each once."""
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
                self._resume(config, f"its process {how}{hint}")

    def _resume(self, config: RunConfig, why: str) -> None:
        self._queue.insert(0, config)
        log.info(f"{config.run_id}: {why}; the run resumes from what it saved")

    def _each(self, action: Callable[[Process], object]) -> None:
        for worker in self._workers:
            if worker.process is not None:
                action(worker.process)

    def _kill(self) -> None:
        self._each(Process.kill)
