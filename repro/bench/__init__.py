"""How fast is it here: nets, precisions and step modes on this device, and the same nets as public scripts train them.

Nothing here imports torch but what the measuring processes import (``repro.bench.worker``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repro.bench.parts import (
    Choice,
    Part,
    all_parts,
    all_photo_parts,
    choose,
    quick_parts,
    quick_photo_parts,
    usual_parts,
    usual_photo_parts,
)
from repro.bench.tables import report, summary_line
from repro.bench.worker import DEVICE_LIMIT, PartFailedError, Worker
from repro.config.run import RunConfig
from repro.errors import InputError, RunError
from repro.runtime.progress import duration
from repro.runtime.provenance import environment, now, write_json

__all__ = ["Choice", "Document", "bench", "carry_out", "choose"]

SCHEMA = 1
LISTING_LIMIT = 600.0
"""Seconds in which a folder of a million photographs must be listed, from wherever it is mounted."""

WORTHWHILE_SECONDS = 4.0
"""A part is not begun with less time left."""

Say = Callable[[str], None]
Document = dict[str, Any]
Measure = Callable[[Part, float], dict[str, Any]]
"""The result of a part, or PartFailedError after so many seconds."""


def bench(choice: Choice, extent: str, minutes: float, command: str, json_path: Path | None, say: Say) -> int:
    """Measures, prints tables, and writes ``json_path`` anew after every part.

    Args:
        extent: ``quick``, ``usual`` or ``all``.
        minutes: After so many, what is under way is stopped and the rest left out.

    Returns:
        The exit code: 1 where a part failed.

    Raises:
        InputError: The words do not fit this machine, or ``json_path`` has no folder.
        RunError: The device does not answer, or the file cannot be written.
    """
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise InputError(f"--json {json_path} cannot be written: the folder {json_path.absolute().parent} is not there")
    document: Document = {"schema": SCHEMA, "extent": extent, "command": command, "minutes": minutes}
    document |= {"started": now(), "finished": None, "environment": environment()}
    with Workers() as workers:
        start = time.monotonic()
        device = workers.describe(choice.configs[0])
        document |= {"device": device, "process_seconds": time.monotonic() - start, "parts": []}
        deadline = time.monotonic() + 60 * minutes  # finding a million photographs is not measuring
        for config in choice.configs:
            check_step(config, device)
        say(headline(document))
        plans = {"quick": quick_parts, "usual": usual_parts, "all": all_parts}
        if choice.photos:
            plans = {"quick": quick_photo_parts, "usual": usual_photo_parts, "all": all_photo_parts}
        parts = plans[extent](choice, device)

        def save() -> None:
            if json_path is not None:
                write_json(json_path, document)

        save()  # a file that cannot be written is told now, not after the first part
        carry_out(parts, workers.measure, deadline, document, save, say)
    document["finished"] = now()
    save()
    say("\n" + report(document))
    if json_path is not None:
        say(f"\n{json_path} holds every round of it")
    return int(any(part["state"] == "failed" for part in document["parts"]))


def check_step(config: RunConfig, device: dict[str, Any]) -> None:
    """Refuses a step mode that the device does not have.

    Raises:
        InputError: It does not have it.
    """
    step, modes = config.execution.step, device["step_modes"]
    if step != "auto" and step not in modes:
        raise InputError(f"execution.step={step} cannot run on {device['device']}; it can be {' or '.join(modes)}")


def headline(document: Document) -> str:
    device = document["device"]
    where = device["name"]
    if device["device"] == "cpu":
        spin = [f"{name}={value}" for name, value in device["spin"].items()]
        where = ", ".join([where, f"{device['threads']} threads", *spin])
    data = device["data"] + (" (CIFAR-10 is not stored here)" if device["data_stands_in"] else "")
    return f"on {where}, torch {device['torch']}, data {data}; at most {duration(60 * document['minutes'])}"


def carry_out(
    parts: list[Part], measure: Measure, deadline: float, document: Document, save: Callable[[], None], say: Say
) -> None:
    """Measures part by part; one that fails, or that time is too short for, is noted and the others go on.

    Args:
        deadline: On the clock of ``time.monotonic``.
    """
    for number, part in enumerate(parts, 1):
        entry: Document = {"kind": part.kind, "label": part.label, "state": "done", "reason": None, "result": None}
        start = time.monotonic()
        left = deadline - start
        if left < WORTHWHILE_SECONDS:
            entry |= {"state": "left out", "reason": "the time is up"}
        else:
            try:
                entry["result"] = measure(part, min(part.limit, left))
            except (PartFailedError, InputError) as error:
                up = time.monotonic() >= deadline
                entry |= {"state": "left out" if up else "failed", "reason": "the time is up" if up else str(error)}
        entry["seconds"] = time.monotonic() - start
        document["parts"].append(entry)
        add_shares(document)
        save()
        say(f"[{number}/{len(parts)}] {part.label}: {summary_line(entry)}")


def add_shares(document: Document) -> None:
    """What share of the device's ceilings each case reaches, as soon as both are known."""
    done = [part for part in document["parts"] if part["state"] == "done"]
    for ceilings in [part["result"] for part in done if part["kind"] == "ceilings"]:
        for result in [part["result"] for part in done if part["kind"] == "case"]:
            highest = ceilings["flops_per_second"][result["arithmetic"]]
            result["flops_share"] = result["flops_per_second"] / highest
            result["bytes_share"] = result["bytes_per_second"] / ceilings["copy_bytes_per_second"]


class Workers:
    """The processes that measure: one for most parts, more for runs at once in processes."""

    def __init__(self) -> None:
        self._workers = [Worker()]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *failure: object) -> None:
        for worker in self._workers:
            worker.close()

    def describe(self, config: RunConfig) -> dict[str, Any]:
        """See ``repro.bench.measure.describe``.

        Raises:
            RunError: The process that was to measure does not answer.
        """
        try:
            return self._workers[0].call("device", config, LISTING_LIMIT if config.data.photos else DEVICE_LIMIT)
        except PartFailedError as error:
            raise RunError(f"the device cannot be measured: {error}") from error

    def measure(self, part: Part, limit: float) -> dict[str, Any]:
        """The result of a part.

        Raises:
            PartFailedError: It failed or was not done within ``limit`` seconds.
        """
        if part.kind == "processes":
            return self._processes(part, limit, **part.options)
        return self._workers[0].call(part.kind, part.config, limit, seconds=part.seconds, **part.options)

    def _processes(self, part: Part, limit: float, counts: tuple[int, ...]) -> dict[str, Any]:
        """Several runs at once, each in a process of its own; on a GPU they take turns, unless MPS lets them share."""
        deadline = time.monotonic() + limit
        members: list[Worker] = []
        made: list[dict[str, Any]] = []
        rows = []
        try:
            for runs in counts:
                new = [Worker() for _ in range(runs - len(members))]
                members += new
                for member in new:
                    member.send("prepare", part.config)
                made += [member.receive(deadline - time.monotonic()) for member in new]
                for member in members:
                    member.send("go", part.config, seconds=part.seconds / len(counts))
                speeds = [m.receive(deadline - time.monotonic())["images_per_second"] for m in members]
                rows.append({"runs": runs, "images_per_second": sum(speeds), "each": speeds})
        finally:
            for member in members:
                member.close()
        return {**made[0], "how": "processes", "rows": rows}
