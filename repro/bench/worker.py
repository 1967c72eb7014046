"""Processes that measure, and what several of them measure together."""

import contextlib
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from repro.bench.parts import Part
from repro.config.run import RunConfig
from repro.errors import InputError, first_line
from repro.launch.process import Process
from repro.runtime.nvidia_mps import mps
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
        self._environment = environment or {}
        self._process: Process | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | InputError | str | None]

    def send(self, kind: str, config: RunConfig, **options: Any) -> None:
        """Ask for a measurement of ``repro.bench.measure.MEASUREMENTS``."""
        if self._process is None:
            self._answers = queue.SimpleQueue()
            self._process = Process("repro.bench.worker", [], self._environment, self._answers.put)
        self._process.send((kind, config, options))

    def receive(self, limit: float) -> dict[str, Any]:
        """Return what was asked for last; a PartFailedError where it failed or takes more than ``limit`` seconds."""
        try:
            answer = self._answers.get(timeout=max(limit, 0))
        except queue.Empty:
            answer = "not done in time"
        if isinstance(answer, dict):
            return answer
        code = self.close()
        if isinstance(answer, InputError):
            raise answer
        raise PartFailedError(answer or f"the measuring process died (exit code {code})")

    def close(self) -> int | None:
        """End the process at once, with all that it started; return its exit code, None where there is none."""
        if self._process is None:
            return None
        self._process.kill()
        code, self._process = self._process.wait(), None
        return code

    def __exit__(self, *failure: object) -> None:
        self.close()


def serve(requests: Iterator[Any], tell: Callable[[object], None], parent: int, words: Sequence[str]) -> int:
    """Answer requests, as long as the process that asks lives."""
    die_with_parent(parent)
    for kind, config, options in requests:
        tell(answer(kind, config, options))
    return 0


def answer(kind: str, config: RunConfig, options: dict[str, Any]) -> dict[str, Any] | InputError | str:
    """Return a measurement, the user's error, or the reason why it failed."""
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
        return f"{type(error).__name__}: {first_line(error)}"


def ask(
    workers: Sequence[Worker], deadline: float, kind: str, config: RunConfig, **options: Any
) -> list[dict[str, Any]]:
    """Let all ``workers`` measure ``kind`` at the same time, until ``deadline`` on the monotonic clock."""
    for worker in workers:
        worker.send(kind, config, **options)
    return [worker.receive(deadline - time.monotonic()) for worker in workers]


def measure(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Measure a part as ``ask`` does, in ``worker`` unless it needs processes of its own."""
    if part.kind == "spin":
        return spin(part, deadline)
    if part.kind == "together":
        return together(worker, part, deadline)
    return ask([worker], deadline, part.kind, part.config, seconds=part.seconds, **part.options)[0]


def spin(part: Part, deadline: float) -> dict[str, Any]:
    """Time, alone and beside a busy process, a step whose threads spin for a bounded time and one with the default."""
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


def together(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Time several runs at once in each way that there is: threads, branches of one graph, processes under MPS.

    A way that fails is named with its reason.
    """
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        way: partial(in_one_process, worker, way, part, deadline) for way in ("threads", "branches")
    }
    ways["processes"] = partial(in_processes, part, deadline)
    found: dict[str, Any] = {"rows": [], "failed": {}}
    for way in part.options["ways"]:
        try:
            answer = ways[way]()
        except PartFailedError as error:
            found["failed"][way] = str(error)
            continue
        how = f"processes, {'MPS' if answer.pop('mps_started') else 'no MPS'}" if way == "processes" else way
        found["rows"] += [{"how": how} | row for row in answer.pop("rows")]
        found |= answer
    if not found["rows"]:
        raise PartFailedError("; ".join(f"{way}: {reason}" for way, reason in found["failed"].items()))
    return found


def in_one_process(worker: Worker, way: str, part: Part, deadline: float) -> dict[str, Any]:
    seconds = part.seconds / len(part.options["ways"])
    return ask([worker], deadline, way, part.config, seconds=seconds, counts=part.options["counts"])[0]


def in_processes(part: Part, deadline: float) -> dict[str, Any]:
    """Time several runs at once in processes, under an MPS daemon of their own where one can be started."""
    counts, seconds = part.options["counts"], part.seconds / len(part.options["ways"])
    members: list[Worker] = []
    rows = []
    with contextlib.ExitStack() as stack:
        settings = stack.enter_context(mps(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        for runs in counts:
            new = [stack.enter_context(Worker(settings)) for _ in range(runs - len(members))]
            identity = ask(new, deadline, "keep", part.config)[0]
            members += new
            answers = ask(members, deadline, "go", part.config, seconds=seconds / len(counts))
            each = [found["images_per_second"] for found in answers]
            rows.append({"runs": runs, "images_per_second": sum(each), "each": each})
    return identity | {"rows": rows, "mps_started": settings is not None}
