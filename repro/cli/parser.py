"""The commands and options of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from repro.cli.help_texts import (
    BENCH,
    BENCH_EXAMPLES,
    COMPARE_EXAMPLES,
    CONVERT_EXAMPLES,
    DESCRIPTION,
    DETECT_EXAMPLES,
    EVALUATE_EXAMPLES,
    EXAMPLES,
    FIGURE_EXAMPLES,
    FLOORS_EXAMPLE,
    LESION_EXAMPLES,
    PREDICT_EXAMPLES,
    SHOW_EXAMPLES,
    STATUS_EXAMPLES,
    VISUALIZE_EXAMPLES,
)
from repro.errors import InputError, nearest


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error as one sentence, with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; `{self.prog} --help` shows the options")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or action.dest
            raise InputError(f"unknown {name} {str(value)!r}: {nearest(str(value), map(str, action.choices))}")


def table_key(text: str) -> int | str:
    """Convert a table's number; keep a later paper's folder and number as text."""
    return int(text) if text.isdecimal() else text


def parser() -> Parser:
    form = argparse.RawDescriptionHelpFormatter
    top = Parser(prog="repro", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=form)
    top.add_argument("--version", action="version", version=f"repro {_version()}")
    commands = top.add_subparsers(metavar="command", dest="command", required=True)

    def add(name: str, text: str, example: str) -> Parser:
        epilog = f"example:\n  {example}"
        sub: Parser = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=form)
        return sub

    run = add("run", "Train missing runs, then show the results.", "repro run exp=cifar_degradation")
    run.add_argument("--dry-run", action="store_true", help="only show what would be run, as `repro show`")
    run.add_argument("--detach", action="store_true", help="with execution=slurm: submit and return")
    show = add("show", "Show planned runs and their cost, or one run, without training.", SHOW_EXAMPLES)
    for sub in (run, show):
        sub.add_argument("words", nargs="*", metavar="key=value", help="settings, as in exp=cifar_depth_sweep seed=0")
    compare = add("compare", "Compare a run with published seeds, or with another run.", COMPARE_EXAMPLES)
    compare.add_argument("runs", nargs="*", metavar="run", help="one or two runs; and paths.work=, paths.results=")
    add("list", "List experiments, nets, data sets and other settings, tables and figures.", "repro list")

    data = add("data", "Fetch a data set, or verify the stored one.", "repro data fetch cifar10")
    data.add_argument("action", choices=["fetch", "verify"], metavar="action", help="fetch or verify")
    names = ["cifar10", "cifar100", "svhn"]
    data.add_argument("name", choices=names, metavar="data-set", help="cifar10, cifar100 or svhn")
    add_folders(data)

    floors = add("floors", "Print localization errors without a net: whole images, one fixed box.", FLOORS_EXAMPLE)
    floors.add_argument("words", nargs="*", metavar="key=value", help="data=tiny_imagenet_boxes paths.data=…")

    add_reading(add)
    add_publishing(add)
    add_pictures(add)

    bench = add("bench", BENCH, BENCH_EXAMPLES)
    extent = bench.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one net and its comparison, in under a minute")
    extent.add_argument("--all", action="store_true", help="every net, precision and mode of the project's targets")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write every round to this file")
    bench.add_argument(
        "--minutes", type=float, metavar="N", help="skip parts that do not fit into N minutes (8; quick: 0.9)"
    )
    bench.add_argument("words", nargs="*", metavar="key=value", help="as in model.depth=20,110 execution.step=graph")

    board = "Show the curves of all runs in a browser. TensorBoard's own options work too."
    add_folders(add("tensorboard", board, "repro tensorboard --port 6007 --bind_all"))
    status = add("status", "Show the state of every run.", STATUS_EXAMPLES)
    status.add_argument("words", nargs="*", metavar="key=value", help="runs to show; and paths.work=, paths.results=")
    status.add_argument("--json", action="store_true", help="print all fields as JSON")
    add_folders(add("doctor", "Describe this installation, for bug reports.", "repro doctor"))
    completion = add("completion", "Print the script for shell completion.", 'eval "$(repro completion)"')
    completion.add_argument("--line", help=argparse.SUPPRESS)
    cancel = add("cancel", "Cancel the Slurm jobs of runs.", "repro cancel --all")
    cancel.add_argument("--all", action="store_true", help="every job of the work folder")
    cancel.add_argument("runs", nargs="*", metavar="run", help="run ids, and paths.work=")
    return top


def options_of(top: Parser) -> dict[str, list[str]]:
    """Return the options of every command."""
    (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: [option for action in sub._actions for option in action.option_strings]
        for name, sub in commands.choices.items()
    }


def add_folders(sub: Parser) -> None:
    """Add the folders as the only words of a command."""
    sub.add_argument("words", nargs="*", metavar="key=value", help="paths.data=, paths.work=, paths.results=")


def add_reading(add: Callable[[str, str, str], Parser]) -> None:
    """Add the commands of ``repro.cli.reporting`` that read results."""
    table = add("table", "Print a table of the paper with measured values.", "repro table 6")
    table.add_argument(
        "number",
        type=table_key,
        nargs="?",
        metavar="table",
        help="as in 6 or wide_resnet/4, or cifar10 for the nets of all papers; without it, list all",
    )
    table.add_argument(
        "--format", choices=["text", "md", "csv", "tex"], default="text", metavar="format", help="text, md, csv or tex"
    )
    table.add_argument("--scale", help="show proxies of this scale (tenth, demo, smoke), not each row's largest")
    add_folders(table)
    figure = add("figure", "Draw a figure as SVG and PNG, with its numbers as CSV.", FIGURE_EXAMPLES)
    figure.add_argument("name", nargs="?", help="as in 6 or gradient_flow; without it, list all")
    figure.add_argument("--scale", default="paper", help="draw proxies of this scale (tenth, demo, smoke)")
    add_folders(figure)
    check = add("check", "Check which of the paper's claims hold.", "repro check degradation_cifar")
    check.add_argument("words", nargs="*", metavar="claim", help="a claim to explain; and paths.work=, paths.results=")
    forms = ["text", "md", "json"]
    check.add_argument("--format", choices=forms, default="text", metavar="format", help="text, md or json")
    check.add_argument("-v", "--verbose", action="store_true", help="also print the numbers and runs of every claim")
    check.add_argument("--strict", action="store_true", help="exit code 1 if a claim fails")
    check.add_argument("--freeze", action="store_true", help="freeze changed rules (experiments/resnet/AMENDMENTS.md)")
    check.add_argument("--paper", metavar="NAME", help="claims of a later paper (wide_resnet), or all")
    export = add("export", "Export all runs as one tidy CSV (docs/export.md).", "repro export runs.csv")
    export.add_argument("words", nargs="*", metavar="file", help="file to write; and paths.work=, paths.results=")
    export.add_argument("--curves", action="store_true", help="one row per evaluation instead of one per run")
    choices = add("choices", "Show which open choices reverse a comparison.", "repro choices scale=tenth")
    choices.add_argument("words", nargs="*", metavar="key=value", help="as given to `repro run exp=cifar_open_choices`")
    for sub in (table, figure, check, choices, export):
        only = sub.add_mutually_exclusive_group()
        only.add_argument("--published", action="store_true", help="read only the committed records")
        only.add_argument("--unpublished", action="store_true", help="read only your own, in the work folder")


def add_publishing(add: Callable[[str, str, str], Parser]) -> None:
    """Add the commands of ``repro.cli.reporting`` that test nets and write what is published."""
    evaluate = add("evaluate", "Test trained nets again, or average several.", EVALUATE_EXAMPLES)
    evaluate.add_argument("words", nargs="*", metavar="run", help="run ids, and settings as key=value")
    evaluate.add_argument(
        "--views", type=listed(str), default=(), metavar="V,…", help="1crop, 10crop, multiscale, large_crop"
    )
    evaluate.add_argument("--ensemble", action="store_true", help="also test the average of the runs' scores")
    evaluate.add_argument("--weights", type=Path, metavar="FILE", help="weights of another net, described by model=…")
    evaluate.add_argument(
        "--mean", type=listed(float), default=(), metavar="R,G,B", help="mean of pixels in [0, 1], if not recognized"
    )
    evaluate.add_argument("--std", type=listed(float), default=(), metavar="R,G,B", help="their standard deviation")
    evaluate.add_argument("--resize", type=int, metavar="N", help="length of the shorter side before cropping")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")

    lesion = add("lesion", "Delete and reorder blocks of trained nets, and test them.", LESION_EXAMPLES)
    lesion.add_argument("words", nargs="*", metavar="run", help="run ids, and settings as key=value")
    lesion.add_argument("--images", type=int, default=1000, metavar="N", help="first N test images (1000; 0: all)")
    draws = "random choices for each number of blocks (5)"
    lesion.add_argument("--draws", type=int, default=5, metavar="N", help=draws)
    lesion.add_argument("--json", type=Path, metavar="FILE", help="also write all errors to this file")

    visualize = add("visualize", "Draw the images that activate channels, block by block.", VISUALIZE_EXAMPLES)
    visualize.add_argument("words", nargs="*", metavar="run", help="run ids, and settings as key=value")
    visualize.add_argument("--stage", type=int, default=1, metavar="N", help="stage whose channels are drawn (1)")
    shown = "channels of the stage that are drawn, from 0 (0,1,2,3)"
    visualize.add_argument("--channels", type=listed(int), default=(0, 1, 2, 3), metavar="N,…", help=shown)
    visualize.add_argument("--top", type=int, default=6, metavar="N", help="number of images of each block (6)")
    visualize.add_argument("--images", type=int, default=1000, metavar="N", help="first N test images (1000; 0: all)")
    visualize.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to this file")

    convert = add(
        "convert", "Rewrite a trained residual net as a plain net, or a plain net as residual.", CONVERT_EXAMPLES
    )
    convert.add_argument("words", nargs="*", metavar="run", help="a run, or a file of this command; and paths.work=")
    forms = ["plain", "residual"]
    convert.add_argument("--to", choices=forms, required=True, metavar="form", help="plain or residual")
    convert.add_argument("--out", type=Path, metavar="FILE", help="the file to write (default: in the work folder)")
    convert.add_argument("--images", type=int, metavar="N", help="compare on N test images, in both precisions")

    render = add("render", "Generate tables, figures and pages from the records.", "repro render tables")
    render.add_argument("words", nargs="*", metavar="part", help="tables, figures or report (default: all)")
    render.add_argument("--paper", metavar="NAME", help="tables and figures of one paper (wide_resnet), or all")
    render.add_argument("--verify", action="store_true", help="change nothing; exit code 1 if something differs")
    report = add("report", "Write all published results to one page, results/report.html.", "repro report")
    report.add_argument("words", nargs="*", metavar="key=value", help="paths.results=, paths.work=")
    report.add_argument("--own", action="store_true", help="add your own runs; write to the work folder")
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    publish = add("publish", "Copy records and curves to results/runs.", "repro publish")
    publish.add_argument("--weights", action="store_true", help="also copy the final nets, for `repro evaluate`")
    publish.add_argument("--replace", action="store_true", help="overwrite published runs that have another result")
    publish.add_argument("runs", nargs="*", metavar="run", help="run ids (default: all finished runs)")


def add_pictures(add: Callable[[str, str, str], Parser]) -> None:
    """Add the commands of ``repro.cli.reporting`` that show what a net sees in a user's own pictures."""
    predict = add("predict", "Show the likeliest classes of your own pictures.", PREDICT_EXAMPLES)
    predict.add_argument("words", nargs="*", metavar="run image", help="a run, then image files; and paths.work=")
    predict.add_argument("--top", type=int, default=3, metavar="N", help="number of classes per picture (3)")

    detect = add("detect", "Draw the boxes that a detector finds on your own pictures.", DETECT_EXAMPLES)
    detect.add_argument("words", nargs="*", metavar="run image", help="a detector's run, then image files; paths.work=")
    detect.add_argument("--out", type=Path, metavar="DIR", help="folder of the drawn pictures (in the work folder)")
    least = "least score of a box that is drawn (0.5)"
    detect.add_argument("--threshold", type=float, default=0.5, metavar="S", help=least)
    devices = ["auto", "cpu", "cuda", "mps"]
    detect.add_argument("--device", choices=devices, default="auto", metavar="device", help="auto, cpu, cuda or mps")


def listed(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a function that parses ``a,b,c``."""

    def values(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in text.split(","))

    values.__name__ = "list of values"
    return values


def _version() -> str:
    from repro import __version__

    return __version__
