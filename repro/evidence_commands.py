"""The commands that read what was measured: tables, figures, verdicts, the report, and what is published of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from repro.errors import InputError, nearest
from repro.paper import load_figure
from repro.records import Reading, read_records
from repro.resources import in_checkout, resolve_paths, shared_dir
from repro.words import (
    evidence_roots,
    paths_from,
    protocol_from,
    published_results,
    quiet_caches,
    record_folders,
    say,
)


def roots_of(options: argparse.Namespace, paths: dict[str, Path]) -> list[Path]:
    return evidence_roots(paths, published=options.published, unpublished=options.unpublished)


def reading_of(options: argparse.Namespace, paths: dict[str, Path]) -> Reading:
    return read_records(record_folders(paths, roots_of(options, paths)))


def table_command(options: argparse.Namespace) -> int:
    paths, protocol = paths_from(options.words, protocol=options.number != 1), protocol_from(options.words)
    if options.number == 1:
        from repro import architecture

        print(architecture.FORMATS[options.format](architecture.architecture()), end="")
        return 0
    from repro.ensembles import read_ensembles
    from repro.tables import FORMATS, table

    ensembles = read_ensembles(roots_of(options, paths))
    print(FORMATS[options.format](table(options.number, reading_of(options, paths), protocol, ensembles)), end="")
    return 0


def figure_command(options: argparse.Namespace) -> int:
    paths = paths_from(options.words)
    quiet_caches(paths["work"])
    scales = {path.stem for path in (shared_dir("conf") / "scale").glob("*.yaml")} | {"custom"}
    if options.scale not in scales:
        raise InputError(f"unknown scale {options.scale!r}: {nearest(options.scale, scales)}")
    load_figure(options.name)  # a name that is wrong is told before anything is written
    from repro.figures import draw

    # Committed is only what the published records give at the paper's budget; `repro render` makes all of it.
    committed = options.scale == "paper" and options.published
    folder = (paths["results"] if committed else paths["work"]) / "figures"
    for path in draw(options.name, folder, reading_of(options, paths), options.scale):
        print(path)
    return 0


def check_command(options: argparse.Namespace) -> int:
    from repro.claims.command import answer
    from repro.claims.frozen import freeze

    paths = paths_from([word for word in options.words if "=" in word])
    ids = [word for word in options.words if "=" not in word]
    if len(ids) > 1:
        raise InputError("name one claim, or none for all of them")
    if options.freeze:
        print(freeze(), end="")
        return 0
    folders = record_folders(paths, roots_of(options, paths))
    published = published_results(paths) / "runs"
    claim, strict = next(iter(ids), None), options.strict
    text, code = answer(
        read_records(folders), claim, options.format, strict=strict, published=published, folders=folders
    )
    print(text, end="")
    return code


def render_command(options: argparse.Namespace) -> int:
    paths = paths_from([word for word in options.words if "=" in word])
    quiet_caches(paths["work"])
    from repro.claims.frozen import faults
    from repro.render import PARTS, pages_of, read_evidence, render, verify

    parts = [word for word in options.words if "=" not in word] or list(PARTS)
    for part in parts:
        if part not in PARTS:
            raise InputError(f"unknown part {part!r}: {nearest(part, PARTS)}")
    if options.verify and len(parts) < len(PARTS):
        raise InputError("--verify checks everything that is generated: leave out the parts")
    results = published_results(paths)
    evidence = read_evidence(results)
    # Pages have sections made from the records of their own checkout, not of any folder.
    own = in_checkout() and paths["results"] == resolve_paths({})["results"]
    pages = pages_of(results.parent) if own else []
    if not options.verify:
        for path in render(evidence, paths["results"], parts, pages):
            print(path)
        return 0
    wrong, amended = verify(evidence, results, pages), faults()
    for sentence in [*wrong, *amended]:
        say(sentence)
    if wrong:
        say(f"{len(wrong)} differences; `repro render` makes all of it anew")
    elif not amended:
        say("all as the records give it")
    return int(bool(wrong or amended))


def report_command(options: argparse.Namespace) -> int:
    options.words, options.verify = ["report", *options.words], False
    return render_command(options)


def export_command(options: argparse.Namespace) -> int:
    from repro.export import curves, runs, to_csv, write

    words = [word for word in options.words if "=" in word]
    files = [word for word in options.words if "=" not in word]
    if len(files) > 1:
        raise InputError("name one file, or none to print")
    reading = reading_of(options, paths_from(words))
    left_out = list(reading.left_out)
    if options.curves:
        frame, without = curves(reading)
        left_out += without
    else:
        frame = runs(reading)
    for left in left_out:
        print(f"repro: left out: {left.name}: {left.reason}", file=sys.stderr)
    if files:
        write(frame, Path(files[0]))
    else:
        print(to_csv(frame), end="")
    return 0


def evaluate_command(options: argparse.Namespace) -> int:
    words = tuple(options.words)
    quiet_caches(paths_from([word for word in words if word.startswith("paths.")])["work"])
    from repro.retest import Request, evaluate

    request = Request(
        words=words,
        views=options.views,
        ensemble=options.ensemble,
        weights=options.weights,
        mean=options.mean,
        std=options.std,
        resize=options.resize,
        json=options.json,
    )
    return evaluate(request, say)


def publish_command(options: argparse.Namespace) -> int:
    from repro.ensembles import publish_ensembles
    from repro.publish import publish

    paths = paths_from([word for word in options.runs if "=" in word])
    run_ids = [word for word in options.runs if "=" not in word]
    published = publish(run_ids, paths["work"], paths["results"])
    for folder in published:
        print(folder)
    if options.weights:
        from repro.retest.trained import publish_weights

        for folder in published:
            print(publish_weights(folder.name, paths["work"], paths["results"]))
    for folder in publish_ensembles(paths["work"], paths["results"]):
        print(folder)
    return 0


def tensorboard_command(options: argparse.Namespace) -> int:
    from repro.board import serve

    serve(paths_from(options.words)["work"], say)
    return 0
