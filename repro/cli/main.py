"""The command line: parsing and printing only. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from repro.cli.help_texts import BENCH, BENCH_EXAMPLES, DESCRIPTION, EVALUATE_EXAMPLES, EXAMPLES, FIGURE_EXAMPLES
from repro.config.arguments import (
    command_line,
    is_setting,
    paths_from,
    published_results,
    quiet_caches,
    say,
    words_together,
)
from repro.config.hydra_habits import refuse_options
from repro.errors import InputError, RunError, is_out_of_memory, memory_advice, nearest
from repro.runtime.log import print_line, send_to
from repro.runtime.output import steady, unwritten

if TYPE_CHECKING:
    from repro.config.compose import Plan
    from repro.config.execution import ExecutionConfig
    from repro.config.run import RunConfig
    from repro.launch.plan import Result

OWN_WORDS = (
    *("run", "show", "list", "bench", "publish", "cancel"),
    *("check", "choices", "render", "report", "export", "evaluate"),
)
"""Commands that say themselves which words they take; the others take folders."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong word with one sentence that names the nearest right one, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` shows what fits")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or action.dest
            raise InputError(f"unknown {name} {str(value)!r}: {nearest(str(value), map(str, action.choices))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 1 (a run went wrong), 2 (bad input), 75 (the same command goes on
    later) or, of a signal that asked it to end, 128 and its number."""
    outlets = steady()
    send_to(print_line)
    given = words_together(sys.argv[1:] if arguments is None else arguments)
    code = carry_out(given)
    if error := unwritten(outlets):
        complain(RunError(f"not all output could be written ({error.strerror})"), 1)
        trains = given[:1] == ["run"] and not {"--dry-run", "--help", "-h"} & set(given)
        return code if trains else code or 1  # that of training tells of the runs
    return code


def carry_out(given: list[str]) -> int:
    try:
        if given[:1] != ["tensorboard"]:
            refuse_options(given)
        options = parser().parse_args(given)
        code: int = options.command(options)
        return code
    except SystemExit as end:  # after --help
        return end.code if isinstance(end.code, int) else 0
    except InputError as error:
        return complain(error, 2)
    except RunError as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # of the device or of ours; it ends here, so that processes which read ahead end too
        if is_out_of_memory(error):
            return complain(RunError(memory_advice(error)), 1)
        traceback.print_exc()
        return 1


def complain(error: Exception, code: int) -> int:
    print(f"repro: {error}", file=sys.stderr)
    return code


def parser() -> Parser:
    form = argparse.RawDescriptionHelpFormatter
    top = Parser(prog="repro", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=form)
    top.add_argument("--version", action="version", version=f"repro {_version()}")
    commands = top.add_subparsers(metavar="command", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str, example: str) -> Parser:
        sub: Parser = commands.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {example}", formatter_class=form
        )
        sub.set_defaults(command=command)
        return sub

    run = add("run", run_command, "Train what is missing, then show the result.", "repro run exp=cifar_degradation")
    run.add_argument("--dry-run", action="store_true", help="only show what would be run, as `repro show`")
    run.add_argument("--detach", action="store_true", help="with execution=slurm: submit and return")
    show = add("show", show_command, "Show runs, configuration and cost; trains nothing.", "repro show model.depth=56")
    for sub in (run, show):
        sub.add_argument("words", nargs="*", metavar="key=value", help="settings, as in exp=cifar_depth_sweep seed=0")
    add("list", list_command, "List experiments, nets, data sets, scales, tables and figures.", "repro list")

    data = add("data", data_command, "Fetch a data set, or verify the stored one.", "repro data fetch cifar10")
    data.add_argument("action", choices=["fetch", "verify"], metavar="action", help="fetch or verify")
    data.add_argument("name", choices=["cifar10"], metavar="data-set", help="cifar10")

    add_evidence(add)

    bench = add("bench", bench_command, BENCH, BENCH_EXAMPLES)
    extent = bench.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one net and its comparison, in under a minute")
    extent.add_argument("--all", action="store_true", help="every net, precision and mode of the project's targets")
    bench.add_argument("--json", type=Path, metavar="FILE", help="keep every round here; written anew after each part")
    bench.add_argument(
        "--minutes", type=float, metavar="N", help="leave out what does not fit into N minutes (8; quick: 0.9)"
    )
    bench.add_argument("words", nargs="*", metavar="key=value", help="as in model.depth=20,110 execution.step=graph")

    add(
        "tensorboard",
        evidence("tensorboard"),
        "Show the curves of all runs in a browser; takes TensorBoard's options too.",
        "repro tensorboard --port 6007 --bind_all",
    )
    add("status", status_command, "Show what became of every run.", "repro status")
    cancel = add("cancel", cancel_command, "Cancel the Slurm jobs of runs.", "repro cancel --all")
    cancel.add_argument("--all", action="store_true", help="every job of the work folder")
    cancel.add_argument("runs", nargs="*", metavar="run", help="run ids, and paths.work=")
    for name, sub in commands.choices.items():
        if name not in OWN_WORDS:
            sub.add_argument("words", nargs="*", metavar="key=value", help="paths.data=, paths.work=, paths.results=")
    return top


def add_evidence(add: Callable[..., Parser]) -> None:
    """The commands of ``repro.cli.reporting``."""
    table = add("table", evidence("table"), "Print a table of the paper with measured values.", "repro table 6")
    table.add_argument("number", type=int, help="the paper's number of the table")
    table.add_argument("--format", choices=["md", "csv", "tex"], default="md", metavar="format", help="md, csv or tex")
    table.add_argument("--scale", help="show the proxies of this scale (tenth, demo, smoke), not each row's largest")
    figure = add(
        "figure", evidence("figure"), "Draw a figure as SVG and PNG, with its numbers as CSV.", FIGURE_EXAMPLES
    )
    figure.add_argument("name", help="the paper's number of the figure, or the name of one of ours")
    figure.add_argument("--scale", default="paper", help="draw the proxies of this scale instead (tenth, demo, smoke)")
    check = add("check", evidence("check"), "Say which of the paper's claims hold.", "repro check degradation_cifar")
    check.add_argument("words", nargs="*", metavar="claim", help="one claim in full; and paths.work=, paths.results=")
    forms = ["text", "md", "json"]
    check.add_argument("--format", choices=forms, default="text", metavar="format", help="text, md or json")
    check.add_argument("--strict", action="store_true", help="exit code 1 where a claim fails")
    check.add_argument("--freeze", action="store_true", help="freeze rules that changed (experiments/AMENDMENTS.md)")
    export = add("export", evidence("export"), "All runs as one tidy CSV (docs/export.md).", "repro export runs.csv")
    export.add_argument("words", nargs="*", metavar="file", help="where to write it; and paths.work=, paths.results=")
    export.add_argument("--curves", action="store_true", help="one row a run and evaluation instead of one a run")
    choices = add(
        "choices", evidence("choices"), "Say which open choice turns a comparison around.", "repro choices scale=tenth"
    )
    choices.add_argument("words", nargs="*", metavar="key=value", help="as given to `repro run exp=cifar_open_choices`")
    for sub in (table, figure, check, choices, export):
        only = sub.add_mutually_exclusive_group()
        only.add_argument("--published", action="store_true", help="read only the committed records")
        only.add_argument("--unpublished", action="store_true", help="read only your own, in the work folder")

    evaluate = add("evaluate", evidence("evaluate"), "Test trained nets again, or average several.", EVALUATE_EXAMPLES)
    evaluate.add_argument("words", nargs="*", metavar="run", help="run ids, and settings as key=value")
    evaluate.add_argument("--views", type=listed(str), default=(), metavar="V,…", help="1crop, 10crop, multiscale")
    evaluate.add_argument("--ensemble", action="store_true", help="also average the scores of all the runs")
    evaluate.add_argument("--weights", type=Path, metavar="FILE", help="weights of another net, described by model=…")
    evaluate.add_argument(
        "--mean", type=listed(float), default=(), metavar="R,G,B", help="of pixels in [0, 1]; else as recognized"
    )
    evaluate.add_argument("--std", type=listed(float), default=(), metavar="R,G,B", help="of pixels in [0, 1]")
    evaluate.add_argument("--resize", type=int, metavar="N", help="the shorter side for crops")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="keep what was measured here")

    render = add("render", evidence("render"), "Make all that is generated from records anew.", "repro render tables")
    render.add_argument("words", nargs="*", metavar="part", help="tables, figures or report; all where none is named")
    render.add_argument("--verify", action="store_true", help="change nothing; exit code 1 where something differs")
    report = add(
        "report", evidence("report"), "Write all that is published on one page, results/report.html.", "repro report"
    )
    report.add_argument("words", nargs="*", metavar="key=value", help="paths.results=")
    publish = add("publish", evidence("publish"), "Copy records and curves to results/runs.", "repro publish")
    publish.add_argument("--weights", action="store_true", help="the final nets too, for `repro evaluate` elsewhere")
    publish.add_argument("--replace", action="store_true", help="overwrite what is published with another result")
    publish.add_argument("runs", nargs="*", metavar="run", help="run ids; all finished runs where none is named")


def evidence(name: str) -> Callable[[argparse.Namespace], int]:
    """A command of ``repro.cli.reporting``, imported when it is carried out."""

    def command(options: argparse.Namespace) -> int:
        from repro.cli.reporting import COMMANDS

        return COMMANDS[name](options)

    return command


def listed(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Reads ``a,b,c`` as an argument."""

    def values(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in text.split(","))

    values.__name__ = "list of values"
    return values


