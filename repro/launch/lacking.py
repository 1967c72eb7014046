"""Runs of a plan for which this machine has no data or no weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from repro.config.run import RunConfig
from repro.data.presence import check_there
from repro.errors import InputError
from repro.launch.outcome import is_done


@dataclass(frozen=True)
class Parted:
    """The runs of a plan that can be trained, and by run id the reason why another one cannot."""

    there: list[RunConfig]
    lacking: dict[str, str]


def part(configs: Sequence[RunConfig]) -> Parted:
    """Divide the runs of a plan of several experiments by what is there.

    Weights of an earlier run of the plan count as there. Slurm's jobs are not in the plan's order, and may see other
    data than this machine: there only finished runs count, and data is not looked for.

    Raises:
        InputError: Nothing can be trained.
    """
    lacking: dict[str, str] = {}
    there: list[RunConfig] = []
    for config in configs:
        slurm = config.execution.slurm is not None
        try:
            if not is_done(config):
                if not slurm:
                    check_there(config.data, config.paths.data)
                check_weights(config, () if slurm else {one.run_id for one in there})
            there.append(config)
        except InputError as error:
            lacking[config.run_id] = str(error)
    if not there:
        raise InputError(next(iter(lacking.values())))
    return Parted(there, lacking)


def starts(config: RunConfig) -> list[str]:
    """Return the ids of the runs whose weights a detector or a localizer needs."""
    starting = config.starts_from
    named = [starting.start if starting and not starting.start_is_file else None]
    if config.detection is not None:
        named += config.detection.members
    if config.localization is not None:
        named += [*config.localization.classes_of, *config.localization.members, config.proposals_of]
    return [name for name in named if name not in (None, "random")]


def check_weights(config: RunConfig, planned: Collection[str] = ()) -> None:
    """Raise ``InputError`` if the weights that a run needs are neither there nor those of a ``planned`` run."""
    if config.science.is_classification or is_done(config):
        return
    needed = starts(config)
    if needed and set(needed) <= set(planned):
        return
    from repro.engine.detection import members as detectors  # a slow import, seconds
    from repro.engine.detection.start import check_start
    from repro.engine.localization import members as localizers
    from repro.engine.localization.classes import check_classes

    if config.starts_from is not None and config.starts_from.start not in planned:
        check_start(config)
    check_classes(config, planned)
    detectors.check_members(config, planned)
    localizers.check_members(config, planned)


def text_of(parted: Parted, configs: Sequence[RunConfig]) -> str:
    """Name what is missing for each experiment that is left out, a sentence for each reason."""
    by_reason: dict[str, list[RunConfig]] = {}
    for config in configs:
        if config.run_id in parted.lacking:
            by_reason.setdefault(parted.lacking[config.run_id], []).append(config)
    lines = [
        f"left out, {len(parted.lacking)} of {len(configs)} runs; the same command trains them once this is there:"
    ]
    for reason, runs in by_reason.items():
        names = ", ".join(dict.fromkeys(run.exp for run in runs))
        lines.append(f"  {names} ({len(runs)} run{'' if len(runs) == 1 else 's'}): {reason}")
    return "\n".join(lines)
