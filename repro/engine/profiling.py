"""A profiler trace of some training steps."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from tabulate import tabulate
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from repro.engine.step import Step, StepResult
from repro.errors import AloneError

log = logging.getLogger(__name__)

WARMUP_STEPS = 10
"""Steps before the trace, in which code is compiled, graphs are recorded and kernels are chosen."""

TRACED_STEPS = 20
SHOWN = 10


class ProfiledStep:
    """Executes steps with ``step``, and writes a trace of ``TRACED_STEPS`` of them into ``folder`` once."""

    def __init__(self, step: Step, folder: Path, device: torch.device, steps: int) -> None:
        self.step, self.path, self.device = step, folder / "trace.json.gz", device
        self._first = min(WARMUP_STEPS, steps // 2)
        self._last = min(self._first + TRACED_STEPS, steps)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self._profile = profile(activities=activities)
        self._seen = 0
        self._host_seconds = 0.0

    def run(self, step: int) -> None:
        if self._seen == self._first:
            self._wait()
            self._profile.start()
            self._start = time.perf_counter()
        before = time.perf_counter()
        self.step.run(step)
        self._seen += 1
        if self._first < self._seen <= self._last:
            self._host_seconds += time.perf_counter() - before
        if self._seen == self._last:
            self._wait()
            seconds = time.perf_counter() - self._start
            self._profile.stop()
            self._tell(seconds)

    def read(self) -> list[StepResult]:
        return self.step.read()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _tell(self, seconds: float) -> None:
        try:
            self._profile.export_chrome_trace(str(self.path))
        except (OSError, RuntimeError) as error:
            raise AloneError(f"the trace {self.path} cannot be written ({error})") from error
        steps = self._last - self._first
        log.info(f"{steps} traced steps took {1000 * seconds / steps:.3f} ms each; the largest kernels of a step:")
        log.info(largest(self._profile, self.device, steps))
        if self.device.type == "cuda":
            log.info(f"the host was busy for {100 * self._host_seconds / seconds:.1f} % of the time")
        log.info(f"the trace is {self.path}: open it at ui.perfetto.dev")


def largest(found: profile, device: torch.device, steps: int) -> str:
    """Return a table of the kernels (on a CPU: operations) that take the most time in a step."""
    cuda = device.type == "cuda"
    times = {
        event.key: ((event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000, event.count)
        for event in found.key_averages()
        # The time of an operation includes its kernels, so counting both would count everything twice.
        if event.device_type == (DeviceType.CUDA if cuda else DeviceType.CPU) and not event.is_user_annotation
    }
    total = sum(ms for ms, _ in times.values()) or 1.0
    first = sorted(times.items(), key=lambda item: -item[1][0])[:SHOWN]
    rows = [(name[:60], round(count / steps, 1), ms / steps, 100 * ms / total) for name, (ms, count) in first]
    text: str = tabulate(
        rows, ("kernel", "calls", "ms", "share %"), floatfmt=("", "g", ".3f", ".1f"), tablefmt="simple"
    )
    return text
