"""A process that trains runs for ``repro.launch.pool``: one after another, or several at once, each in a thread.

It pays for imports, data and compiled kernels once. Jobs come as lines of JSON on the standard input; what happens
goes back as lines of JSON on the standard output. The end of the input asks to save and end: the launcher closes it,
and so does the system when the launcher is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from repro.config.run import DataConfig, RunConfig
from repro.runtime.output import steady
from repro.runtime.provenance import environment
from repro.runtime.stop import SIGNALS, Stopper

if TYPE_CHECKING:
    import torch

    from repro.data import Dataset

ORPHAN_SECONDS = 60.0
"""How long a worker may take to save after its launcher was killed."""

Tell = Callable[[dict[str, Any]], None]


def main(words: Sequence[str]) -> int:
    """Trains until the input ends."""
    steady()
    for number in SIGNALS:
        # Requests come from the launcher alone: a terminal or a scheduler signals all processes at once. A handler
        # rather than SIG_IGN, which compilers and the like would inherit.
        signal.signal(number, _nothing)
    parser = argparse.ArgumentParser(prog="python -m repro.launch.worker")
    parser.add_argument("--parent", type=int, required=True, help="the launcher's process id: it may be gone already")
    parser.add_argument("--width", type=int, default=1, help="runs at the same time")
    parser.add_argument("work", help="the work folder, to tell workers apart")
    options = parser.parse_args(words)
    # On Windows a virtual environment's Python is a process between the two, and a parent's id never changes.
    parent, tell = os.getppid() if sys.platform == "win32" else options.parent, _teller()
    environment()  # now, as it is cached: the checkout may change while a long sweep trains
    desk = Desk(options.width, tell)
    with ThreadPoolExecutor(options.width) as threads:
        try:
            for line in sys.stdin:
                threads.submit(desk.train, json.loads(line))
        finally:
            desk.stopper.stop()
            threading.Thread(target=_end_as_orphan, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        from repro.runtime import nvidia_mps as mps

        mps.end(dict(os.environ))  # which its launcher can no longer do
    return 0


def _nothing(number: int, frame: FrameType | None) -> None:
    """Answers a signal."""


def _end_as_orphan(parent: int) -> None:
    """Ends a worker that nobody waits for and that cannot save: its device hangs, or its steps take for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _teller() -> Tell:
    """Keeps the standard output for messages: what libraries print goes to the standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):  # nobody listens any more: the input ends too
            out.write(json.dumps(message) + "\n")
            out.flush()

    return tell


class Desk:
    """Where jobs are trained, and what they share: data and the request to stop."""

    def __init__(self, width: int, tell: Tell) -> None:
        self.width, self.tell = width, tell
        self.stopper = Stopper(None)
        self._datasets: dict[DataConfig, Dataset] = {}
        self._loading = threading.Lock()
        self._own = threading.local()

    def train(self, job: dict[str, Any]) -> None:
        """Trains the run of one job; whatever happens, it is answered."""
        run_id = str(job["run_id"])
        try:
            self.tell({"run_id": run_id, **self._attempt(job)})
        except BaseException:
            traceback.print_exc()
            self.tell({"run_id": run_id, "state": "failed", "reason": "its worker had a fault", "sound": False})

    def _attempt(self, job: dict[str, Any]) -> dict[str, Any]:
        import torch

        from repro.launch.attempts import attempt

        config = RunConfig.from_dict(job["config"])
        # Runs that share a process would otherwise queue up in CUDA's one default stream.
        shares_gpu = self.width > 1 and torch.cuda.is_available()
        with torch.cuda.stream(self._stream()) if shares_gpu else contextlib.nullcontext():
            outcome = attempt(config, self._dataset, str(job["command"]), self.stopper, self._say(config.run_id))
        gc.collect()
        if self.width == 1 and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what this process keeps, another on the same GPU lacks
        return asdict(outcome)

    def _stream(self) -> torch.cuda.Stream:
        """This thread's own, for all its runs: torch has 32 and hands them out in turns, in the end a neighbour's."""
        import torch

        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream()
        stream: torch.cuda.Stream = self._own.stream
        return stream

    def _dataset(self, config: RunConfig) -> Dataset:
        """The run's data, which the launcher has fetched."""
        from repro.data import load_for

        with self._loading:
            if config.data not in self._datasets:
                self._datasets[config.data] = load_for(config, may_fetch=False)
            return self._datasets[config.data]

    def _say(self, run_id: str) -> Callable[[str], None]:
        return lambda text: self.tell({"run_id": run_id, "state": "says", "reason": text})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
