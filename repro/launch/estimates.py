"""Estimated time and progress of a plan."""

from collections.abc import Mapping, Sequence

from repro.config.run import DataConfig, RunConfig
from repro.data import AnyDataset
from repro.launch.cost import estimate
from repro.launch.slots import Slot, runs_at_once
from repro.launch.speeds import speeds_of
from repro.runtime.device import device_name, num_threads, pick_device
from repro.runtime.progress import Display, Told, duration, name_of, progress_of


def seconds_of(configs: Sequence[RunConfig], datasets: Mapping[DataConfig, AnyDataset]) -> dict[str, float]:
    """Estimate the time of each whole run, alone on the device, by run id."""
    sizes = {data: (len(dataset.train), len(dataset.eval)) for data, dataset in datasets.items()}
    speeds = zip(configs, speeds_of(configs), strict=True)
    return {config.run_id: estimate(config, speed, *sizes[config.data]).seconds for config, speed in speeds}


def longest_first(
    configs: Sequence[RunConfig], seconds: Mapping[str, float], line_of: Mapping[str, int]
) -> list[RunConfig]:
    """Sort runs by the plan's lines, then longest first, so that no long run trains alone at the end."""
    # Lines keep their order: an interrupted plan should have finished its first lines.
    return sorted(configs, key=lambda config: (line_of.get(config.run_id, 0), -seconds[config.run_id]))


def forecast(configs: Sequence[RunConfig], slots: Sequence[Slot], seconds: Mapping[str, float]) -> str:
    """Describe in one line the time, the device and the number of parallel runs."""
    device, threads = pick_device(configs[0].execution.device), num_threads(configs[0].execution)
    on_cpu, at_once = device.type == "cpu", runs_at_once(slots)
    counted = "1 thread" if threads == 1 else f"{threads} threads"
    where = device_name(device) + (f", {counted}" if on_cpu else "")
    if at_once == 1:
        return f"about {duration(sum(seconds.values()))} of training on {where}"
    # Runs that share a GPU share its speed.
    shares = at_once if on_cpu else len({slot.gpu for slot in slots})
    total = max(sum(seconds.values()) / shares, *seconds.values())
    if on_cpu:
        where += " each (their number changes the last bits of a result)"
    return f"about {duration(total)} of training, {at_once} runs at once on {where}"


class PlanProgress:
    """The progress of parallel runs, from their progress files and the estimated ``seconds`` of each."""

    def __init__(self, style: str, seconds: Mapping[str, float], at_once: int) -> None:
        self._seconds, self._at_once = seconds, at_once
        self._slower: dict[str, float] = {}  # measured time over the estimate, by run
        self._display = Display(style, sum(seconds.values()))

    def look(self, running: Sequence[RunConfig], waiting: Sequence[RunConfig]) -> None:
        """Update the display if an update is due."""
        if not self._display.is_due():
            return
        told = {config.run_id: progress_of(config) for config in running}
        share = {run_id: t.step / max(t.steps, 1) if t else 0.0 for run_id, t in told.items()}
        left_of = {run_id: 1 - done for run_id, done in share.items()} | {c.run_id: 1.0 for c in waiting}
        done = sum(seconds * (1 - left_of.get(run_id, 0.0)) for run_id, seconds in self._seconds.items())
        ended, left = len(self._seconds) - len(left_of), duration(self._seconds_left(told, waiting))
        lines = [f"{name_of(c)}: {t.text() if t else 'starting'}" for c, t in zip(running, told.values(), strict=True)]
        lines.append(f"{ended} of {len(self._seconds)} runs ended, about {left} left for all")
        nets = [f"{name_of(c)} {share[c.run_id]:.0%}" for c in running]
        self._display.show(done, [f"{ended} of {len(self._seconds)} runs", f"plan {left}", *nets], lines)

    def _seconds_left(self, told: Mapping[str, Told | None], waiting: Sequence[RunConfig]) -> float:
        """Estimate the time left, corrected by the measured slowness of the runs so far."""
        left: list[float] = []
        for run_id, t in told.items():
            if t and 0 < t.step < t.steps:
                left.append(t.seconds_left)
                self._slower[run_id] = t.seconds_left * t.steps / (t.steps - t.step) / self._seconds[run_id]
        slower = sum(self._slower.values()) / len(self._slower) if self._slower else 1.0
        unknown = [self._seconds[i] * slower for i in told if i not in self._slower]
        unknown += [self._seconds[config.run_id] * slower for config in waiting]
        return max(sum(left + unknown) / self._at_once, *left, *unknown, 0.0)

    def close(self) -> None:
        self._display.close()
