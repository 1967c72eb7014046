"""Runs of a plan for which this machine has no data or no weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from repro.config.run import RunConfig
from repro.data.presence import check_there
from repro.errors import InputError
from repro.launch.outcome import is_done

LEFT_OUT = "the weights of runs of this plan that are left out as well: "


@dataclass(frozen=True)
class Parted:
    """The runs of a plan that can be trained, and by run id what another one lacks, a sentence for each thing."""

    there: list[RunConfig]
    lacking: dict[str, tuple[str, ...]]


def part(configs: Sequence[RunConfig]) -> Parted:
    """Divide the runs of a plan of several experiments by what is there.

    Raises:
        InputError: Nothing can be trained.
    """
    parted = divided(configs)
    if not parted.there:
        raise InputError(next(iter(parted.lacking.values()))[0])
    return parted


def divided(configs: Sequence[RunConfig]) -> Parted:
    """Divide the runs of a plan by what is there, even if nothing can be trained.

    Weights of an earlier run of the plan count as there. Slurm's jobs are not in the plan's order, and may see other
    data than this machine: there only finished runs count, and data is not looked for.
    """
    lacking: dict[str, tuple[str, ...]] = {}
    there: list[RunConfig] = []
    for config in configs:
        if missing := missing_things(config, [one.run_id for one in there], lacking):
            lacking[config.run_id] = missing
        else:
            there.append(config)
    return Parted(there, lacking)


def missing_things(config: RunConfig, planned: Collection[str], left_out: Collection[str]) -> tuple[str, ...]:
    """Return a sentence for each thing that a run lacks here: its data, then the weights that it needs.

    Args:
        planned: Earlier runs of the plan, whose weights count as there unless they are jobs of Slurm.
        left_out: Earlier runs of the plan that lack something themselves.
    """
    if is_done(config):
        return ()
    slurm = config.execution.slurm is not None
    checks: list[Callable[[], None]] = []
    if not slurm:  # its jobs may see other data
        checks.append(functools.partial(check_there, config.data, config.paths.data))
    checks += weight_checks(config, [*left_out, *(() if slurm else planned)])
    missing = []
    for check in checks:
        try:
            check()
        except InputError as error:
            missing.append(str(error))
    if needed := [name for name in dict.fromkeys(starts(config)) if name in left_out]:
        missing.append(f"{LEFT_OUT}{', '.join(needed)}")
    return tuple(missing)


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
    if not is_done(config):
        for check in weight_checks(config, planned):
            check()


def weight_checks(config: RunConfig, planned: Collection[str] = ()) -> list[Callable[[], None]]:
    """Return a check for each kind of weights that a run needs; it raises ``InputError`` if they are not there."""
    needed = starts(config)
    if config.science.is_classification or (needed and set(needed) <= set(planned)):
        return []
    from repro.engine.detection import members as detectors  # a slow import, seconds
    from repro.engine.detection.start import check_start
    from repro.engine.localization import members as localizers
    from repro.engine.localization.classes import check_classes

    checks: list[Callable[[], None]] = []
    if config.starts_from is not None and config.starts_from.start not in planned:
        checks.append(lambda: check_start(config))
    for check in (check_classes, detectors.check_members, localizers.check_members):
        checks.append(functools.partial(check, config, planned))
    return checks


def text_of(parted: Parted, configs: Sequence[RunConfig]) -> str:
    """Name each thing that is missing, with the experiments that need it: data, then weights."""
    by_reason: dict[str, list[RunConfig]] = {}
    lacking = [(config, parted.lacking.get(config.run_id, ())) for config in configs]
    for position in range(max(len(reasons) for _, reasons in lacking)):
        for config, reasons in lacking:
            for reason in reasons[position : position + 1]:
                by_reason.setdefault(reason, []).append(config)
    lines = [
        f"left out, {len(parted.lacking)} of {len(configs)} runs; the same command trains them once this is there:"
    ]
    for reason, runs in by_reason.items():
        names = ", ".join(dict.fromkeys(run.exp for run in runs))
        lines.append(f"  {names} ({len(runs)} run{'' if len(runs) == 1 else 's'}): {reason}")
    return "\n".join(lines)
