"""The commands of plans: what is to be trained is shown, or trained."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.config.arguments import command_line, folders_and_names, is_setting, published_results, quiet_caches
from repro.errors import InputError, RunError
from repro.runtime.log import notice

if TYPE_CHECKING:
    from repro.config.execution import ExecutionConfig
    from repro.config.run import RunConfig
    from repro.launch.plan import Result
    from repro.results.read import AnyRecord, Record

log = logging.getLogger(__name__)


def run_command(options: argparse.Namespace) -> int:
    if options.dry_run:
        return show_command(options)
    from repro.config.compose import plan, refuse_sweeps_of_execution

    if not options.words:
        raise InputError(
            "name an experiment or a net: `repro list` lists them, `repro run exp=cifar_residual_vs_plain scale=demo` "
            "takes minutes on a laptop, `repro run model.depth=20` trains one net at the paper's budget"
        )
    refuse_sweeps_of_execution(options.words)
    planned = plan(options.words)
    configs, paths = planned.runs, planned.runs[0].paths
    notice("loading PyTorch")
    if several_machines(configs[0].execution):
        from repro.launch.torchrun import instructions

        print(instructions(configs[0].execution, options.words))
        return 0
    quiet_caches(paths.work)
    launch = launch_of(configs[0].execution, options.detach)
    from repro.cli.parts import score_ensembles, tables_of, what_is_there

    configs = what_is_there(planned)
    from repro.report.summary import Summary
    from repro.results.publish import beside_published
    from repro.runtime.provenance import set_command

    set_command(command_line(planned.words))
    summary = Summary(planned.protocol)

    def finished(config: RunConfig) -> None:
        if not config.science.is_classification:
            log.info(line_of(config))
        elif record := record_of(config):
            log.info(summary.line(record))

    result = launch(configs, finished, planned.line_of)
    classified = [config for config in result.finished if config.science.is_classification]
    records = [record for record in map(record_of, classified) if record]
    if len(configs) > 1 and records:
        log.info("\n" + tables_of(planned, records, summary.table))
        summarize_for_tensorboard(paths.work)
    if text := beside_published(readable(result.finished), published_results(vars(paths)) / "runs"):
        log.info("\n" + text)
    score_ensembles(planned, result)
    if result.failed:
        log.info(f"\n{len(result.failed)} of {len(configs)} runs failed; repeat the command to try them again:")
        for run_id, reason in result.failed.items():
            log.info(f"  {run_id}: {reason}")
    return result.exit_code


def line_of(config: RunConfig) -> str:
    """Describe a finished detector or localizer in one line, or the fault of its record."""
    from repro.report.detection import line, localizer_line
    from repro.results.detection_record import read_detection_record
    from repro.results.localization_record import read_localization_record

    try:
        if config.localization is not None:
            return localizer_line(read_localization_record(config.work_dir / "record.json"))
        return line(read_detection_record(config.work_dir / "record.json"))
    except InputError as error:
        return f"the record of {config.run_id} is invalid: {error}"


def record_of(config: RunConfig) -> Record | None:
    """Read the record of a finished run; log an invalid record and return None."""
    from repro.results.read import read_record

    try:
        return read_record(config.work_dir / "record.json")
    except InputError as error:
        log.info(f"the record of {config.run_id} is invalid: {error}")
        return None


def readable(configs: Sequence[RunConfig]) -> list[AnyRecord]:
    """Read the records of finished runs of any task, without those that are invalid."""
    from repro.results.read import read_any

    found = []
    for config in configs:
        with contextlib.suppress(InputError):
            found.append(read_any(config.work_dir / "record.json"))
    return found


def summarize_for_tensorboard(work: Path) -> None:
    """Write charts of the whole sweep; only log an error, because the runs are valid without charts."""
    from repro.report.tensorboard import write_summaries

    try:
        write_summaries(work)
    except RunError as error:
        log.info(str(error))


def several_machines(execution: ExecutionConfig) -> bool:
    """Return whether the runs span machines that only their user can reach."""
    from repro.launch.slurm.jobs import spans

    return execution.nodes > 1 and execution.engine == "local" and not spans(execution.nodes)


def launch_of(execution: ExecutionConfig, detach: bool) -> Callable[..., Result]:
    """Return the function that runs a plan, on this machine or on Slurm."""
    if execution.engine == "slurm":
        from repro.launch.slurm import collect

        return functools.partial(collect.launch, detach=detach)
    if detach:
        raise InputError("--detach needs execution=slurm: a run on this machine ends with its command")
    from repro.launch.plan import launch

    return launch


def show_command(options: argparse.Namespace) -> int:
    from repro.config.compose import plan, refuse_sweeps_of_execution

    if options.command == "show" and not all(map(is_setting, options.words)):
        return show_run_command(options)
    refuse_sweeps_of_execution(options.words)
    planned = plan(options.words)
    quiet_caches(planned.runs[0].paths.work)
    if len(planned.experiments) > 1:
        from repro.cli.parts import show_experiments

        print(show_experiments(planned))
    else:
        from repro.cli.show import show

        print(show(planned.runs))
    if options.command == "run" and planned.runs[0].execution.engine == "slurm":
        from repro.launch.slurm.submit import preview

        print("\n" + preview(planned.runs, planned.line_of))
    return 0


def show_run_command(options: argparse.Namespace) -> int:
    from repro.cli.one_run import show_run

    paths, runs = folders_and_names(options.words)
    print("\n\n".join(show_run(run, paths) for run in runs))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"run": run_command, "show": show_command}
