"""Several runs at once on one GPU, in threads and in processes under MPS.

`repro bench` measures everything else, but starts no MPS.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from repro.bench import bench, choose
from repro.bench.parts import Choice, Part, in_modes, label
from repro.bench.worker import Worker, ask, measure
from repro.runtime.log import print_line, send_to
from repro.runtime.nvidia_mps import mps


def main(json_file: str, minutes: str, *words: str) -> int:
    """Run ``gpu_bench.py FILE MINUTES [key=value…]``; GPU_REHEARSAL makes it short enough for a CPU."""
    send_to(print_line)
    choice, command = choose(words, everything=False), " ".join(["gpu_bench.py", *words])
    return bench(choice, "packed", float(minutes), command, Path(json_file), packed_parts, measure_packed)


def packed_parts(choice: Choice, device: dict[str, Any]) -> list[Part]:
    """List the measurements, the most important first."""
    config = in_modes(choice.configs[0], device)[0]
    counts, scale = ((1, 2), 0.1) if os.environ.get("GPU_REHEARSAL") else ((1, 2, 4), 1.0)
    few = (counts[0], counts[-1])
    name = f"{label(config)}, runs at once in"
    return [
        Part("threads", f"{name} threads", config, 9 * scale, {"counts": counts}),
        Part("processes", f"{name} processes, under MPS where it starts", config, 6 * scale, {"counts": few}),
    ]


def measure_packed(worker: Worker, part: Part, deadline: float) -> dict[str, Any]:
    """Measure ``part``; processes get their own MPS daemon if one can be started."""
    if part.kind != "processes":
        return measure(worker, part, deadline)
    with tempfile.TemporaryDirectory() as folder, mps(Path(folder)) as settings:
        return processes(part, deadline, settings or {}) | {"mps_started": settings is not None}


def processes(part: Part, deadline: float, environment: dict[str, str]) -> dict[str, Any]:
    """Time several runs at once in separate processes."""
    counts = part.options["counts"]
    members: list[Worker] = []
    rows = []
    with contextlib.ExitStack() as stack:
        for runs in counts:
            new = [stack.enter_context(Worker(environment)) for _ in range(runs - len(members))]
            identity = ask(new, deadline, "keep", part.config)[0]
            members += new
            answers = ask(members, deadline, "go", part.config, seconds=part.seconds / len(counts))
            each = [found["images_per_second"] for found in answers]
            rows.append({"runs": runs, "images_per_second": sum(each), "each": each})
    return identity | {"rows": rows}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