def _version() -> str:
    from repro import __version__

    return __version__


def run_command(options: argparse.Namespace) -> int:
    if options.dry_run:
        return show_command(options)
    from repro.config.compose import plan, refuse_sweeps_of_execution

    if not options.words:
        raise InputError(
            "name what to run: `repro list` has all experiments, `repro run exp=cifar_residual_vs_plain scale=demo` "
            "takes minutes on a laptop, `repro run model.depth=20` is one net at the paper's budget"
        )
    refuse_sweeps_of_execution(options.words)
    planned = plan(options.words)
    if several_machines(planned.runs[0].execution):
        from repro.launch.torchrun import instructions

        say(instructions(planned.runs[0].execution, options.words))
        return 0
    quiet_caches(planned.runs[0].paths.work)
    launch = engine(planned, options.detach)
    from repro.report.summary import Summary
    from repro.results.compare import beside_published
    from repro.results.read import Record, read_record

    summary = Summary(planned.protocol)

    def record_of(config: RunConfig) -> Record | None:
        try:
            return read_record(config.work_dir / "record.json")
        except InputError as error:
            say(f"the record of {config.run_id} does not hold together: {error}")
            return None

    def finished(config: RunConfig) -> None:
        if record := record_of(config):
            say(summary.line(record))

    result = launch(planned.runs, command_line(planned.words), say, finished)
    records = [record for record in map(record_of, result.finished) if record]
    if len(planned.runs) > 1 and records:
        say("\n" + summary.table(records))
        summarize_for_tensorboard(planned.runs[0].paths.work)
    if text := beside_published(records, published_results(vars(planned.runs[0].paths)) / "runs"):
        say("\n" + text)
    if result.failed:
        say(f"\n{len(result.failed)} of {len(planned.runs)} runs failed; the same command tries them again:")
        for run_id, reason in result.failed.items():
            say(f"  {run_id}: {reason}")
    return result.exit_code


