"""The commands that read and publish results."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.cli.lists import print_figures, print_tables, where_runs_are
from repro.config.arguments import (
    apart,
    evidence_roots,
    folders_and_names,
    paths_from,
    protocol_from,
    published_results,
    quiet_caches,
    record_folders,
    refuse_unknown_scale,
)
from repro.config.parse import require
from repro.config.paths import in_checkout, resolve_paths
from repro.errors import InputError, nearest
from repro.papers import ALL_NETS, FIRST, later_papers, load_figure
from repro.results.read import LeftOut, Reading, read_records
from repro.runtime.files import write_asked_for

if TYPE_CHECKING:
    from repro.report.tables import Frame


def roots_of(options: argparse.Namespace, paths: dict[str, Path]) -> list[Path]:
    return evidence_roots(paths, published=options.published, unpublished=options.unpublished)


def reading_of(options: argparse.Namespace, paths: dict[str, Path]) -> Reading:
    return read_records(record_folders(paths, roots_of(options, paths)))


def tell_left_out(left_out: Sequence[LeftOut]) -> None:
    for left in left_out:
        print(f"repro: left out: {left.name}: {left.reason}", file=sys.stderr)


def table_command(options: argparse.Namespace) -> int:
    if options.number is None:
        print_tables()
        return 0
    paths, protocol = paths_from(options.words, protocol=options.number != 1), protocol_from(options.words)
    from repro.report.tables import table

    if options.number == ALL_NETS:
        from repro.report.tables.overview import overview

        require(options.scale is None, f"--scale {options.scale} is for one paper's table: leave it out")
        print_table(overview(reading_of(options, paths), protocol), options.format)
        return 0
    if options.number == 1:
        from repro.report.tables.table1 import architecture

        print_table(architecture(), options.format)
        return 0
    from repro.results.ensembles import read_ensembles

    if options.scale is not None:
        refuse_unknown_scale(options.scale)
    ensembles = read_ensembles(roots_of(options, paths))
    filled = table(options.number, reading_of(options, paths), protocol, ensembles, options.scale)
    print_table(filled, options.format)
    return 0


def print_table(frame: Frame, form: str) -> None:
    from repro.report.tables import FORMATS, to_text

    text = to_text(frame, shutil.get_terminal_size().columns) if form == "text" else FORMATS[form](frame)
    print(text, end="")


def figure_command(options: argparse.Namespace) -> int:
    if options.name is None:
        print_figures()
        return 0
    paths = paths_from(options.words)
    quiet_caches(paths["work"])
    refuse_unknown_scale(options.scale.partition(",")[0])  # may be a column's label, "smoke, optim.nesterov=true"
    load_figure(options.name)  # refuses a wrong name before anything is written
    from repro.report.figures import draw, plot

    # Only figures of published records at the paper's budget are committed; `repro render` makes all of them.
    committed = options.scale == "paper" and options.published
    folder = (paths["results"] if committed else paths["work"]) / "figures"
    reading = reading_of(options, paths)
    drawn = plot(options.name, reading, options.scale)
    for path in draw(drawn, folder):
        print(path)
    if not drawn.series:
        print(f"repro: {where_runs_are(drawn, reading)}", file=sys.stderr)
    return 0


def check_command(options: argparse.Namespace) -> int:
    from repro.papers.claims import load_claims, papers_with_claims
    from repro.report.claims.explain import explain
    from repro.report.claims.format import together
    from repro.report.claims.freeze import freeze
    from repro.report.claims.terminal import to_text
    from repro.report.claims.verdicts import check_papers

    paths, ids = folders_and_names(options.words, "name one claim, or none for all of them")
    papers = papers_with_claims() if options.paper == "all" else [options.paper or FIRST]
    if options.freeze:
        print("".join(map(freeze, papers)), end="")
        return 0
    folders = record_folders(paths, roots_of(options, paths))
    claim, form = next(iter(ids), None), options.format
    require(claim is None or form == "text", f"--format {form} is for all claims together; leave out {claim!r}")
    require(claim is None or len(papers) == 1, f"--paper all is for all claims together; leave out {claim!r}")
    if claim is not None:
        load_claims(papers[0]).claim(claim)  # refuses an unknown one before all are judged, which takes seconds
    found = check_papers(papers, read_records(folders), published_results(paths) / "runs", folders)
    if claim is not None:
        print(explain(found[0], claim), end="")
    elif form == "text":
        width = shutil.get_terminal_size().columns
        texts = [to_text(one, width, verbose=options.verbose) for one in found]
        headings = [f"{one.claims.short}\n" if one.claims.short else "" for one in found]
        print("\n".join(map("".join, zip(headings, texts, strict=True))), end="")
    else:
        print(together(found, form), end="")
    # The exit code is about all claims, even if only one is printed.
    return max(one.exit_code(options.strict) for one in found)


def choices_command(options: argparse.Namespace) -> int:
    from repro.config.compose import plan
    from repro.report.choices import EXPERIMENT, choices, to_text

    runs = plan([f"exp={EXPERIMENT}", *options.words]).runs
    reading = reading_of(options, vars(runs[0].paths))
    tell_left_out(reading.left_out)
    command = shlex.join(["repro", "run", f"exp={EXPERIMENT}", *options.words])
    print(to_text(choices(runs, reading.records), command))
    return 0


def render_command(options: argparse.Namespace) -> int:
    paths, parts = folders_and_names(options.words)
    quiet_caches(paths["work"])
    from repro.papers.claims import papers_with_claims
    from repro.report.claims.freeze import faults
    from repro.report.render import PARTS, pages_of, read_evidence, render, verify

    for part in parts:
        require(part in PARTS, f"unknown part {part!r}: {nearest(part, PARTS)}")
    parts = parts or list(PARTS)
    verified = not options.verify or len(parts) >= len(PARTS)
    require(verified, f"--verify checks all generated files: leave out {' '.join(parts)}")
    papers = None if options.paper in (None, "all") else [options.paper]
    known = [FIRST, *later_papers()]
    for paper in papers or []:
        require(paper in known, f"unknown paper {paper!r}: {nearest(paper, known)}")
    require(not (papers and options.verify), "--verify checks all generated files: leave out --paper")
    results = published_results(paths)
    evidence = read_evidence(results)
    # The sections of pages come from the records of their own checkout, not from any folder.
    own = in_checkout() and paths["results"] == resolve_paths({})["results"]
    pages = pages_of(results.parent) if own else []
    if not options.verify:
        for path in render(evidence, paths["results"], parts, pages, papers):
            print(path)
        return 0
    wrong = verify(evidence, results, pages)
    amended = [fault for paper in papers_with_claims() for fault in faults(paper)]
    for sentence in [*wrong, *amended]:
        print(sentence)
    if wrong:
        print(f"{len(wrong)} differences; `repro render` updates the files")
    elif not amended:
        print("all generated files agree with the records")
    return int(bool(wrong or amended))


def report_command(options: argparse.Namespace) -> int:
    paths = paths_from(options.words)
    if options.own:
        quiet_caches(paths["work"])
        from repro.report.own_page import write_own_page
        from repro.report.render import Evidence
        from repro.results.ensembles import read_ensembles

        roots = evidence_roots(paths, published=False, unpublished=False)
        evidence = Evidence(read_records(record_folders(paths, roots)), read_ensembles(roots))
        path = write_own_page(evidence, paths["work"])
        print(path.as_uri())
    else:
        from repro.report.render import REPORT

        path = paths["results"] / REPORT
        options.words, options.verify, options.paper = ["report", *options.words], False, None
        render_command(options)
    if options.open:
        webbrowser.open(path.as_uri())
    return 0


def export_command(options: argparse.Namespace) -> int:
    from repro.results.export import curves, runs, to_csv

    paths, files = folders_and_names(options.words, "name one file, or none to print")
    reading = reading_of(options, paths)
    frame, without = curves(reading) if options.curves else (runs(reading), [])
    tell_left_out([*reading.left_out, *without])
    if others := len(reading.detectors) + len(reading.localizers):
        counted = "1 run" if others == 1 else f"{others} runs"
        print(f"repro: left out: {counted} of detectors and localizers, which have other columns", file=sys.stderr)
    if files:
        write_asked_for(Path(files[0]), to_csv(frame))
    else:
        print(to_csv(frame), end="")
    return 0


def evaluate_command(options: argparse.Namespace) -> int:
    quiet_caches(resolve_paths(apart(options.words)[0])["work"])
    from repro.evaluation.command import evaluate
    from repro.evaluation.foreign import Pixels

    return evaluate(
        options.words,
        views=options.views,
        ensemble=options.ensemble,
        weights=options.weights,
        pixels=Pixels(tuple(options.mean), tuple(options.std), options.resize),
        json=options.json,
    )


def lesion_command(options: argparse.Namespace) -> int:
    quiet_caches(resolve_paths(apart(options.words)[0])["work"])
    from repro.evaluation.lesion_command import lesion

    return lesion(options.words, images=options.images, draws=options.draws, json=options.json)


def visualize_command(options: argparse.Namespace) -> int:
    quiet_caches(resolve_paths(apart(options.words)[0])["work"])
    from repro.cli.visualize import visualize

    return visualize(
        options.words,
        stage=options.stage,
        channels=options.channels,
        top=options.top,
        images=options.images,
        json=options.json,
    )


def predict_command(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    from repro.evaluation.classifier import load_classifier

    folders, names = apart(options.words)
    if len(names) < 2:
        raise InputError(f"name a run and one or more image files, not only {' '.join(names) or 'options'}")
    require(options.top > 0, f"--top {options.top} must be above 0")
    run, *pictures = names
    paths = resolve_paths(folders)
    net = load_classifier(run, paths, published_results(paths))
    found = net.classify(*pictures, top=options.top)
    rows = [
        [picture, *(f"{name} {score:.1%}".replace("%", " %") for name, score in row)]
        for picture, row in zip(pictures, found, strict=True)
    ]
    print(f"{net.record.run_id}, {net.record.science.data.image_size} pixels a side")
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    return 0


def detect_command(options: argparse.Namespace) -> int:
    paths, names = folders_and_names(options.words)
    quiet_caches(paths["work"])
    from repro.cli.detect import detect

    return detect(
        names, paths, published_results(paths), out=options.out, threshold=options.threshold, device=options.device
    )


def convert_command(options: argparse.Namespace) -> int:
    quiet_caches(resolve_paths(apart(options.words)[0])["work"])
    from repro.evaluation.convert import convert

    return convert(options.words, to=options.to, out=options.out, images=options.images)


def publish_command(options: argparse.Namespace) -> int:
    from repro.results.beside import Beside
    from repro.results.channels import CHANNELS
    from repro.results.ensembles import plan_ensembles, publish_ensembles
    from repro.results.lesions import LESIONS
    from repro.results.publish import plan_publication, publish

    paths, run_ids = folders_and_names(options.runs)
    work, results = paths["work"], paths["results"]
    # Check everything before writing anything: a refused command changes nothing.
    planned = plan_publication(run_ids, work, results, replace=options.replace)
    ensembles = plan_ensembles(work, results, planned.run_ids, replace=options.replace)
    kinds: tuple[Beside[Any], ...] = (LESIONS, CHANNELS)
    beside = [kind.plan(work, results, planned.run_ids, replace=options.replace) for kind in kinds]
    weights: list[str] = []
    if options.weights:
        from repro.evaluation.stored_net import plan_weights, publish_weights

        weights = plan_weights(planned.run_ids, work, results, replace=options.replace)
    for record in planned.equal:
        print(f"{record.run_id} equals the published one, to the bit")
    for folder in publish(planned, results):
        print(folder)
    for run_id in weights:
        print(publish_weights(run_id, paths))
    for kind, measured in zip(kinds, beside, strict=True):
        for path in kind.publish(measured, work, results):
            print(path)
    for path in publish_ensembles(ensembles, work, results):
        print(path)
    return 0


def tensorboard_command(options: argparse.Namespace) -> int:
    """Start TensorBoard; from the first option on, words that are not folders are its own."""
    from repro.report.tensorboard import serve

    first = next((i for i, word in enumerate(options.words) if word.startswith("-")), len(options.words))
    paths = paths_from([*options.words[:first], *(w for w in options.words[first:] if w.startswith("paths."))])
    others = [word for word in options.words[first:] if not word.startswith("paths.")]
    logdir = any(word.startswith("--logdir") for word in others)
    require(not logdir, "--logdir is always the work folder: set it with paths.work=")
    serve(paths["work"], others)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "table": table_command,
    "figure": figure_command,
    "check": check_command,
    "choices": choices_command,
    "render": render_command,
    "report": report_command,
    "export": export_command,
    "evaluate": evaluate_command,
    "lesion": lesion_command,
    "visualize": visualize_command,
    "predict": predict_command,
    "detect": detect_command,
    "convert": convert_command,
    "publish": publish_command,
    "tensorboard": tensorboard_command,
}
