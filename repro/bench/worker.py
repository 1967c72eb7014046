"""Processes that measure, alone and together."""

import contextlib
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.bench.parts import Part, speeds
from repro.config.run import RunConfig
from repro.errors import InputError, first_line
from repro.launch.process import Process
from repro.runtime.nvidia_mps import mps
from repro.runtime.openmp import BOUNDED
from repro.runtime.parent import die_with_parent

UNBOUNDED = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""The defaults of both runtimes of OpenMP (``repro.runtime.openmp``)."""


class PartFailedError(Exception):
    """A measurement failed; the message is the reason in one line."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """Measurements in another process, one after the other; after a failure the next one starts a new process.

    Faults of the device, half-recorded graphs and leaked memory end with their process. Its ``environment`` is set
    before it imports torch.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment or {}
        self._start()

    def _start(self) -> None:
        self._answers: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
        self._process = Process("repro.bench.worker", [], self._environment, self._answers.put)

    def send(self, kind: str, config: RunConfig, **options: Any) -> None:
        """Ask for a measurement of ``repro.bench.measure.MEASUREMENTS``."""
        self._process.send((kind, config, options))

    def receive(self, limit: float) -> dict[str, Any]:
        """Return the last measurement; raise its error, or a PartFailedError after ``limit`` seconds."""
        try:
            answer = self._answers.get(timeout=max(limit, 0))
        except queue.Empty:
            answer = PartFailedError("not done in time")
        if isinstance(answer, dict):
            return answer
        code = self.close()
        self._start()
        raise answer or PartFailedError(f"the measuring process died (exit code {code})")

    def close(self) -> int:
        """Kill the process and its children; return its exit code."""
        self._process.kill()
        return self._process.wait()

    def __exit__(self, *failure: object) -> None:
        self.close()


def serve(requests: Iterator[Any], tell: Callable[[object], None], parent: int, words: Sequence[str]) -> int:
    """Answer requests until the parent ends."""
    die_with_parent(parent)
    # Imported here, so that the parent needs no torch.
    from repro.bench.measure import MEASUREMENTS, clean_up

    answer: dict[str, Any] | Exception
    for kind, config, options in requests:
        try:
            answer = MEASUREMENTS[kind](config, **options)
        except InputError as error:
            answer = error
        except Exception as error:  # out of memory, or a fault of the device or of the code: other parts continue
            answer = PartFailedError(f"{type(error).__name__}: {first_line(error)}")
        clean_up()
        tell(answer)
    return 0


def ask(
    workers: Sequence[Worker], deadline: float, kind: str, config: RunConfig, **options: Any
) -> list[dict[str, Any]]:
    """Measure ``kind`` in all ``workers`` at the same time, until ``deadline`` on the monotonic clock."""
    for worker in workers:
        worker.send(kind, config, **options)
    return [worker.receive(deadline - time.monotonic()) for worker in workers]


def measure_part(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Measure a part in ``worker``, or in its own processes if it needs several."""
    if part.kind in ("spin", "together"):
        return spin(part, deadline) if part.kind == "spin" else together(worker, part, deadline)
    return ask([worker], deadline, part.kind, part.config, seconds=part.seconds, **part.options)[0]


def spin(part: Part, deadline: float) -> dict[str, Any]:
    """Time a step with bounded and with default spinning of threads, alone and beside a busy process."""
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
            bounded_ms, default_ms = map(statistics.median, ms.values())
            rows.append({"beside": beside, "bounded_ms": bounded_ms, "default_ms": default_ms})
    return identity | {"rows": rows}


def together(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Time parallel runs in each way: threads, branches of one graph, processes under MPS; name failures."""
    ways = part.options["ways"]
    options = {"counts": part.options["counts"], "seconds": part.seconds / len(ways)}
    found: dict[str, Any] = {"rows": [], "failed": {}}
    for way in ways:
        try:
            if way == "processes":
                how, answer = in_processes(part.config, deadline, **options)
            else:
                how, (answer,) = way, ask([worker], deadline, way, part.config, **options)
        except PartFailedError as error:
            found["failed"][way] = str(error)
            continue
        found["rows"] += [{"how": how} | row for row in answer.pop("rows")]
        found |= answer
    if not found["rows"]:
        raise PartFailedError("; ".join(f"{way}: {reason}" for way, reason in found["failed"].items()))
    return found


def in_processes(
    config: RunConfig, deadline: float, counts: Sequence[int], seconds: float
) -> tuple[str, dict[str, Any]]:
    """Time parallel runs in processes, under their own MPS daemon if one starts."""
    members: list[Worker] = []
    rows = []
    with contextlib.ExitStack() as stack:
        settings = stack.enter_context(mps(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        for runs in counts:
            new = [stack.enter_context(Worker(settings)) for _ in range(runs - len(members))]
            identity = ask(new, deadline, "keep", config)[0]
            members += new
            answers = ask(members, deadline, "go", config, seconds=seconds / len(counts))
            rows.append(speeds([found["images_per_second"] for found in answers]))
    return f"processes, {'no ' if settings is None else ''}MPS", identity | {"rows": rows}
