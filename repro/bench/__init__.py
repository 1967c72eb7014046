"""Speed of nets on this device, beside public scripts."""

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Nothing here imports torch; the measuring processes do (``repro.bench.measure``).
from repro.bench.parts import Choice, Part, all_parts, choose, quick_parts, usual_parts
from repro.bench.tables import report, summary_line
from repro.bench.worker import PartFailedError, Worker, ask, measure_part
from repro.errors import InputError, RunError
from repro.runtime.progress import duration
from repro.runtime.provenance import environment, now, write_json

__all__ = ["Choice", "bench", "choose"]

SCHEMA = 2  # the version of the JSON document; 1 had other figures
DEVICE_LIMIT = 600.0  # seconds to start the device and list a folder of a million images, perhaps over a network
PART_LIMIT = 240.0  # the most seconds of a part
WORTHWHILE_SECONDS = 4.0  # a part does not begin with less time left

Document = dict[str, Any]
Plan = Callable[[Choice, Document], list[Part]]
PLANS: dict[str, Plan] = {"quick": quick_parts, "usual": usual_parts, "all": all_parts}

log = logging.getLogger(__name__)


def bench(
    choice: Choice, extent: str, minutes: float, command: str, json_path: Path | None, plan: Plan | None = None
) -> int:
    """Measure, print tables, and write ``json_path`` after every part; return the exit code.

    Args:
        extent: ``quick``, ``usual`` or ``all``, or the name of ``plan``.
        minutes: The time after which the current part is stopped.

    Raises:
        InputError: The words do not fit this machine.
        RunError: The device does not answer.
    """
    path = (json_path or Path(os.devnull)).absolute()
    if not path.parent.is_dir():
        raise InputError(f"--json {json_path} cannot be written: there is no folder {path.parent}")
    document: Document = {"schema": SCHEMA, "extent": extent, "command": command, "minutes": minutes, "started": now()}
    document |= {"finished": None, "environment": environment(), "parts": []}
    with Worker() as worker:
        steps = [config.execution.step for config in choice.configs]
        try:
            (device,) = ask([worker], time.monotonic() + DEVICE_LIMIT, "device", choice.configs[0], steps=steps)
        except PartFailedError as error:
            raise RunError(f"the device cannot be measured: {error}") from error
        document["device"] = device
        log.info(headline(document))
        parts = (plan or PLANS[extent])(choice, device)
        deadline = time.monotonic() + 60 * minutes
        for number, part in enumerate(parts, 1):
            write_json(path, document)  # also before the first part, so that an error comes early
            entry = carried_out(part, deadline, partial(measure_part, worker))
            document["parts"].append(entry)
            log.info(f"[{number}/{len(parts)}] {part.label}: {summary_line(entry)}")
    document["finished"] = now()
    write_json(path, document)
    log.info("\n" + report(document))
    return int(any(part["state"] == "failed" for part in document["parts"]))


def headline(document: Document) -> str:
    """Describe device, data and time in a line."""
    device = document["device"]
    where = device["name"]
    if device["device"] == "cpu":
        spin = [f"{name}={value}" for name, value in device["spin"].items()]
        where = ", ".join([where, f"{device['threads']} threads", *spin])
    data = device["data"] + (" (CIFAR-10 is not stored here)" if device["data_stands_in"] else "")
    return f"on {where}, torch {device['torch']}, data {data}; at most {duration(60 * document['minutes'])}"


def carried_out(part: Part, deadline: float, measuring: Callable[[Part, float], Document]) -> Document:
    """Measure a part until its limit or ``deadline``; return its entry, also if it failed or was left out."""
    entry: Document = {"kind": part.kind, "label": part.label, "state": "left out", "reason": None, "result": None}
    start = time.monotonic()
    if deadline - start < WORTHWHILE_SECONDS:
        return entry | {"reason": "the time is up", "seconds": 0.0}
    try:
        entry |= {"state": "done", "result": measuring(part, min(start + PART_LIMIT, deadline))}
    except (PartFailedError, InputError) as error:
        up = time.monotonic() >= deadline
        entry |= {"reason": "the time is up"} if up else {"state": "failed", "reason": str(error)}
    return entry | {"seconds": time.monotonic() - start}
