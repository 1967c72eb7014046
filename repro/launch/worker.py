"""A worker process of ``repro.launch.pool``, which trains runs in threads.

It loads modules, data and compiled kernels once. The end of its requests asks it to save and end: the launcher closes
them, or the system does when the launcher is killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from repro.config.run import DataConfig, RunConfig
from repro.launch.outcome import Outcome
from repro.runtime.log import send_to
from repro.runtime.provenance import environment
from repro.runtime.stop import SIGNALS, Stopper

if TYPE_CHECKING:
    import torch

    from repro.data import AnyDataset

ORPHAN_SECONDS = 60.0  # the time to save after the launcher was killed


def serve(requests: Iterator[RunConfig], tell: Callable[[object], None], launcher: int, words: Sequence[str]) -> int:
    """Train until the requests end.

    Args:
        words: The number of parallel runs, and the work folder, which only tells workers apart.
    """
    for number in SIGNALS:
        # Ignore signals: a terminal or a scheduler sends them to all processes, but only the launcher may stop this
        # one. Child processes such as compilers would inherit SIG_IGN, but not a handler.
        signal.signal(number, lambda number, frame: None)
    width = int(words[0])
    # On Windows a virtual environment's Python is a process between the two, and a parent's id never changes.
    parent = os.getppid() if sys.platform == "win32" else launcher
    trainer = Trainer(width, tell)
    send_to(trainer.say)
    environment()  # cached from now on: the checkout may change while a long sweep trains
    with ThreadPoolExecutor(width) as threads:
        try:
            for config in requests:
                threads.submit(trainer.train, config)
        finally:
            trainer.stopper.stop()
            threading.Thread(target=_end_as_orphan, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        from repro.runtime import nvidia_mps as mps

        mps.end(dict(os.environ))  # the killed launcher no longer can
    return 0


def _end_as_orphan(parent: int) -> None:
    """End a worker without a launcher that cannot save, because its device hangs or its steps take forever."""
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


class Own(threading.local):
    """A thread's run and its CUDA stream, which it keeps: torch has 32 streams and would soon return another's."""

    run_id = ""
    stream: torch.cuda.Stream | None = None


class Trainer:
    """Training in up to ``width`` threads, which share the data and stop requests.

    Its messages are pairs: the id of a run, and a line for the user or the run's outcome.
    """

    def __init__(self, width: int, tell: Callable[[tuple[str, str | Outcome]], None]) -> None:
        self.width, self.tell = width, tell
        self.stopper = Stopper(None)
        self._datasets: dict[DataConfig, AnyDataset] = {}
        self._loading = threading.Lock()
        self._own = Own()

    def say(self, text: str) -> None:
        """Send a line for the user, with the id of this thread's run."""
        self.tell((self._own.run_id, text))

    def train(self, config: RunConfig) -> None:
        """Train a run and send its outcome, also after a fault."""
        self._own.run_id = config.run_id
        try:
            outcome = self._attempt(config)
        except BaseException:
            traceback.print_exc()
            outcome = Outcome("failed", "its worker had a fault", sound=False)
        self.tell((config.run_id, outcome))

    def _attempt(self, config: RunConfig) -> Outcome:
        import torch

        from repro.launch.attempts import attempt

        # Runs that share a process would otherwise queue up in CUDA's one default stream.
        if self.width > 1 and torch.cuda.is_available() and self._own.stream is None:
            self._own.stream = torch.cuda.Stream()
        stream = self._own.stream
        with contextlib.nullcontext() if stream is None else torch.cuda.stream(stream):
            outcome = attempt(config, self._dataset, self.stopper)
        gc.collect()
        if self.width == 1 and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # other processes on the GPU need the memory
        return outcome

    def _dataset(self, config: RunConfig) -> AnyDataset:
        """Load the run's data once; the launcher has fetched it."""
        from repro.data import load_any

        with self._loading:
            if config.data not in self._datasets:
                self._datasets[config.data] = load_any(config, may_fetch=False)
            return self._datasets[config.data]
