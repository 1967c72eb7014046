"""Several runs at once on one GPU, in threads and in processes under MPS.

Everything else of a bench is `repro bench`, which starts no MPS.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from repro.bench import SCHEMA, Document, Workers, carry_out, choose
from repro.bench.parts import Part, label, with_step
from repro.bench.tables import report
from repro.config.run import RunConfig
from repro.runtime.nvidia_mps import mps
from repro.runtime.provenance import environment, now, write_json


def measure(workers: Workers, part: Part, limit: float) -> dict[str, Any]:
    """Measure ``part``; processes have an MPS daemon of their own where one can be started."""
    if part.kind != "processes":
        return workers.measure(part, limit)
    with tempfile.TemporaryDirectory() as folder, mps(Path(folder)) as settings:
        os.environ.update(settings or {})  # which the measuring processes inherit
        try:
            return workers.measure(part, limit) | {"mps_started": settings is not None}
        finally:
            for name in settings or {}:
                del os.environ[name]


def main(json_file: str, minutes: str, *words: str) -> None:
    """Run ``gpu_bench.py FILE MINUTES [key=value…]``; GPU_REHEARSAL makes it short enough for a CPU."""
    document: Document = {"schema": SCHEMA, "extent": "packed", "command": " ".join(["gpu_bench.py", *words])}
    document |= {"minutes": float(minutes), "started": now(), "finished": None, "environment": environment()}

    def save() -> None:
        write_json(Path(json_file), document)

    with Workers() as workers:
        start = time.monotonic()
        config = choose(words, everything=False).configs[0]
        device = workers.describe(config)
        document |= {"device": device, "process_seconds": time.monotonic() - start, "parts": []}
        parts = packed_parts(with_step(config, device["best_step"]), bool(os.environ.get("GPU_REHEARSAL")))
        deadline = start + 60 * float(minutes)
        carry_out(parts, lambda part, limit: measure(workers, part, limit), deadline, document, save, print)
    document["finished"] = now()
    save()
    print(report(document), flush=True)


def packed_parts(config: RunConfig, rehearsal: bool) -> list[Part]:
    """List what is measured, the most important first."""
    counts, scale = ((1, 2), 0.1) if rehearsal else ((1, 2, 4), 1.0)
    few = (counts[0], counts[-1])
    name = f"{label(config)}, runs at once in"
    return [
        Part("threads", f"{name} threads", config, 9 * scale, 60, {"counts": counts}),
        Part("processes", f"{name} processes, under MPS where it starts", config, 6 * scale, 90, {"counts": few}),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