def summarize_for_tensorboard(work: Path) -> None:
    """Charts of the sweep as a whole; without them its runs are as good."""
    from repro.report.tensorboard import write_summaries

    try:
        write_summaries(work)
    except RunError as error:
        say(str(error))


def several_machines(execution: ExecutionConfig) -> bool:
    """Whether the runs span machines that only their user can reach."""
    from repro.launch.slurm.jobs import spans

    return execution.nodes > 1 and execution.engine == "local" and not spans(execution.nodes)


def engine(planned: Plan, detach: bool) -> Callable[..., Result]:
    """What carries out the plan: this machine, or Slurm.

    Raises:
        InputError: ``--detach`` has nothing to detach from.
    """
    if planned.runs[0].execution.engine == "slurm":
        from repro.launch.slurm import collect

        return functools.partial(collect.launch, line_of=planned.line_of, detach=detach)
    if detach:
        raise InputError("--detach needs execution=slurm: a run on this machine ends with its command")
    from repro.launch.plan import launch

    return functools.partial(launch, line_of=planned.line_of)


def show_command(options: argparse.Namespace) -> int:
    from repro.config.compose import plan, refuse_sweeps_of_execution

    refuse_sweeps_of_execution(options.words)
    planned = plan(options.words)
    quiet_caches(planned.runs[0].paths.work)
    from repro.cli.show import show

    say(show(planned.runs))
    return 0


def list_command(options: argparse.Namespace) -> int:
    from repro.config.compose import describe
    from repro.papers import figure_names, load_figure, load_table, table_numbers

    headings = {"exp": "experiments", "scale": "scales", "model": "nets", "data": "data sets", "execution": "engines"}
    for group, heading in headings.items():
        print_list(f"{heading} ({group}=…)", describe(group))
    print_list("tables (repro table N)", {str(n): load_table(n).title for n in table_numbers()})
    print_list("figures (repro figure NAME)", {name: load_figure(name).title for name in figure_names()})
    return 0


def print_list(heading: str, texts: dict[str, str]) -> None:
    width = max(map(len, texts))
    print(f"{heading}\n" + "".join(f"  {name:<{width}}  {text}\n" for name, text in texts.items()))


def data_command(options: argparse.Namespace) -> int:
    from repro.data.cifar.arrays import verify_cifar10
    from repro.data.cifar.fetch import fetch_cifar10

    paths = paths_from(options.words)
    if options.action == "fetch":
        fetch_cifar10(paths["data"], paths["work"] / "cache", say)
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
    from repro.cli.status import statuses
    from repro.launch.slurm.jobs import jobs

    work = paths_from(options.words)["work"]
    try:
        queued = jobs(work)
    except RunError as error:
        print(f"repro: {error}; what is known without it:", file=sys.stderr)
        queued = []
    say(show_statuses(statuses(work, queued), work))
    return 0


def cancel_command(options: argparse.Namespace) -> int:
    from repro.launch.slurm.jobs import cancel

    work = paths_from([word for word in options.runs if is_setting(word)])["work"]
    run_ids = [word for word in options.runs if not is_setting(word)]
    if options.all == bool(run_ids):
        raise InputError("name the runs to cancel, or write `repro cancel --all` for every job of the work folder")
    cancelled = cancel(work, None if options.all else run_ids)
    for job in cancelled:
        say(f"cancelled Slurm job {job.job_id} ({job.state.lower()}): {', '.join(job.run_ids)}")
    if not cancelled:
        say(f"no Slurm job holds a run of {work}")
    return 0
