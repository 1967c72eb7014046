"""The command line.

Each command imports its own dependencies, so that ``repro --help`` is fast.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from repro.cli.parser import options_of, parser
from repro.cli.plans import COMMANDS as PLANS
from repro.config.arguments import (
    apart,
    folders_and_names,
    paths_from,
    published_results,
    quiet_caches,
    refuse_missing_folders,
    words_together,
)
from repro.config.hydra_habits import refuse_options
from repro.errors import InputError, RunError, is_out_of_memory, memory_advice
from repro.runtime.log import print_line, send_to
from repro.runtime.output import steady, unwritten

Command = Callable[[argparse.Namespace], int]
READ_RESULTS = ("table", "figure", "check", "choices", "render", "report", "export", "status", "compare")
"""Commands that read records from the folders that are named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The codes are 0, 1 (a run failed), 2 (invalid input), 75 (repeat the command to resume), and 128 plus the number of
    the signal that ended the command.
    """
    outlets = steady()
    send_to(print_line)
    given = words_together(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if given[:1] != ["tensorboard"]:
            refuse_options(given)
        options, unknown = parser().parse_known_args(given)
        if unknown:
            advice = f"`repro {options.command} --help` shows the options"
            raise InputError(f"unrecognized arguments: {' '.join(unknown)}; {advice}")
        if options.command in READ_RESULTS:
            words = [*getattr(options, "words", []), *getattr(options, "runs", [])]
            own = getattr(options, "unpublished", False) or getattr(options, "own", False)
            refuse_missing_folders(words, only_work=own)
        code = command_of(options.command)(options)
    except SystemExit as end:  # after --help
        code = end.code if isinstance(end.code, int) else 0
    except InputError as error:
        code = complain(error, 2)
    except RunError as error:
        code = complain(error, 1)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # of the device or of our code: caught, so that worker processes end too
        if is_out_of_memory(error):
            code = complain(RunError(memory_advice(error)), 1)
        else:
            traceback.print_exc()
            code = 1
    if lost := unwritten(outlets):
        complain(RunError(f"not all output could be written ({lost.strerror})"), 1)
        trains = given[:1] == ["run"] and not {"--dry-run", "--help", "-h"} & set(given)
        return code if trains else code or 1  # the exit code of training is about its runs
    return code


def command_of(name: str) -> Command:
    """Return the function of a command, importing those that read results only when needed."""
    if name in COMMANDS:
        return COMMANDS[name]
    from repro.cli.reporting import COMMANDS as READING

    return READING[name]


def complain(error: Exception, code: int) -> int:
    print(f"repro: {error}", file=sys.stderr)
    return code


def compare_command(options: argparse.Namespace) -> int:
    from repro.cli.one_run import compare

    paths, runs = folders_and_names(options.runs)
    text, code = compare(runs, paths)
    print(text)
    return code


def list_command(options: argparse.Namespace) -> int:
    from repro.cli.lists import print_experiments, print_figures, print_list, print_tables
    from repro.config.compose import describe

    headings = {
        "exp": "experiments",
        "scale": "scales",
        "model": "nets",
        "data": "data sets",
        "optim": "optimizers",
        "eval": "evaluations",
        "detection": "detectors",
        "localization": "localizers",
        "execution": "engines",
    }
    for group, heading in headings.items():
        if group == "exp":
            print_experiments(describe(group))
        else:
            print_list(f"{heading} ({group}=…)", describe(group))
    print_tables()
    print_figures()
    return 0


def data_command(options: argparse.Namespace) -> int:
    from repro.data.cifar.arrays import verify_cifar10
    from repro.data.cifar.fetch import fetch_cifar10

    paths = paths_from(options.words)
    if options.name != "cifar10":
        from repro.data import digest_of, svhn
        from repro.data.cifar import cifar100

        fetch: dict[str, Callable[[Path], dict[str, Any]]]
        fetch = {"cifar100": cifar100.fetch_cifar100, "svhn": svhn.fetch_svhn}
        read = {"cifar100": cifar100.open_arrays, "svhn": svhn.open_arrays}
        arrays = (fetch if options.action == "fetch" else read)[options.name](paths["data"])
        for name, array in arrays.items():
            print(f"{digest_of(array)}  {name}")
        print("ok")
        return 0
    if options.action == "fetch":
        fetch_cifar10(paths["data"])
    for name, digest in verify_cifar10(paths["data"]).items():
        print(f"{digest}  {name}")
    print("ok")
    return 0


def bench_command(options: argparse.Namespace) -> int:
    from repro.bench import bench, choose

    minutes = options.minutes if options.minutes is not None else 0.9 if options.quick else 8.0
    if not minutes > 0:
        raise InputError(f"--minutes {minutes:g} must be above 0")
    choice = choose(options.words, everything=options.all)
    quiet_caches(choice.configs[0].paths.work)
    extent = "quick" if options.quick else "all" if options.all else "usual"
    flags = [] if extent == "usual" else [f"--{extent}"]
    command = shlex.join(["repro", "bench", *flags, *(w for w in options.words if not w.startswith("paths."))])
    return bench(choice, extent, minutes, command, options.json)


def status_command(options: argparse.Namespace) -> int:
    from repro.cli.show import show_statuses
    from repro.cli.status import beside, chosen, statuses
    from repro.launch.slurm.jobs import jobs
    from repro.results.read import read_records

    folders, filters = apart(options.words)
    paths = paths_from([f"paths.{name}={folder}" for name, folder in folders.items()])
    work = paths["work"]
    try:
        queued = jobs(work)
    except RunError as error:
        print(f"repro: {error}; the states below leave out Slurm's queue", file=sys.stderr)
        queued = []
    found = chosen(statuses(work, queued), filters)
    found = beside(found, work, read_records([published_results(paths) / "runs"]))
    if options.json:
        print(json.dumps([one.to_json() for one in found], indent=1))
        return 0
    if filters and not found:
        print(f"no runs with {' '.join(filters)} in {work}")
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(show_statuses(found, work, width))
    return 0


def cancel_command(options: argparse.Namespace) -> int:
    from repro.launch.slurm.jobs import cancel

    paths, run_ids = folders_and_names(options.runs)
    work = paths["work"]
    if options.all == bool(run_ids):
        raise InputError("name the runs to cancel, or cancel every job of the work folder with `repro cancel --all`")
    cancelled = cancel(work, None if options.all else run_ids)
    for job in cancelled:
        print(f"cancelled Slurm job {job.job_id} ({job.state.lower()}): {', '.join(job.run_ids)}")
    if not cancelled:
        print(f"no Slurm job holds a run of {work}")
    return 0


def completion_command(options: argparse.Namespace) -> int:
    from repro.cli.completion import SCRIPT, candidates

    print(SCRIPT if options.line is None else "\n".join(candidates(options.line, options_of(parser()))))
    return 0


def floors_command(options: argparse.Namespace) -> int:
    from repro.cli.floors import floors

    print(floors(options.words))
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    from repro.cli.doctor import doctor

    print(doctor(paths_from(options.words)))
    return 0


COMMANDS: dict[str, Command] = {
    **PLANS,
    "list": list_command,
    "data": data_command,
    "bench": bench_command,
    "status": status_command,
    "cancel": cancel_command,
    "compare": compare_command,
    "completion": completion_command,
    "doctor": doctor_command,
    "floors": floors_command,
}
